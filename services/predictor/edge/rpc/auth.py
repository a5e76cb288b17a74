"""Which calls need an API key, of which scope, and how a call without the right one ends."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import grpc

from lepton.contracts.apikeys import Scope
from lepton.errors import LeptonError, Refused
from services.predictor.edge import errors
from services.predictor.edge.measures import UNKNOWN_MODEL, Measures
from services.predictor.flow.access import Access

AUTHORIZATION = "authorization"

OPEN_CALLS = frozenset({"/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"})
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/",
                 "/grpc.reflection.v1.ServerReflection/")
"""Probes and tools ask these before they have a key; they tell nothing about models or data."""

ADMIN_CALLS = frozenset(f"/inference.GRPCInferenceService/{name}" for name in (
    "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings",
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"))
"""What changes the server, or tells of its machine."""

WRITE_CALLS = frozenset({"/lepton.v1.Prediction/Feedback"})
"""What models will learn from."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Details = grpc.HandlerCallDetails


class Gatekeeper(grpc.aio.ServerInterceptor):
    """Lets a call through when its key has scope `predict`, or `admin` where that is needed. Runs for each call.

    That costs one look-up.
    """

    def __init__(self, access: Access, measures: Measures) -> None:
        self._access = access
        self._measures = measures

    async def intercept_service(self, continuation: Callable[[Details], Awaitable[Handler]],
                                handler_call_details: Details) -> Handler:
        method = handler_call_details.method
        if method in OPEN_CALLS or method.startswith(OPEN_SERVICES):
            return await continuation(handler_call_details)
        try:
            await self.admit(authorization(handler_call_details.invocation_metadata), _scope(method))
        except LeptonError as error:
            self._measures.request(UNKNOWN_MODEL, "", "unauthorized", 0.0)
            return _ending(_status(error), errors.details(error))
        return await continuation(handler_call_details)

    async def admit(self, header: str | None, scope: Scope = Scope.PREDICT) -> None:
        """Raises Refused when the key does not hold or lacks the scope, Unavailable when it cannot be looked up."""
        record = self._access.recall(header) if header else None
        if record is None:
            record = await self._access.identify(header)
        if not record.allows(scope):
            raise Refused(f"this key has no scope `{scope}`", field="scope", remedy=f"use a key with scope `{scope}`")


def _scope(method: str) -> Scope:
    return Scope.ADMIN if method in ADMIN_CALLS else Scope.WRITE if method in WRITE_CALLS else Scope.PREDICT


def authorization(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The `authorization` entry of a call's metadata."""
    for key, value in metadata or ():
        if key == AUTHORIZATION:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None


def _status(error: LeptonError) -> grpc.StatusCode:
    if isinstance(error, Refused) and error.field != "scope":
        return grpc.StatusCode.UNAUTHENTICATED
    return errors.status(error)


def _ending(code: grpc.StatusCode, details: str) -> Handler:
    async def end(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, details, (errors.ANSWERED,))

    # Streaming on both sides ends a call of any form without waiting for its first message.
    return grpc.stream_stream_rpc_method_handler(end)
