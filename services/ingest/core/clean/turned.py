"""A row that a policy turns away, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turned:
    """A row a policy turns away."""

    index: int
    code: str
    message: str
    field: str | None
