"""When a level is too high for too long, and when it may be called normal again."""

from dataclasses import dataclass

# Normal again below this part of the limit: a level that swings about its limit is one fault, not many.
CLEAR_PART = 0.95
CLEAR_S = 15.0


@dataclass(slots=True)
class Sustained:
    """A level that must stay at `limit` or above for `for_s` before it stands; one reading below begins anew.

    Once it stands, it ends after `clear_s` below CLEAR_PART of the limit. Readings hold until the next.
    """

    limit: float
    for_s: float
    clear_s: float = CLEAR_S
    value: float = 0.0
    seen_at: float = 0.0
    standing: bool = False
    _above_since: float | None = None
    _below_since: float | None = None

    def see(self, value: float, now: float) -> None:
        self.value, self.seen_at = value, now
        if value < self.limit:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        if value >= self.limit * CLEAR_PART:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now
        self.look(now)

    @property
    def above_since(self) -> float | None:
        """When it came to the limit, as long as it stays there."""
        return self._above_since

    def look(self, now: float) -> bool:
        """Whether it stands at `now`."""
        if self._above_since is not None and now - self._above_since >= self.for_s:
            self.standing = True
        elif self._below_since is not None and now - self._below_since >= self.clear_s:
            self.standing = False
        return self.standing
