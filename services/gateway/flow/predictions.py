"""How a prediction request finds a predictor, and what happens when that one does not answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.apikeys import parse_bearer
from lepton.contracts.pb import grpc_service_pb2 as inference
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.prediction_pb2 import FeedbackRequest, FeedbackResponse, PredictRequest, PredictResponse
from lepton.contracts.pb.telemetry_pb2 import Instance
from lepton.errors import LeptonError, Missing, Unavailable
from lepton.runtime.loops import pause
from services.gateway.core.clients import Clients
from services.gateway.core.routing import Replica, Routing
from services.gateway.core.statistics import catalogue, merged

PREDICTOR = "predictor"
# With less than this left, a second try could not answer in time.
SHORTEST_TRY_S = 0.01

TELL_EVERY_S = 1.0

Answer = TypeVar("Answer")


class TooLate(Unavailable):
    """No answer within the time the request had."""


class Failed(Unavailable):
    """The predictor was reached, and answered that it cannot; another may."""


class _NotReady(Missing):
    """What one predictor says of a version that another may have."""


@dataclass(frozen=True, slots=True)
class Call:
    """What travels with a request to a predictor: the caller's own key, and the seconds that are left."""

    authorization: str
    timeout_s: float


class Measure(Protocol):
    """Takes a figure for the next heartbeat."""

    def __call__(self, name: str, value: float, **attributes: str) -> None: ...


class Count(Protocol):
    """Adds to a count of the next heartbeat."""

    def __call__(self, name: str, amount: float, **attributes: str) -> None: ...


class PredictorPool(Protocol):
    """Connections to predictors, by address. Each method raises the outcomes of lepton.errors.

    Unavailable: this one could not be reached, another may be. Failed: it says that it cannot answer. TooLate: no
    answer within `call.timeout_s`.
    """

    async def predict(self, address: str, request: PredictRequest, call: Call) -> PredictResponse: ...

    async def feedback(self, address: str, request: FeedbackRequest, call: Call) -> FeedbackResponse: ...

    async def infer(self, address: str, request: inference.ModelInferRequest,
                    call: Call) -> inference.ModelInferResponse: ...

    async def model_metadata(self, address: str, request: inference.ModelMetadataRequest,
                             call: Call) -> inference.ModelMetadataResponse: ...

    async def model_ready(self, address: str, request: inference.ModelReadyRequest, call: Call) -> bool: ...

    async def server_metadata(self, address: str, call: Call) -> inference.ServerMetadataResponse: ...

    async def model_config(self, address: str, request: inference.ModelConfigRequest,
                           call: Call) -> inference.ModelConfigResponse: ...

    async def model_statistics(self, address: str, request: inference.ModelStatisticsRequest,
                               call: Call) -> inference.ModelStatisticsResponse: ...

    async def index(self, address: str, request: inference.RepositoryIndexRequest,
                    call: Call) -> inference.RepositoryIndexResponse: ...

    async def load(self, address: str, request: inference.RepositoryModelLoadRequest, call: Call) -> None: ...

    async def unload(self, address: str, request: inference.RepositoryModelUnloadRequest, call: Call) -> None: ...

    async def operate(self, address: str, request: Message, call: Call) -> Any:
        """The call that takes this request, one of the protocol's for operators."""


