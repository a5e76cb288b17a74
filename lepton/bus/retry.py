"""When a failed message is tried again, and what becomes of it when trying ends."""

from dataclasses import dataclass
from typing import Literal

from lepton.errors import Busy, LeptonError, Unavailable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries again in place, so that order is kept, with pauses that double from `first_s` up to `limit_s`.

    `attempts` None: for as long as it takes, which is right where the failure is the world's and not the message's.
    """

    on: tuple[type[LeptonError], ...] = (Unavailable, Busy)
    attempts: int | None = None
    first_s: float = 0.1
    limit_s: float = 10.0
    then: Literal["dead_letter", "discard"] = "dead_letter"

    def again(self, error: BaseException, attempt: int) -> bool:
        """Whether to try once more after attempt number `attempt` (the first is 1) failed with `error`."""
        return isinstance(error, self.on) and (self.attempts is None or attempt < self.attempts)

    def pause_s(self, attempt: int, error: BaseException | None = None) -> float:
        """Seconds to wait after attempt number `attempt`; at least what a Busy asks for."""
        # The exponent is bounded so that a day of attempts cannot overflow a float.
        pause = min(self.limit_s, self.first_s * 2.0 ** min(attempt - 1, 60))
        return max(pause, error.retry_after_s) if isinstance(error, Busy) else pause
