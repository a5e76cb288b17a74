"""How soon drift is found, how often there is none where one is told, and what is missed, beside river's detectors.

    python -m tests.bench.watchdog.drift [--seed 2026] [--sets 1] [--only ours,ADWIN]

The watchdog's detector is the one that runs: rows become the summaries ingest makes of them, 50 rows each, and those
are judged with the defaults of a Pipeline. It alarms when it begins to see a drift of the pipeline. river's detectors
have their own defaults and take every event: one of each kind a field, names as their place in the alphabet, numbers
in standard deviations of the first 2,000 events (raw units would be nonsense to Page-Hinkley); the first of them to
speak counts.

An alarm while rows are as the first ones is false, those within 500 events of a false one are the same alarm; of those
while they are not, the first ends the delay. 2,000 events after a drift that ended and the first 2,000 are nobody's.
A detector that alarms all the time therefore misses nothing; its false alarms say so.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from river import drift
from river.drift import kswin
from scipy import stats

from services.ingest.core.counting.summary import tally_accepted
from services.watchdog.core.inputs import Rules
from services.watchdog.core.rows.patterns import Patterns
from services.watchdog.core.symptom import DRIFT
from services.watchdog.flow import translate
from tests.bench import results
from tests.bench.watchdog.streams import EVENTS, STREAMS, WARM_UP, Stream, stream

AT_ONCE, INTERVAL_S = 50, 2.0
SAME = 500
AFTERMATH = 2_000
"""Events after a drift that ended in which whoever learnt it may learn back."""


@dataclass(slots=True)
class Found:
    """What a detector made of streams. `events` in which an alarm would have been false."""

    delays: list[int] = field(default_factory=list)
    misses: int = 0
    false: int = 0
    events: int = 0

    @property
    def per_10_000(self) -> float:
        return 1e4 * self.false / self.events if self.events else 0.0

    @property
    def delay(self) -> float:
        return statistics.fmean(self.delays) if self.delays else 0.0

    def score(self, sets: int = 1) -> float:
        return self.delay / 1_000 + self.per_10_000 + 10 * self.misses / sets

    def add(self, other: "Found") -> None:
        self.delays += other.delays
        self.misses, self.false = self.misses + other.misses, self.false + other.false
        self.events += other.events


def ours(given: Stream) -> Iterator[int]:
    """Events by which an incident of drift would be opened."""
    patterns = Patterns(Rules("bench"))
    began = datetime(2026, 1, 1, tzinfo=UTC)
    standing = False
    for first in range(0, EVENTS, AT_ONCE):
        now = first // AT_ONCE * INTERVAL_S
        arrays = [pa.array(values[first:first + AT_ONCE]) for values in given.columns.values()]
        categories = {name for name, values in given.columns.items() if values.dtype.kind == "U"}
        tally = tally_accepted(tuple(given.columns), arrays, None, ["bench"] * AT_ONCE, categories)
        at = began + timedelta(seconds=now)
        summary = tally.message("bench", 1, "ingest-0", at, at)
        patterns.rows(translate.rows(summary, at.timestamp()), now, healthy=True)
        seen = any(symptom.kind == DRIFT for symptom in patterns.symptoms(now))
        if seen and not standing:
            yield first + AT_ONCE
        standing = seen


RIVER: Mapping[str, Callable[[], object]] = {
    "ADWIN": drift.ADWIN, "KSWIN": lambda: drift.KSWIN(seed=1), "PageHinkley": drift.PageHinkley}


def rivers(kinds: tuple[str, ...], given: Stream, known: dict[tuple[str, str], list[int]]) -> Iterator[int]:
    """Events at which the first detector of any of the kinds speaks. `known` keeps what each found."""
    for kind in kinds:
        if (kind, given.name) not in known:
            known[kind, given.name] = sorted(_alone(kind, given))
    yield from sorted({at for kind in kinds for at in known[kind, given.name]})


class _Looked:
    """scipy's test of two samples as river calls it, each p-value worked out once: of samples of one size it depends
    on the distance alone, and the exact one takes ten times as long as everything else here."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def ks_2samp(self, one: list[float], other: list[float], method: str) -> tuple[float, float]:
        first, second, size = np.sort(one), np.sort(other), len(one)
        both = np.concatenate((first, second))
        apart = np.searchsorted(first, both, side="right") - np.searchsorted(second, both, side="right")
        steps = int(np.abs(apart).max())
        if steps not in self._known:
            assert len(other) == size
            self._known[steps] = float(stats.ks_2samp(one, other, method=method).pvalue)
        return steps / size, self._known[steps]


