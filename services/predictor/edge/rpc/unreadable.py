"""What becomes of a message that is none: grpc.aio would say UNKNOWN, the specification says INTERNAL."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from services.predictor.edge import errors

SAID = "the message cannot be read as one of this method"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Details = grpc.HandlerCallDetails
Read = Callable[[bytes], Any]


class Unreadable(grpc.aio.ServerInterceptor):
    """Unary calls end with INTERNAL; a method that takes a stream of messages is given None, and ends it itself.

    Methods that take other messages than Protobuf's, or one and answer many, are left as they are.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(self, continuation: Callable[[Details], Awaitable[Handler]],
                                handler_call_details: Details) -> Handler:
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            handler = await continuation(handler_call_details)
            # Names of methods that there are not are the callers' own: they are not kept.
            if handler is not None:
                handler = self._handlers[method] = _careful(handler)
        return handler


def _careful(handler: Any) -> Handler:
    if handler.request_deserializer is None:
        return handler  # type: ignore[no-any-return]
    read, write = _reading(handler.request_deserializer), handler.response_serializer
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_answering(handler.unary_unary), read, write)
    if handler.stream_stream is not None and getattr(handler.stream_stream, "takes_none", False):
        return grpc.stream_stream_rpc_method_handler(handler.stream_stream, read, write)
    return handler  # type: ignore[no-any-return]


def takes_none(method: Any) -> Any:
    """Marks a method whose stream has None for each message that cannot be read."""
    method.takes_none = True
    return method


def _reading(parse: Read) -> Read:
    def read(message: bytes) -> Any:
        try:
            return parse(message)
        except DecodeError:
            return None
    return read


def _answering(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request is None:
            await context.abort(grpc.StatusCode.INTERNAL, SAID, (errors.ANSWERED,))
        return await method(request, context)
    return answer
