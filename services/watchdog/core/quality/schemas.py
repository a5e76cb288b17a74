"""Whether events have another form than before: declared members went and others came, or kinds of values changed.

That alone is no symptom: it says what happened where rows are bad, or a field broke, which is judged elsewhere by all
rows. A field went under another name where one that nobody declared comes in its place: about as often, of a kind that
its values may have, and from when on it is gone.
"""

from collections import deque
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from services.watchdog.core.drift.distances import holm, more_often
from services.watchdog.core.inputs import Rules
from services.watchdog.core.summaries.counts import MemberRows, RowsSeen, SchemaRows

CAME, WENT, KIND = "came", "went", "kind"
# Fewer sampled events say nothing; of so many it is known what is usual.
FEWEST, LEARN = 20, 50
# Weight of one summary in what is usual; about a minute of two-second intervals.
USUAL_WEIGHT = 0.03
CHANCE = 0.001
"""Largest chance over all members of a window together."""
# What was not told of again for so long says nothing of now.
OLD_S = 60.0
# By so much of the events that lack the one may those with the other be more or fewer, and so many standard deviations
# of the sample: a field in few events is seen few times.
AS_OFTEN, DEVIATIONS = 0.25, 2.0
SHOWN = 3
# A producer that names a new source for every event must not fill the memory; those that came first are forgotten.
MAX_SOURCES = 200
ANY: Final = ""
"""Stands for all sources: what is usual of one that was not known before, and of events as a whole."""


class Renamed(NamedTuple):
    """Under which names a field may come now, likeliest first, and of how many sampled events that is said."""

    names: tuple[str, ...] = ()
    sampled: int = 0


@dataclass(slots=True)
class Usual:
    """Shares of events, by what is counted of which member."""

    rows: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    def learn(self, told: list[SchemaRows]) -> None:
        """What one summary says, of one source or of several."""
        rows = sum(one.sampled for one in told)
        if not rows:
            return
        self.rows += rows
        weight = max(USUAL_WEIGHT, rows / self.rows)
        counts = _counts(told)
        for name in {*self.shares, *counts}:
            before = self.shares.get(name, 0.0)
            self.shares[name] = before + weight * (counts.get(name, 0) / rows - before)
        self.shares = {name: share for name, share in self.shares.items() if share > USUAL_WEIGHT / 100}

    def of(self, name: str) -> float:
        return self.shares.get(name, 0.0)


