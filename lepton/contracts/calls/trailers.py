"""What a predictor says beside the status of a gRPC call, in its trailing metadata. The native door has them too."""

from collections.abc import Iterable
from typing import Any, Final

RETRY_AFTER: Final = "retry-after-s"
"""Beside RESOURCE_EXHAUSTED: seconds after which the same request may succeed."""
ANSWERED: Final = "lepton-answered"
"""Of calls that a predictor ended itself, never of those that the network or the caller's side ended."""


def retry_after_s(trailing: Iterable[Any] | None) -> float:
    """What the predictor said; a second where it said nothing."""
    try:
        return max(0.0, float(dict(trailing or ())[RETRY_AFTER]))
    except (KeyError, ValueError):
        return 1.0