class Predictions:
    """A prediction changes nothing, so a request that met a dead or failing predictor is tried once more, on another.

    Versions come and go on each predictor in its own time: one that a request names is missing only where every
    predictor that can be asked says so.
    """

    def __init__(self, routing: Routing, pool: PredictorPool, registry: Mapping[str, ModelState], clients: Clients,
                 clock: Clock, timeout_s: float) -> None:
        self._routing = routing
        self._pool = pool
        self._registry = registry
        self._clients = clients
        self._clock = clock
        self._timeout_s = timeout_s

    async def heard(self, name: str, instance: Instance | None) -> None:
        """Follow lepton-instances; None: the process left."""
        if instance is None:
            self._routing.gone(name)
        elif instance.service == PREDICTOR:
            self._routing.heard(instance, self._clock.monotonic())

    async def tell(self, stop: asyncio.Event, measure: Measure, count: Count) -> None:
        """Until `stop`: say once a second for how long each predictor was out of reach, and which keys ask most."""
        while not stop.is_set():
            for name, seconds in self._routing.unreached(self._clock.monotonic()).items():
                measure(names.UNREACHED_SECONDS, seconds, predictor=name)
            for model, key, requests in self._clients.take_asked():
                count(names.KEY_REQUESTS, requests, model=model, key=key)
            for key, requests in self._clients.take_held():
                count(names.KEY_THROTTLED, requests, key=key)
            await pause(stop, TELL_EVERY_S, self._clock)

    async def predict(self, authorization: str, request: PredictRequest) -> PredictResponse:
        """Raises Missing (no such model), Invalid (the rows), Busy, Unavailable, TooLate."""
        self._count(request.model, authorization)
        return await self._ask(request.model, authorization, lambda at, call: self._pool.predict(at, request, call),
                               versioned=bool(request.version), judged=True)

    async def feedback(self, authorization: str, request: FeedbackRequest) -> FeedbackResponse:
        """Raises Missing (no such pipeline or entity), Invalid, Unavailable; twice has the effect of once."""
        return await self._ask(None, authorization, lambda at, call: self._pool.feedback(at, request, call))

    async def infer(self, authorization: str, request: inference.ModelInferRequest) -> inference.ModelInferResponse:
        self._count(request.model_name, authorization)
        return await self._ask(request.model_name, authorization, lambda at, call: self._pool.infer(at, request, call),
                               versioned=bool(request.model_version), judged=True)

    async def metadata(self, authorization: str, model: str, version: str = "") -> inference.ModelMetadataResponse:
        request = inference.ModelMetadataRequest(name=model, version=version)
        return await self._ask(model, authorization, lambda at, call: self._pool.model_metadata(at, request, call),
                               versioned=bool(version))

    async def model_ready(self, authorization: str, model: str, version: str = "") -> bool:
        """Raises Missing for a model nobody knows."""
        request = inference.ModelReadyRequest(name=model, version=version)

        async def send(address: str, call: Call) -> bool:
            if not await self._pool.model_ready(address, request, call):
                raise _NotReady(f"{model} is not ready here")
            return True

        try:
            return await self._ask(model, authorization, send, versioned=bool(version))
        except _NotReady:
            return False

    async def server_metadata(self, authorization: str) -> inference.ServerMetadataResponse:
        return await self._ask(None, authorization, self._pool.server_metadata)

    async def config(self, authorization: str, model: str, version: str = "") -> inference.ModelConfig:
        request = inference.ModelConfigRequest(name=model, version=version)
        return (await self._ask(model, authorization, lambda at, call: self._pool.model_config(at, request, call),
                                versioned=bool(version))).config

    async def statistics(self, authorization: str, model: str = "",
                         version: str = "") -> inference.ModelStatisticsResponse:
        """Of all predictors together; of a version, of those that have it."""
        request = inference.ModelStatisticsRequest(name=model, version=version)
        return merged(await self._ask_all(model or None, authorization,
                                          lambda at, call: self._pool.model_statistics(at, request, call),
                                          versioned=bool(version)))

    async def index(self, authorization: str, *, ready: bool) -> inference.RepositoryIndexResponse:
        """Models of all predictors together; only those that answer, if `ready`."""
        request = inference.RepositoryIndexRequest(ready=ready)
        return catalogue(await self._ask_all(None, authorization,
                                             lambda at, call: self._pool.index(at, request, call)))

    async def load(self, authorization: str, request: inference.RepositoryModelLoadRequest) -> None:
        """Have every predictor serve what the registry names. Raises Missing, Invalid, Refused, Unavailable."""
        await self._ask_all(None, authorization, lambda at, call: self._pool.load(at, request, call))

    async def unload(self, authorization: str, request: inference.RepositoryModelUnloadRequest) -> None:
        """Have every predictor let the model go until it is loaded, or the predictor started, again."""
        await self._ask_all(None, authorization, lambda at, call: self._pool.unload(at, request, call))

    async def operate(self, authorization: str, request: Message, undo: Message | None = None) -> Any:
        """Have every predictor do what an operator asks; what the last of them said.

        Where one raises, those asked before it are asked to `undo`, if that is given.
        """
        call = Call(authorization, self._timeout_s)
        done: list[Replica] = []
        said: Any = None
        for replica in self._routing.everyone(None, self._clock.monotonic()):
            try:
                said = await self._try(replica, lambda at, call: self._pool.operate(at, request, call), call)
            except LeptonError:
                for one in done:
                    await self._undo(one, undo, call)
                raise
            done.append(replica)
        return said

    async def _undo(self, replica: Replica, request: Message | None, call: Call) -> None:
        if request is not None:
            with suppress(LeptonError):
                await self._try(replica, lambda at, call: self._pool.operate(at, request, call), call)

    def ready(self) -> bool:
        """Whether any predictor can be asked now."""
        try:
            self._routing.pick(None, self._clock.monotonic())
        except Unavailable:
            return False
        return True

    async def _ask(self, model: str | None, authorization: str, send: Callable[[str, Call], Awaitable[Answer]],
                   versioned: bool = False, judged: bool = False) -> Answer:
        """The first answer; `versioned`: that the request names a version, which not every replica need have. `judged`:
        that the answer says whether the model works; who is only asked about it says nothing of that."""
        ends_at = self._clock.monotonic() + self._timeout_s
        replica: Replica | None = self._pick(model)
        tried: list[str] = []
        raised: list[LeptonError] = []
        left_s = self._timeout_s
        while replica is not None:
            tried.append(replica.instance)
            try:
                return await self._try(replica, send, Call(authorization, left_s),
                                       model if judged and not versioned else None)
            except Missing as error:
                if not versioned:
                    raise
                raised.append(error)
            except Unavailable as error:
                if any(isinstance(one, Unavailable) for one in raised):
                    raise
                raised.append(error)
            left_s = ends_at - self._clock.monotonic()
            replica = self._another(model, tried) if left_s >= SHORTEST_TRY_S else None
        # What those said that were asked tells more than that there is no other. While one of them could not answer,
        # it is not known that what is asked for is missing.
        raise next((one for one in raised if isinstance(one, Unavailable)), raised[-1])

    async def _ask_all(self, model: str | None, authorization: str, send: Callable[[str, Call], Awaitable[Answer]],
                       versioned: bool = False) -> list[Answer]:
        """Answers of every replica there is; raises what the first that failed raised.

        `versioned`: that the request names a version, which those need not have that another makes up for.
        """
        replicas = self._routing.everyone(model, self._clock.monotonic())
        call = Call(authorization, self._timeout_s)
        asked = (self._try(replica, send, call) for replica in replicas)
        if not versioned:
            return list(await asyncio.gather(*asked))
        said = await asyncio.gather(*asked, return_exceptions=True)
        answers = [one for one in said if not isinstance(one, BaseException)]
        for one in said:
            if isinstance(one, BaseException) and not (answers and isinstance(one, Missing)):
                raise one
        return answers

    def _count(self, model: str, authorization: str) -> None:
        """Callers must not be able to make up names that are counted."""
        if model in self._registry:
            self._clients.asked(model, parse_bearer(authorization)[0])

    def _pick(self, model: str | None, *tried: str) -> Replica:
        try:
            return self._routing.pick(model, self._clock.monotonic(), tried)
        except Missing:
            if model is not None and model in self._registry and self._registry[model].champion:
                raise Unavailable(f"no predictor has loaded {model} yet", field="predictor",
                                  remedy="try again in a moment") from None
            raise

    def _another(self, model: str | None, tried: Sequence[str]) -> Replica | None:
        try:
            return self._pick(model, *tried)
        except LeptonError:
            return None

    async def _try(self, replica: Replica, send: Callable[[str, Call], Awaitable[Answer]], call: Call,
                   model: str | None = None) -> Answer:
        """`model`: whose champion is asked for; what is said of another version is nothing against it."""
        self._routing.began(replica)
        began, failed, unable = self._clock.monotonic(), False, False
        try:
            return await send(replica.address, call)
        except Failed:
            unable = True
            raise
        except Unavailable:
            # Any other outcome is an answer, and a caller who went away says nothing about the predictor.
            failed = True
            raise
        finally:
            self._routing.ended(replica, failed=failed, now=self._clock.monotonic(), began=began, model=model,
                                unable=unable)