kswin.stats = _Looked()  # type: ignore[attr-defined]


def _alone(kind: str, given: Stream) -> Iterator[int]:
    for values in given.columns.values():
        numbers = np.unique(values, return_inverse=True)[1] if values.dtype.kind == "U" else values
        first = numbers[:WARM_UP]
        detector = RIVER[kind]()
        for place, value in enumerate(((numbers - first.mean()) / first.std()).tolist()):
            detector.update(value)  # type: ignore[attr-defined]
            if detector.drift_detected:  # type: ignore[attr-defined]
                yield place + 1


def judged(given: Stream, alarms: list[int]) -> Found:
    found = Found()
    nobodys = np.zeros(EVENTS + 1, bool)
    nobodys[:WARM_UP] = True
    for begin, end in given.drifts:
        hits = [at for at in alarms if begin < at <= end]
        found.delays += [hits[0] - begin] if hits else []
        found.misses += not hits
        nobodys[begin:min(EVENTS, end + AFTERMATH) + 1] = True
    last = -SAME
    for at in alarms:
        if not nobodys[at] and at - last >= SAME:
            found.false, last = found.false + 1, at
    found.events = int((~nobodys).sum())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--sets", type=int, default=1, help="sets of twenty streams, with seeds that follow")
    parser.add_argument("--only", default="ours,ADWIN,KSWIN,PageHinkley,any of the three")
    options = parser.parse_args()
    kinds = options.only.split(",")
    totals = {kind: Found() for kind in kinds}
    table: list[dict[str, object]] = []
    print(f"{'stream':22}" + "".join(f"{kind:>22}" for kind in kinds) + "   (delay, misses, false alarms)")
    for name in STREAMS:
        by_kind = {kind: Found() for kind in kinds}
        for seed in range(options.seed, options.seed + options.sets):
            given, known = stream(name, seed), dict[tuple[str, str], list[int]]()
            for kind in kinds:
                asked = tuple(RIVER) if kind == "any of the three" else (kind,)
                alarms = list(ours(given) if kind == "ours" else rivers(asked, given, known))
                by_kind[kind].add(judged(given, alarms))
        for kind, one in by_kind.items():
            totals[kind].add(one)
        table.append({"stream": name, **{kind: [one.delay, one.misses, one.false] for kind, one in by_kind.items()}})
        print(f"{name:22}" + "".join(f"{_told(one):>22}" for one in by_kind.values()), flush=True)
    summary = {kind: {"delay": one.delay, "false_per_10000": one.per_10_000, "misses": one.misses / options.sets,
                      "score": one.score(options.sets)} for kind, one in totals.items()}
    for kind, figures in summary.items():
        print(f"{kind:18}" + "".join(f"{name:>18} {value:8.2f}" for name, value in figures.items()))
    drifts = sum(len(spans) for _, spans in STREAMS.values())
    print(f"{drifts} drifts in {len(STREAMS)} streams; written to "
          f"{results.write('drift', {'seed': options.seed, 'sets': options.sets, 'all': summary, 'streams': table})}")


def _told(one: Found) -> str:
    delay = f"{one.delay:.0f}" if one.delays else "-"
    return f"{delay}, {one.misses}, {one.false}"


if __name__ == "__main__":
    main()
