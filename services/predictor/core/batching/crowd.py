"""Whether a request does well to wait for company: judged by how fast requests come, and by how waiting went before."""

SMOOTHING = 0.1
"""Weight of the newest gap between two requests."""

LONGEST_GAP_S = 0.02
"""A longer silence counts as this, so that a crowd after it is seen soon."""

LONELY_WAITS = 4
"""Waits in a row that brought nobody, after which waiting ends."""

FIRST_PATIENCE, MAX_PATIENCE = 64, 8192
"""Requests that run alone before waiting is tried; doubled when the try failed. One fast caller, who comes as often as
a crowd would but never has company, so loses next to nothing."""


class Crowd:
    """For one batcher. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.waiting = False
        self._gap_s = LONGEST_GAP_S
        self._last = float("-inf")
        self._alone = 0
        self._patience = FIRST_PATIENCE
        self._lonely = 0

    def arrived(self, now: float, max_delay_s: float) -> bool:
        """Note a request; whether it should wait. Never when requests come further apart than it might wait."""
        self._gap_s += SMOOTHING * (min(now - self._last, LONGEST_GAP_S) - self._gap_s)
        self._last = now
        if not self.waiting and self._gap_s < max_delay_s:
            self._alone += 1
            if self._alone >= self._patience:
                self._alone = self._lonely = 0
                self.waiting = True
        return self.waiting

    def ended(self, company: bool) -> None:
        """A batch that might have waited ended; `company`: several requests were in it, or came meanwhile."""
        if company:
            self.waiting, self._lonely, self._patience = True, 0, FIRST_PATIENCE
        elif self.waiting:
            self._lonely += 1
            if self._lonely >= LONELY_WAITS:
                self.waiting = False
                self._patience = min(2 * self._patience, MAX_PATIENCE)
