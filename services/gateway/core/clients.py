"""How many predictions each key asked for since it was told, and which keys are held back by a throttle."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from lepton.errors import Busy
from services.gateway.core.limits import Limits

TOLD: Final = 5
"""Keys of a model that are named; the others are counted together."""
OTHERS: Final = ""


@dataclass(frozen=True, slots=True)
class _Throttle:
    until: float
    rate: Limits


class Clients:
    """By key id, never by anything of the secret. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._asked: dict[str, Counter[str]] = {}
        self._held: Counter[str] = Counter()
        self._throttles: dict[str, _Throttle] = {}

    def throttle(self, key: str, rate_per_s: float, until: float) -> None:
        """Let the key make `rate_per_s` requests until then, a second's worth of them at once."""
        self._throttles[key] = _Throttle(until, Limits(rate_per_s, max(1, round(rate_per_s))))

    def release(self, key: str) -> bool:
        """End its throttle; whether there was one."""
        return self._throttles.pop(key, None) is not None

    def enter(self, key: str, now: float) -> None:
        """Raises Busy saying when the next request of a throttled key is taken."""
        throttle = self._throttles.get(key)
        if throttle is None:
            return
        if now >= throttle.until:
            del self._throttles[key]
            return
        try:
            throttle.rate.take(key, now)
        except Busy as error:
            self._held[key] += 1
            raise Busy(f"this key is throttled: {error.message}", retry_after_s=error.retry_after_s,
                       remedy="ask more slowly, or an admin to end it: `lepton keys release`") from None

    def asked(self, model: str, key: str) -> None:
        """A prediction was asked for."""
        self._asked.setdefault(model, Counter())[key] += 1

    def take_asked(self) -> list[tuple[str, str, int]]:
        """(model, key, requests) since the last call; of each model those that asked most, and the rest as OTHERS."""
        asked, self._asked = self._asked, {}
        told = []
        for model, counts in asked.items():
            most = counts.most_common(TOLD)
            rest = counts.total() - sum(count for _, count in most)
            told += [(model, key, count) for key, count in [*most, *([(OTHERS, rest)] if rest else [])]]
        return told

    def take_held(self) -> list[tuple[str, int]]:
        """(key, requests refused by its throttle) since the last call."""
        held, self._held = self._held, Counter()
        return held.most_common()
