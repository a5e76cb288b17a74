"""Which field of a pipeline broke: its values gone, refused, where none ever were, or all the same.

What ingest says of a quarantined field is of its values as they come, so that the same look shows when it is well.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.watchdog.core.inputs import Rules
from services.watchdog.core.summaries.counts import FieldRows, RowsSeen

# What was not told of again for so long says nothing of now.
OLD_S = 60.0
# Summaries one after the other that must show it: the first may hold the rows in which it began.
REPEATED = 2
# Rows of a field before anything of it is usual, and the weight of one summary from then on; about a minute's.
LEARN_ROWS = 500.0
USUAL_WEIGHT = 0.03
# Fewer values are too few to miss, or to say where they lie.
FEWEST = 20.0
# After so long without rows they may be others: a counter went on, a season began.
GAP_S = 600.0
# A number that has so many different values in an interval does not by chance have one in so many rows, nor do all lie
# elsewhere at once: that of a month may.
DIFFERENT, STUCK_ROWS = 10.0, 200
SAME = 1e-9
# So long nobody is suspected of having left a quarantine behind: who ordered it may be about to go on with it.
LEFT_S = 30.0
LET_GO_S = 60.0


@dataclass(slots=True)
class Usual:
    """Shares of rows with a good value and of those refused because of the field; most values lie from low to high."""

    rows: float = 0.0
    good: float = 0.0
    invalid: float = 0.0
    distinct: float = 0.0
    low: float = 0.0
    high: float = 0.0
    ranged: bool = False

    @property
    def known(self) -> bool:
        return self.rows >= LEARN_ROWS

    def learn(self, one: FieldRows) -> None:
        came, rows = one.present + one.missing, _rows(one)
        if not rows:
            return
        weight = USUAL_WEIGHT if self.known else rows / (self.rows + rows)
        self.rows += rows
        self.invalid += weight * (one.invalid / rows - self.invalid)
        if came:
            self.good += weight * (max(0, one.present - one.outliers) / came - self.good)
        span = _span(one)
        if span is not None:
            self.distinct += weight * (one.distinct - self.distinct)
            self.low = min(self.low, span[0]) if self.ranged else span[0]
            self.high = max(self.high, span[1]) if self.ranged else span[1]
            self.ranged = True


@dataclass(slots=True)
class Watched:
    """One field. `how` it is broken, in words, as the newest rows say; empty while it is not."""

    usual: Usual = field(default_factory=Usual)
    recent: deque[tuple[float, FieldRows]] = field(default_factory=deque)
    how: str = ""
    displaced: bool = False
    """It has values, and they cannot be true: a row that needs the field is wrong."""
    stuck: bool = False
    doubtful: bool = False
    """Half of what it takes to be broken: then it is not others alone that are."""
    times: int = 0
    seen_at: float = 0.0
    well_since: float | None = None
    quarantined: bool = False
    incident_id: str = ""
    """The incident it is quarantined for; empty where a person did it."""
    flagged_at: float = 0.0
    changed: bool = False
    """Its values came to mean something else while it was watched."""
    _unlearnt: deque[FieldRows] = field(default_factory=deque)
    """The newest that looked well. A few rows of another place are no share of those judged yet, and once learnt they
    would make all that follow them usual."""

    def see(self, one: FieldRows, rules: Rules, at: float, now: float) -> None:
        if one.quarantined and not self.quarantined:
            self.flagged_at = now
        if self.recent and at - self.recent[-1][0] > GAP_S and not self.quarantined:
            self.usual = Usual()
            self._unlearnt.clear()
        self.quarantined, self.incident_id, self.seen_at = one.quarantined, one.incident_id, now
        self.recent.append((at, one))
        while self.recent[0][0] < at - OLD_S:
            self.recent.popleft()
        if self.usual.known and not self._judge(rules):
            return
        self.times = self.times + 1 if self.how else 0
        if self.how or self.doubtful or not self.usual.known:
            self.well_since = None
        elif self.well_since is None:
            self.well_since = at
        if self.how or self.doubtful or self.quarantined:
            self._unlearnt.clear()
        elif self.usual.known:
            self._unlearnt.append(one)
            self._learn(rules.min_rows)
        else:
            self.usual.learn(one)

    def _learn(self, judged: float) -> None:
        """All but the newest that make up the rows judged: what came after those was well too."""
        while sum(_rows(one) for one in self._unlearnt) - _rows(self._unlearnt[0]) >= judged:
            self.usual.learn(self._unlearnt.popleft())

    @property
    def outlived(self) -> bool:
        """Whether its quarantine was for what its values meant before: of what they mean now nothing is learnt while it
        is out."""
        return self.changed and self.quarantined and bool(self.incident_id) and not self.usual.known

    def well_s(self, now: float) -> float:
        """For how long its values have been as usual; 0 while they are not, or nobody knows."""
        known = self.well_since is not None and now - self.seen_at <= OLD_S
        return now - (self.well_since or 0.0) if known else 0.0

    def _newest(self, rows: float) -> tuple[list[FieldRows], float]:
        """The newest summaries that make up so many rows, or all there are, and how many rows they are."""
        found: list[FieldRows] = []
        total = 0.0
        for _, one in reversed(self.recent):
            found.append(one)
            total += _rows(one)
            if total >= rows:
                break
        return found, total

    def _judge(self, rules: Rules) -> bool:
        """Whether enough rows came to say anything."""
        found, rows = self._newest(rules.min_rows)
        if rows < rules.min_rows:
            return False
        self.how, self.displaced, self.stuck, self.doubtful = "", False, False, False
        self._refused(sum(one.invalid for one in found), rows, rules)
        self._gone(found, rules)
        self._elsewhere(found, rules)
        self._stuck()
        return True

    def _refused(self, invalid: int, rows: float, rules: Rules) -> None:
        more = invalid / rows - self.usual.invalid
        self.doubtful |= more > rules.bad_share / 2
        if more > rules.bad_share:
            self.how = f"{invalid / rows:.0%} of {rows:.0f} rows are refused because of it"

    def _gone(self, found: list[FieldRows], rules: Rules) -> None:
        came = sum(one.present + one.missing for one in found)
        good = sum(max(0, one.present - one.outliers) for one in found)
        expected = self.usual.good * came
        if expected < FEWEST:
            return
        self.doubtful |= good < expected / 2
        if good <= (1 - rules.broken.field_share) * expected:
            missing = sum(one.missing for one in found)
            self.how = self.how or f"{missing} of {came} rows have none, and {came - missing - good} an outlying one"

    def _elsewhere(self, found: list[FieldRows], rules: Rules) -> None:
        told = [one for one in found if _span(one) is not None]
        present = sum(one.present for one in told)
        wide = (self.usual.high - self.usual.low) / 2
        if self.usual.distinct < DIFFERENT or wide <= 0 or present < FEWEST:
            return
        low, high = self.usual.low - wide, self.usual.high + wide
        share = sum(_outside(one, low, high) * one.present for one in told) / present
        self.doubtful |= share > rules.broken.field_share / 2
        if share >= rules.broken.field_share:
            self.displaced = True
            lie = f"from {self.usual.low:.4g} to {self.usual.high:.4g}"
            self.how = self.how or (f"{share:.0%} of {present} values lie where none did, at about "
                                    f"{told[0].mean:.4g}; usually {lie}")

    def _stuck(self) -> None:
        found, _ = self._newest(STUCK_ROWS)
        told = [one for one in found if _span(one) is not None]
        present = sum(one.present for one in told)
        if self.usual.distinct < DIFFERENT or present < STUCK_ROWS:
            return
        value = told[0].mean
        near = SAME * max(1.0, abs(value))
        if all(one.std <= near and abs(one.mean - value) <= near for one in told):
            self.stuck = True
            self.how = self.how or f"all of {present} values are {value:.6g}; usually {self.usual.distinct:.0f} differ"


@dataclass(slots=True)
class Fields:
    """Those of one pipeline. What their values mean is the Pipeline's; one with another meaning begins anew."""

    meant: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, Watched] = field(default_factory=dict)
    _let_go: dict[str, float] = field(default_factory=dict)

    def see(self, seen: RowsSeen, rules: Rules, now: float) -> None:
        if rules.broken.meant != self.meant:
            self._renew(rules.broken.meant)
        for one in seen.fields:
            if one.name in rules.broken.fields:
                self.by_name.setdefault(one.name, Watched()).see(one, rules, now - seen.age_s, now)

    def _renew(self, meant: dict[str, str]) -> None:
        for name, one in list(self.by_name.items()):
            if name not in meant:
                del self.by_name[name]
            elif meant[name] != self.meant.get(name):
                self.by_name[name] = Watched(quarantined=one.quarantined, incident_id=one.incident_id,
                                             flagged_at=one.flagged_at, changed=True)
        self.meant = meant

    def let_go(self, name: str, now: float) -> None:
        """Its quarantine is about to end."""
        self._let_go[name] = now

    @property
    def quarantined(self) -> list[str]:
        return [name for name, one in self.by_name.items() if one.quarantined]

    def suspect(self, now: float) -> bool:
        """Whether one has just begun to look broken: what else is unusual may be no more than that."""
        return any(0 < one.times <= REPEATED and not one.quarantined and now - one.seen_at <= OLD_S
                   for one in self.by_name.values())

    def broken(self, now: float) -> Iterator[tuple[str, str]]:
        """The one field that is broken, if it is alone, with how; and those whose quarantine nobody ended."""
        for name, one in sorted(self.by_name.items()):
            if one.quarantined and one.incident_id and now - one.flagged_at >= LEFT_S and (
                    now - self._let_go.get(name, -LET_GO_S) >= LET_GO_S):
                yield name, f"it is quarantined for {one.incident_id}"
        bad = [name for name, one in sorted(self.by_name.items())
               if (one.how or one.doubtful) and not one.quarantined and now - one.seen_at <= OLD_S]
        if len(bad) == 1 and self.by_name[bad[0]].times >= REPEATED:
            yield bad[0], self.by_name[bad[0]].how


def _rows(one: FieldRows) -> int:
    return one.present + one.missing + one.invalid


def _span(one: FieldRows) -> tuple[float, float] | None:
    """Where most numbers lie, without either tail; None of what is no number."""
    edges, counts = one.histogram
    if not counts or not one.present:
        return None
    return (edges[1], edges[-2]) if len(edges) > 3 else (edges[0], edges[-1])


def _outside(one: FieldRows, low: float, high: float) -> float:
    """Share of its numbers that lie outside; within a bin they lie evenly."""
    edges, counts = one.histogram
    total = sum(counts)
    inside = 0.0
    for begin, end, count in zip(edges, edges[1:], counts, strict=False):
        if end <= begin:
            inside += count * (low <= begin <= high)
        else:
            inside += count * max(0.0, min(end, high) - max(begin, low)) / (end - begin)
    return 1 - inside / total if total else 0.0
