"""How long a run may take, whatever it does."""

from collections.abc import Callable

from services.trainer.core.failure import RunFailed, no_resource

TIME_LIMIT = "time_limit"


class Deadline:
    """`limit_s` of `monotonic()` seconds, counted from when this is made."""

    def __init__(self, monotonic: Callable[[], float], limit_s: float) -> None:
        self._monotonic = monotonic
        self._limit_s = limit_s
        self._ends_at = monotonic() + limit_s

    def check(self, where: str) -> None:
        """Raises RunFailed when the time is over; `where` says how far the run is."""
        if self._monotonic() > self._ends_at:
            raise out_of_time(self._limit_s, where)


def out_of_time(limit_s: float, where: str) -> RunFailed:
    return no_resource(f"not done after {limit_s:g} s, {where}",
                       "use fewer rows, epochs, trials or folds, or raise LEPTON_TRAINER_RUN_LIMIT_S", TIME_LIMIT)
