"""Which gRPC status each outcome is, and what a caller is told with it."""

import grpc

from lepton.contracts.calls import trailers
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from services.predictor.flow.entities import Unsupported


class Taken(Refused):
    """The name is in use already."""


STATUS: dict[type[Exception], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    Missing: grpc.StatusCode.NOT_FOUND,
    Refused: grpc.StatusCode.PERMISSION_DENIED,
    Taken: grpc.StatusCode.ALREADY_EXISTS,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
}

ANSWERED = (trailers.ANSWERED, "1")
"""Trailing metadata beside every status given here: whoever called knows by it that the predictor was reached."""

BUG = "internal error; the server's log has it"
"""All that a caller learns of an exception that is no outcome."""


def status(error: Exception) -> grpc.StatusCode:
    """Of an outcome or a subclass of one; INTERNAL for anything else."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return grpc.StatusCode.INTERNAL


def details(error: Exception) -> str:
    return str(error) if isinstance(error, LeptonError | TimeoutError) else BUG


def trailing(error: Exception) -> tuple[tuple[str, str], ...]:
    return (ANSWERED, (trailers.RETRY_AFTER, f"{error.retry_after_s:.3f}")) if isinstance(error, Busy) else (ANSWERED,)
