"""Whether people reject a version's answers more often than they rejected those of the version before it.

Opinions about a version fill windows of `rows`. An author, who is an API key, has at most an `authors`th part of each,
and what they say beyond that does not count; of each window, and of what it is compared with, the `authors` - 1 who
rejected most are left out. So no one author, however loud, moves a window alone: without them the others must show it.

A window shows it when the share of rejections is more than `rise` above the reference, and by Fisher's exact test
(one-sided) the chance that both are alike is below `chance` / (k (k + 1)), k being the number of the window since the
version's first. These levels sum to `chance`, so that over all windows a version ever has, with a look after each, one
false find is no likelier (Bonferroni). It is a symptom when `windows` windows show it, one after the other, and well
again when as many do not.

The reference is what was said of the champion before (of the champion, for a version that is tried) in its newest
windows that did not show it; where there are none, the version's own first window, which then only teaches.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.watchdog.core.inputs import ModelSeen
from services.watchdog.core.summaries.counts import Opined
from services.watchdog.core.symptom import POOR_FEEDBACK, Symptom
from services.watchdog.core.thresholds.limits import FeedbackRule

# Newest windows that tell what is usual of a version.
USUAL_WINDOWS = 4
# A version that is bad by so many looks came bad.
YOUNG_LOOKS = 4
OWN = "of its first"
# Versions of a model of which opinions are remembered.
MAX_VERSIONS = 8


@dataclass(frozen=True, slots=True)
class Share:
    """Opinions, and those of them that reject."""

    rows: int = 0
    rejected: int = 0

    @property
    def value(self) -> float:
        return self.rejected / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Usual:
    """What a version is compared with, and `whose` it is."""

    share: Share
    whose: str


@dataclass(slots=True)
class Tally:
    """What was said of one version. `run`: windows one after the other that show it, or, negative, that do not."""

    version: int
    said: dict[str, Share] = field(default_factory=dict)
    usual: Usual | None = None
    looks: int = 0
    run: int = 0
    bad: bool = False
    good: deque[Share] = field(default_factory=lambda: deque(maxlen=USUAL_WINDOWS))
    told: str = ""
    closed_at: float = float("-inf")
    """When the newest window was looked at."""
    bad_from: int = 0
    """The look that made it bad."""

    @property
    def young(self) -> bool:
        """Whether it was bad almost from the first that was said of it, beside another version."""
        return self.bad and self.bad_from <= YOUNG_LOOKS and self.usual is not None and self.usual.whose != OWN

    def add(self, one: Opined, rule: FeedbackRule, before: Usual | None, now: float) -> None:
        """`before`: what this version is compared with, where that is known; fixed with its first window."""
        left = Share(one.accepted + one.rejected, one.rejected)
        while left.rows:
            mine = self.said.get(one.author, Share())
            taken = _part(left, min(math.ceil(rule.rows / rule.authors) - mine.rows, rule.rows - self._rows()))
            if not taken.rows:
                return
            self.said[one.author] = Share(mine.rows + taken.rows, mine.rejected + taken.rejected)
            left = Share(left.rows - taken.rows, left.rejected - taken.rejected)
            if self._rows() >= rule.rows:
                self._close(rule, before, now)

    def _rows(self) -> int:
        return sum(share.rows for share in self.said.values())

    def _close(self, rule: FeedbackRule, before: Usual | None, now: float) -> None:
        window = quiet(self.said, rule.authors - 1)
        self.said, self.closed_at = {}, now
        if self.usual is None:
            self.usual = before or Usual(window, OWN)
            if before is None:
                self.good.append(window)
                self.told = f"{window.value:.0%} of {window.rows} opinions reject answers of version {self.version}"
                return
        self.looks += 1
        level = rule.chance / (self.looks * (self.looks + 1))
        chance = by_chance(self.usual.share, window)
        found = window.value - self.usual.share.value > rule.rise and chance < level
        self.run = max(self.run, 0) + 1 if found else min(self.run, 0) - 1
        if abs(self.run) >= rule.windows:
            self.bad_from = self.looks if found and not self.bad else self.bad_from
            self.bad = found
        if not found:
            self.good.append(window)
        self.told = (f"{window.value:.0%} of {window.rows} opinions reject answers of version {self.version}, "
                     f"{self.usual.share.value:.0%} of {self.usual.share.rows} {self.usual.whose}, without the "
                     f"{rule.authors - 1} loudest of each; p {chance:.1e}, level {level:.1e}")


@dataclass(slots=True)
class Feedback:
    """Tallies of all models, by version."""

    by_model: dict[str, dict[int, Tally]] = field(default_factory=dict)

    def see(self, one: Opined, rule: FeedbackRule, model: ModelSeen, now: float) -> None:
        tallies = self.by_model.setdefault(one.pipeline, {})
        if one.version not in tallies:
            tallies[one.version] = Tally(one.version)
            others = sorted(tallies.keys() - {one.version, model.champion, model.previous})
            for oldest in others[:max(0, len(tallies) - MAX_VERSIONS)]:
                del tallies[oldest]
        before = model.previous if one.version == model.champion else model.champion
        tallies[one.version].add(one, rule, _usual(tallies.get(before)), now)

    def crowned(self, model: str, version: int) -> None:
        """It answers from now on: what was begun to be said of it, maybe long ago, does not count for its windows."""
        tally = self.of(model, version)
        if tally is not None:
            tally.said = {}

    def of(self, model: str, version: int) -> Tally | None:
        return self.by_model.get(model, {}).get(version)

    def gone(self, model: str) -> None:
        self.by_model.pop(model, None)

    def symptoms(self, models: Mapping[str, ModelSeen]) -> Iterator[Symptom]:
        """Of champions: no other version has to be left."""
        for name in sorted(self.by_model):
            tally = self.of(name, models[name].champion) if name in models else None
            if tally is not None and tally.bad:
                yield Symptom(POOR_FEEDBACK, name, tally.told, name, version=tally.version)


def quiet(said: Mapping[str, Share], loudest: int) -> Share:
    """What all authors said together, without the so many of them who rejected most."""
    shares = sorted(said.items(), key=lambda one: (-one[1].rejected, one[0]))[loudest:]
    return Share(sum(share.rows for _, share in shares), sum(share.rejected for _, share in shares))


def by_chance(usual: Share, window: Share) -> float:
    """The chance of so many of all rejections in the window, or more, were both alike (Fisher's exact test)."""
    rows, rejected = usual.rows + window.rows, usual.rejected + window.rejected
    all_ways = _log_ways(rows, window.rows)
    return min(1.0, math.fsum(
        math.exp(_log_ways(rejected, inside) + _log_ways(rows - rejected, window.rows - inside) - all_ways)
        for inside in range(window.rejected, min(rejected, window.rows) + 1)))


def _log_ways(of: int, taken: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(taken + 1) - math.lgamma(of - taken + 1)


def _part(of: Share, rows: int) -> Share:
    """So many of them, rejections in proportion; all where there are no more."""
    taken = max(0, min(rows, of.rows))
    return Share(taken, round(taken * of.rejected / of.rows))


def _usual(tally: Tally | None) -> Usual | None:
    if tally is None or not tally.good:
        # One that was never well is no measure: what it was measured by is.
        return tally.usual if tally is not None else None
    share = Share(sum(one.rows for one in tally.good), sum(one.rejected for one in tally.good))
    return Usual(share, f"of version {tally.version}")
