"""How a call reaches Lepton and what its answer means: deadlines, retries on Busy and Unavailable, typed errors."""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import grpc
import httpx

from lepton.clock import Clock, SystemClock
from lepton.contracts.calls import trailers
from lepton.contracts.pb import prediction_pb2_grpc
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from lepton_ai._credentials import Credentials
from lepton_ai._predicting.messages import Question, plain

Answer = TypeVar("Answer")
TIMEOUT_S: Final = 30.0
_ATTEMPT_TIMEOUT_S: Final = 15.0
_BACKOFF_S, _MAX_BACKOFF_S = 0.1, 2.0
_START_IT: Final = "start Lepton with `make up`, and see `lepton status`"

_BY_STATUS: Final[dict[int, type[LeptonError]]] = {
    400: Invalid, 413: Invalid, 415: Invalid, 422: Invalid, 401: Refused, 403: Refused, 409: Refused, 412: Refused,
    404: Missing, 410: Missing, 429: Busy, 502: Unavailable, 503: Unavailable, 504: Unavailable,
}
_BY_CODE: Final[dict[grpc.StatusCode, type[LeptonError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid, grpc.StatusCode.UNIMPLEMENTED: Invalid,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
    grpc.StatusCode.PERMISSION_DENIED: Refused, grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.NOT_FOUND: Missing, grpc.StatusCode.RESOURCE_EXHAUSTED: Busy,
    grpc.StatusCode.UNAVAILABLE: Unavailable, grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}


class Transport:
    """Calls of one caller to one region. `close` lets go of its connections."""

    def __init__(self, credentials: Credentials, clock: Clock | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.credentials = credentials
        self.clock = clock or SystemClock()
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(base_url=credentials.rest, timeout=min(timeout_s, _ATTEMPT_TIMEOUT_S),
                                       headers={"authorization": credentials.authorization})
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        await self._http.aclose()
        if self._channel is not None:
            await self._channel.close()

    async def get(self, path: str, **parameters: str | int) -> Any:
        return (await self.call("GET", path, params=parameters)).json()

    async def text(self, path: str) -> str:
        return (await self.call("GET", path)).text

    async def post(self, path: str, body: Any = None, *, repeatable: bool = True) -> Any:
        """Send JSON; `repeatable` says that sending it twice has no second effect."""
        answer = await self.call("POST", path, repeatable=repeatable, json=body)
        return answer.json() if answer.content else None

    async def call(self, method: str, path: str, *, repeatable: bool = True, **request: Any) -> httpx.Response:
        """The answer, once there is a good one. Raises the outcome it stands for, Unavailable past the deadline.

        What is not repeatable is tried again only after Busy, which says that nothing was done.
        """
        return await self._patiently(lambda: self._once(method, path, request), repeatable)

    async def download(self, path: str, take: Callable[[bytes], object], again: Callable[[], object],
                       **request: Any) -> httpx.Headers:
        """Hand the answer's body to `take` piece by piece; a body that broke off is begun anew after `again`.

        Raises as `call`; Unavailable, with all of it void, when it broke off once more and time is over.
        """
        async def once() -> httpx.Headers:
            again()
            return await self._pour(path, take, request)

        return await self._patiently(once, repeatable=True)

    async def _patiently(self, attempt: Callable[[], Awaitable[Answer]], repeatable: bool) -> Answer:
        deadline = self.clock.monotonic() + self._timeout_s
        backoff_s = _BACKOFF_S
        while True:
            try:
                return await attempt()
            except (Busy, Unavailable) as failure:
                wait_s = failure.retry_after_s if isinstance(failure, Busy) else backoff_s
                done_perhaps = isinstance(failure, Unavailable) and not repeatable
                if done_perhaps or self.clock.monotonic() + wait_s >= deadline:
                    raise
            # Spread, so that clients that failed together do not come back together.
            await self.clock.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 -- no secret is made of it
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    async def _once(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as failure:
            raise Unavailable(f"no answer from {self.credentials.rest} ({type(failure).__name__})",
                              remedy=_START_IT) from failure
        if answer.is_success:
            return answer
        raise problem(answer)

    async def _pour(self, path: str, take: Callable[[bytes], object], request: Mapping[str, Any]) -> httpx.Headers:
        try:
            async with self._http.stream("GET", path, **request) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise problem(answer)
                async for piece in answer.aiter_bytes():
                    take(piece)
                return answer.headers
        except httpx.TransportError as failure:
            raise Unavailable(f"the answer from {self.credentials.rest} broke off ({type(failure).__name__})",
                              remedy="ask again; the gateway's log says why") from failure

    async def predict(self, question: Question) -> list[dict[str, Any]]:
        """Answers of the region's predictor over gRPC, by named fields, in the order of the rows. Raises as `call`."""
        if not self.credentials.grpc:
            raise Missing("the region names no predictor", field="grpc", remedy="leave out over=\"grpc\"")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.credentials.grpc)
        channel = self._channel
        return await self._patiently(lambda: self._asked(channel, question), repeatable=True)

    async def _asked(self, channel: grpc.aio.Channel, question: Question) -> list[dict[str, Any]]:
        stub = prediction_pb2_grpc.PredictionStub(channel)
        try:
            answer = await stub.Predict(question.message(), timeout=min(self._timeout_s, _ATTEMPT_TIMEOUT_S),
                                        metadata=(("authorization", self.credentials.authorization),))
        except grpc.aio.AioRpcError as failure:
            outcome = _BY_CODE.get(failure.code(), LeptonError)
            said, place = failure.details() or failure.code().name, self.credentials.grpc
            if outcome is Busy:
                wait_s = trailers.retry_after_s(failure.trailing_metadata())
                raise Busy(said, retry_after_s=wait_s, place=place) from failure
            raise outcome(said, place=place) from failure
        return [plain(row, explain=question.explain) for row in answer.rows]


def problem(answer: httpx.Response) -> LeptonError:
    """The outcome a problem+json answer stands for, with all the problems it lists."""
    try:
        told = answer.json()
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    message = str(told.get("detail") or told.get("title") or told.get("error") or f"HTTP {answer.status_code}")
    listed = [_line(one) for one in told.get("problems", []) if isinstance(one, dict)]
    outcome = _BY_STATUS.get(answer.status_code, LeptonError)
    where: dict[str, Any] = {name: told.get(name) for name in ("field", "place", "remedy")}
    if len(listed) > 1:
        # The first is in the message already; all of them are what a person wants to see at once.
        message, where = "\n".join([f"{len(listed)} problems:", *listed]), {}
    if outcome is Busy:
        return Busy(message, retry_after_s=_seconds(answer.headers.get("retry-after")), **where)
    return outcome(message, **where)


def _line(told: Mapping[str, Any]) -> str:
    line = f"line {told['line']}, " if told.get("line") else ""
    remedy = f" ({told['remedy']})" if told.get("remedy") else ""
    return f"  {line}{told.get('path', '')}: {told.get('message', '')}{remedy}"


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text)) if text else 1.0
    except ValueError:
        return 1.0

