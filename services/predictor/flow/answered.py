"""What the log of predictions is told of a request, and how much of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.predictor.core.answers import Answers

MAX_LOGGED_ROWS = 100
"""Rows of one request that are logged: a large request must not push out all others."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's answer, as it is offered to the log of predictions.

    `entity`: whom it named itself about. `digests` of the inputs of its first rows, where they are wanted.
    """

    model: str
    version: int
    request_id: str
    answers: Answers
    latency_s: float
    traceparent: str | None
    entity: str = ""
    digests: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Logging:
    """Which `share` of requests' answers is logged, and whether with digests of their inputs."""

    share: float
    digested: bool