@dataclass(slots=True)
class Schemas:
    """Those of one pipeline's sources. What is declared is the Pipeline's; with other fields it begins anew."""

    meant: dict[str, str] = field(default_factory=dict)
    recent: deque[tuple[float, SchemaRows]] = field(default_factory=deque)
    usual: dict[str, Usual] = field(default_factory=dict)
    _changed: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By source, when it was seen last, and in words."""
    _renamed: dict[str, Renamed] = field(default_factory=dict)
    _mistyped: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By field, of which kind its values are that cannot be; of how many sampled events."""
    _looked_at: float = 0.0

    def see(self, seen: RowsSeen, rules: Rules, now: float) -> None:
        if rules.broken.meant != self.meant:
            self.meant, self.usual, self._changed, self._renamed, self._mistyped = rules.broken.meant, {}, {}, {}, {}
            self.recent.clear()
        if not seen.schemas:
            return
        at = now - seen.age_s
        self.recent.extend((at, one) for one in seen.schemas)
        while self.recent[0][0] < at - max(OLD_S, rules.window_s):
            self.recent.popleft()
        self._look(rules, now)
        for one in seen.schemas:
            self._judge(one.source, rules, now)
        well = [one for one in seen.schemas if one.source not in self._changed]
        if not self._renamed and not self._mistyped:
            self.usual.setdefault(ANY, Usual()).learn(well)
        for one in well:
            self.usual.setdefault(one.source, Usual()).learn([one])
        _forget(self.usual)
        _forget(self._changed)

    def changed(self, source: str, now: float) -> str:
        """How the form of its events changed, in words; empty while it is as usual."""
        at, told = self._changed.get(source, (0.0, ""))
        return told if now - at <= OLD_S else ""

    def renamed(self, name: str, now: float) -> Renamed:
        """Under which other names a field may come that went, over all sources; none while it did not."""
        return self._renamed.get(name, Renamed()) if now - self._looked_at <= OLD_S else Renamed()

    def kind(self, name: str, now: float) -> str:
        """In words, of which kind a field's values are by now that theirs cannot be; empty while they are not."""
        kind, sampled = self._mistyped.get(name, ("", 0))
        return f"{name} is {kind} now (of {sampled} sampled events)" if kind and now - self._looked_at <= OLD_S else ""

    def _look(self, rules: Rules, now: float) -> None:
        """At the newest events of all sources, for what became of single fields."""
        told, rows = self._newest()
        usual = self.usual.get(ANY)
        if rows < FEWEST or usual is None or usual.rows < LEARN:
            return
        counts, share = _counts(told), rules.broken.field_share
        sure = self._sure(counts, rows, usual, 0.0)
        self._looked_at, self._renamed, self._mistyped = now, {}, {}
        for name, kinds in _kinds(told, WENT).items():
            lacked = usual.of(f"{WENT} {name}")
            gone = counts[f"{WENT} {name}"] / rows - lacked
            if f"{WENT} {name}" in sure and gone >= share * (1 - lacked):
                names = tuple(_in_its_place(told, kinds, gone, rows, usual, sure))
                if names:
                    self._renamed[name] = Renamed(names, rows)
        for one in _members(told, KIND):
            key = f"{KIND} {one.member} is {one.kind}"
            if key in sure and counts[key] / rows > rules.bad_share:
                self._mistyped[one.member] = one.kind, rows

    def _newest(self) -> tuple[list[SchemaRows], int]:
        """What the newest summaries tell that hold enough events, or all of them, and how many these are."""
        told: list[SchemaRows] = []
        rows, last = 0, 0.0
        for at, one in reversed(self.recent):
            if rows >= FEWEST and at != last:
                break
            told.append(one)
            rows, last = rows + one.sampled, at
        return told, rows

    def _judge(self, source: str, rules: Rules, now: float) -> None:
        # Half of what makes rows bad: few are looked at, and what happened is to be known when they are called so.
        since = self.recent[-1][0] - rules.window_s
        told = [one for at, one in self.recent if one.source == source and at >= since]
        rows = sum(one.sampled for one in told)
        usual = self._usual(source)
        if rows < FEWEST or usual is None:
            return
        sure = self._sure(_counts(told), rows, usual, rules.bad_share / 2)
        kinds = {of: sorted(name.partition(" ")[2] for name in sure if name.startswith(f"{of} "))
                 for of in (CAME, WENT, KIND)}
        if kinds[KIND] or (kinds[WENT] and kinds[CAME]):
            self._changed[source] = now, _text(kinds, rows)
        else:
            self._changed.pop(source, None)

    def _sure(self, counts: dict[str, int], rows: int, usual: Usual, beyond: float) -> frozenset[str]:
        """What is counted in more events than usual, by more than that share of them, and not by chance."""
        more = {name: count for name, count in counts.items() if count / rows - usual.of(name) > beyond}
        return frozenset(holm({name: more_often(usual.of(name), count, rows) for name, count in more.items()}, CHANCE))

    def _usual(self, source: str) -> Usual | None:
        """That of the source, else of all; None while neither is known."""
        known = (self.usual.get(one) for one in (source, ANY))
        return next((one for one in known if one is not None and one.rows >= LEARN), None)


def _forget(known: MutableMapping[str, Any]) -> None:
    for name in [name for name in known if name != ANY][:-MAX_SOURCES]:
        del known[name]


def _in_its_place(told: list[SchemaRows], kinds: frozenset[str], gone: float, rows: int, usual: Usual,
                  sure: frozenset[str]) -> Iterator[str]:
    """Members that came about as often as the field is gone, their values of a kind that it may have; closest first."""
    counts = _counts(told)
    near = AS_OFTEN * gone + DEVIATIONS * (gone * (1 - min(1.0, gone)) / rows) ** 0.5
    apart = {name: abs(counts[f"{CAME} {name}"] / rows - usual.of(f"{CAME} {name}") - gone)
             for name, found in _kinds(told, CAME).items() if f"{CAME} {name}" in sure and found & kinds}
    for name in sorted(apart, key=lambda name: (apart[name], name)):
        if apart[name] <= near:
            yield name


def _members(told: Iterable[SchemaRows], of: str) -> Iterator[MemberRows]:
    for one in told:
        yield from {CAME: one.undeclared, WENT: one.absent, KIND: one.mistyped}[of]


def _kinds(told: Iterable[SchemaRows], of: str) -> dict[str, frozenset[str]]:
    """By member, the kinds that its values have, or may have."""
    found: dict[str, frozenset[str]] = {}
    for one in _members(told, of):
        found[one.member] = found.get(one.member, frozenset()) | frozenset(one.kind.split("|"))
    return found


def _counts(told: list[SchemaRows]) -> dict[str, int]:
    found: dict[str, int] = {}
    for of in (CAME, WENT, KIND):
        for one in _members(told, of):
            name = f"{of} {one.member}" if of != KIND else f"{of} {one.member} is {one.kind}"
            found[name] = found.get(name, 0) + one.count
    return found


def _text(kinds: dict[str, list[str]], rows: int) -> str:
    told = []
    if kinds[WENT] and kinds[CAME]:
        told = [f"{_some(kinds[WENT])} went", f"{_some(kinds[CAME])} came"]
    told += [f"{one} now" for one in kinds[KIND][:SHOWN]]
    return f"{', '.join(told)} (of {rows} sampled events)"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return " and ".join(names[:SHOWN]) + more
