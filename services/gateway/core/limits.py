"""How often one key may ask: a token bucket each."""

from dataclasses import dataclass

from lepton.errors import Busy

# Buckets that have filled up again say nothing and are dropped when this many are kept.
MAX_BUCKETS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limits:
    """`rate_per_s` tokens flow in for each key, up to `burst`; times are monotonic seconds."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, now: float) -> None:
        """Spend one token. Raises Busy saying when the next is there; a refused request costs nothing."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._new(key, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate_per_s)
        bucket.at = now
        if bucket.tokens < 1:
            wait_s = (1 - bucket.tokens) / self._rate_per_s
            raise Busy(f"more than {self._rate_per_s:g} requests a second with this key", retry_after_s=wait_s,
                       remedy="wait, or send more rows in one request")
        bucket.tokens -= 1

    def _new(self, key: str, now: float) -> _Bucket:
        if len(self._buckets) >= MAX_BUCKETS:
            full_s = self._burst / self._rate_per_s
            self._buckets = {name: one for name, one in self._buckets.items() if now - one.at < full_s}
        bucket = self._buckets[key] = _Bucket(self._burst, now)
        return bucket
