"""How busy a model is: read from the predictors' own counters, where this machine can reach their metrics page."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from lepton.clock import Clock
from lepton.contracts import names

_TIMEOUT_S: Final = 1.0
# Closer together than this, the counters have not been brought up to date in between.
_SHORTEST_S: Final = 0.5
_LINE: Final = re.compile(rf"({names.PREDICTION_REQUESTS}|{names.SCORED_ROWS})_total\{{([^}}]*)\}} (\S+)")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Since the predictors started; the rates are those between the last two looks, None at the first."""

    requests: int
    scored_rows: int
    requests_per_s: float | None = None
    scored_rows_per_s: float | None = None

    def __str__(self) -> str:
        told = f"answered: {self.requests} requests, {self.scored_rows} streamed rows"
        if self.requests_per_s is None or self.scored_rows_per_s is None:
            return told
        return f"{told}; now {self.requests_per_s:.3g} requests/s, {self.scored_rows_per_s:.3g} rows/s"


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    boots: frozenset[str]
    traffic: Traffic


class Looks:
    """Remembers the look before at each model, since a counter alone says nothing of now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before: dict[str, _Look] = {}

    async def look(self, model: str, instances: Iterable[Mapping[str, Any]]) -> Traffic | None:
        """None where no metrics page of a predictor could be read."""
        predictors = [one for one in instances if one.get("service") == "predictor" and one.get("admin_address")]
        # No credentials go along: these pages are not the gateway's.
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            pages = await asyncio.gather(*(_page(client, str(one["admin_address"])) for one in predictors))
        if not pages or None in pages:
            return None
        counted = [_count(page or "", model) for page in pages]
        now = _Look(self._clock.monotonic(), frozenset(str(one.get("boot_id")) for one in predictors),
                    Traffic(sum(requests for requests, _ in counted), sum(rows for _, rows in counted)))
        before = self._before.get(model)
        if before is None or before.boots != now.boots:
            self._before[model] = now
            return now.traffic
        passed_s = now.at_s - before.at_s
        if passed_s < _SHORTEST_S:
            return now.traffic
        self._before[model] = now
        return Traffic(now.traffic.requests, now.traffic.scored_rows,
                       (now.traffic.requests - before.traffic.requests) / passed_s,
                       (now.traffic.scored_rows - before.traffic.scored_rows) / passed_s)


async def _page(client: httpx.AsyncClient, address: str) -> str | None:
    try:
        answer = await client.get(f"http://{address}/metrics")
    except httpx.HTTPError:
        return None
    return answer.text if answer.is_success else None


def _count(page: str, model: str) -> tuple[int, int]:
    """Requests answered and streamed rows scored, over all versions of the model."""
    totals = {names.PREDICTION_REQUESTS: 0.0, names.SCORED_ROWS: 0.0}
    for name, labels, value in _LINE.findall(page):
        if f'model="{model}"' in labels.split(","):
            totals[name] += float(value)
    return int(totals[names.PREDICTION_REQUESTS]), int(totals[names.SCORED_ROWS])
