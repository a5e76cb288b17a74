"""Whether more rows than usual are incomplete, rejected, late or there twice: shares against what was learnt."""

from dataclasses import dataclass, field

from services.watchdog.core.drift.distances import holm, more_often
from services.watchdog.core.summaries.counts import RowsSeen
from services.watchdog.core.thresholds.limits import SharesRule

# Rows of a window, and windows one after the other that must show it: a share of few rows says little.
ROWS = 200
WINDOWS = 2
CHANCE = 0.001
"""Largest chance over all shares of a window together."""
USUAL_WEIGHT = 0.05


@dataclass(slots=True)
class Shares:
    """Counts of the window in hand, by what is counted; the usual share of each follows slowly while all is well."""

    counts: dict[str, float] = field(default_factory=dict)
    rows: float = 0.0
    usual: dict[str, float] = field(default_factory=dict)
    learnt: bool = False
    repeated: dict[str, int] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    out: frozenset[str] = frozenset()
    """Fields that are quarantined."""

    def see(self, seen: RowsSeen, rule: SharesRule) -> None:
        rows = sum(one.accepted + one.rejected for one in seen.sources) + seen.duplicates
        out = frozenset(one.name for one in seen.fields if one.quarantined)
        if seen.fields and out != self.out:
            self._without(out)
            return
        if not rows:
            return
        self.rows += rows
        counted = {"rejected": sum(one.rejected for one in seen.sources), "duplicates": seen.duplicates,
                   "late": seen.late}
        for one in seen.fields:
            if one.quarantined:
                continue
            counted[f"missing {one.name}"] = one.missing
            counted[f"invalid {one.name}"] = one.invalid
        for name, count in counted.items():
            self.counts[name] = self.counts.get(name, 0.0) + count
        if self.rows >= ROWS:
            self._turn(rule)

    def _without(self, out: frozenset[str]) -> None:
        """Rows go without these fields from now on: what they were like with others says nothing of them. What was
        usual stays so."""
        self.out, self.counts, self.rows = out, {}, 0.0
        self.repeated.clear()
        self.standing.clear()

    def _turn(self, rule: SharesRule) -> None:
        found: dict[str, str] = {}
        if self.learnt:
            significant = holm({name: more_often(self.usual.get(name, 0.0), count, self.rows)
                                for name, count in self.counts.items()}, CHANCE)
            for name in sorted(significant):
                share, usual = self.counts[name] / self.rows, self.usual.get(name, 0.0)
                if share - usual >= limit(rule, name):
                    found[name] = f"{share:.0%} {name} where {usual:.0%} are usual"
        for name in self.counts:
            run = self.repeated.get(name, 0)
            self.repeated[name] = max(run, 0) + 1 if name in found else min(run, 0) - 1
            if name in found and (self.repeated[name] >= WINDOWS or name in self.standing):
                self.standing[name] = found[name]
            elif name not in found and -self.repeated[name] >= WINDOWS:
                self.standing.pop(name, None)
        if not found and not self.standing:
            self._learn()
        self.counts, self.rows = {}, 0.0

    def _learn(self) -> None:
        for name, count in self.counts.items():
            share = count / self.rows
            before = self.usual.get(name, share)
            self.usual[name] = before + USUAL_WEIGHT * (share - before)
        self.learnt = True


def limit(rule: SharesRule, name: str) -> float:
    """How many more than usual, as a share, are a symptom."""
    match name.partition(" ")[0]:
        case "missing":
            return rule.missing
        case "invalid":
            return rule.invalid
        case "duplicates":
            return rule.duplicates
        case "late":
            return rule.late
    return rule.rejected
