"""Whether it is the labels that are wrong where a version's answers and its labels no longer agree.

Labels are blamed when they turned over while rows and answers stayed as they were: of the newest labelled predictions,
either classes are exchanged (read with their names exchanged, labels agree with answers as before, and as they come
less often than if they had nothing to do with each other), or nearly all labels are of a class that usually has no more
than half of them while answers are spread as ever. And only where that cannot be the version: labels called this one
well before, or those of another version turned over too, or there is no other and it was good when it was published.
What else a loss of quality is, a world that changed or a bad version, labels cannot tell: it is the model's to follow.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt

from services.watchdog.core.inputs import Judged, ModelSeen
from services.watchdog.core.quality.loss import Loss, Window

# Labelled predictions that show it; a loss may show by fewer, and then waits this long for them.
NEWEST = 40
WAIT_S = 20.0
# Rows that changed at the same time show it by then; what they do later is another thing.
SHOWN_S = 300.0
# So much less than usual they may agree, once read otherwise or well again.
SLACK = 0.15
_Z = 3.0902
"""One-sided, as for a loss."""
ONE_SIDED, MINORITY = 0.9, 0.5
# How the version did is taken anew after so many labels; a little worse teaches, much worse does not.
LEARN_EVERY, WORSE = 20, 0.05
VERSIONS, TAUGHT = 5, 50
# A version that learnt from labels that turned over agrees with them. What stays so for so long is how it is.
SETTLED_S = 3_600.0
# Labels just before and just after a version came, which say whether it is with the version that they agree.
EDGE = 5

Pairs = Counter[tuple[str, str]]
"""Of labels and answers."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a version's labelled predictions were like while labels called it well; shares. Without `truths` it is not
    known how labels and answers were spread."""

    share: float
    truths: dict[str, float] = field(default_factory=dict)
    answers: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Turned:
    """Of one model. `standing`: what is told while labels are wrong. `waits`: whether a few labels more will say it."""

    known: dict[int, Agreed] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    """Versions whose labels had turned over since labels last called a version well."""
    standing: str = ""
    waits: bool = False
    ended: str = ""
    taught: set[int] = field(default_factory=set)
    """Versions that came while labels were wrong, and may have learnt from them: what these lose is theirs."""
    _version: int = 0
    """The one that labels were found wrong by."""
    _agreed_since: float | None = None
    _edge: tuple[int, bool] = (0, False)
    """The champion, and whether its newest labels agree with it."""
    _agreed_before: bool = False
    """The same of the champion before."""
    _lost_since: float | None = None
    _mixed_at: int | None = None
    _learnt_at: tuple[int, int] = (0, 0)

    def look(self, window: Window, model: ModelSeen, loss: Loss | None, calm: bool, now: float) -> bool:
        """Take note of the newest labels; `calm`: rows and answers are as usual. Returns whether labels are right again
        and those before the newest are to be forgotten."""
        if self.standing:
            self._at_the_edge(window, model.champion)
        if loss is None:
            # Too few labels to say anything; of a version that just came, nothing is over by that.
            self.waits = False
            return False
        taught = bool(self.standing) and model.champion > self._version
        if taught:
            self.taught.add(model.champion)
            self.taught = set(sorted(self.taught)[-TAUGHT:])
        if not loss.lost:
            if taught and self._may_have_taught(window, now):
                return False
            self._well(window, model.champion, f"version {model.champion}: {loss.text(window.rule.metric)}")
            return False
        self._lost_since = now if self._lost_since is None else self._lost_since
        was = self._was(model)
        self.waits = False
        if was is None or not (calm or (self.standing and now - self._lost_since > SHOWN_S)):
            self.standing, self.ended = "", "rows or answers are not as usual either"
            return False
        if taught and self._agreed_since is not None:
            self.standing, self.ended = "", f"labels turned over again, and version {model.champion} learnt from them"
            return False
        rows = list(window.rows)
        return self._still(rows, was, window.seen) if self.standing else self._begin(rows, was, model, now)

    def _at_the_edge(self, window: Window, version: int) -> None:
        if version != self._edge[0]:
            self._agreed_before, self._edge = self._edge[1], (version, self._edge[1])
        newest = list(islice(reversed(window.rows), EDGE))
        if len(newest) == EDGE:
            self._edge = (version, _mostly(newest))

    def _may_have_taught(self, window: Window, now: float) -> bool:
        """Whether a version agrees with them from its first label on, and the one before did not up to its last: then
        it is the version that changed, not they."""
        if self._agreed_since is None and (self._agreed_before or not _mostly(list(islice(window.rows, EDGE)))):
            return False
        self._agreed_since = now if self._agreed_since is None else self._agreed_since
        return now - self._agreed_since < SETTLED_S

    def _begin(self, rows: Sequence[Judged], was: Agreed, model: ModelSeen, now: float) -> bool:
        newest = rows[len(rows) - since(rows, was):]
        told = over(newest, was)
        if model.champion in self.taught:
            return False
        blamed = bool(model.champion in self.known or self.shown - {model.champion} or not model.previous)
        if len(newest) < NEWEST:
            self.waits = blamed and bool(told) and now - (self._lost_since or now) < WAIT_S
        elif told:
            self.shown.add(model.champion)
            if blamed:
                self.standing = f"labels turned over, not version {model.champion}: {told}"
                self._version, self._mixed_at, self._agreed_since = model.champion, None, None
                self._edge, self._agreed_before = (model.champion, False), False
        return False

    def _still(self, rows: Sequence[Judged], was: Agreed, seen: int) -> bool:
        newest = rows[-NEWEST:]
        agree = sum(row.truth == row.answer for row in newest) / len(newest)
        if len(newest) == NEWEST and agree >= was.share - SLACK:
            self.standing, self.ended = "", f"{agree:.0%} of the newest {NEWEST} labels agree with the answers again"
            return True
        if over(newest, was):
            self._mixed_at = None
        elif self._mixed_at is None:
            self._mixed_at = seen
        elif seen - self._mixed_at >= 2 * NEWEST:
            self.standing, self.ended = "", "labels and answers disagree otherwise now"
        return False

    def _was(self, model: ModelSeen) -> Agreed | None:
        published = model.metrics.get("accuracy")
        return self.known.get(model.champion) or (Agreed(published) if published is not None else None)

    def _well(self, window: Window, version: int, told: str) -> None:
        if self.standing:
            self.ended = told
            self.taught.discard(version)
        self.standing, self.waits, self._lost_since = "", False, None
        self.shown.clear()
        learnt = self._learnt_at
        if learnt[0] == version and window.seen - learnt[1] < LEARN_EVERY:
            return
        self._learnt_at = (version, window.seen)
        pairs, known = _pairs(window.rows), self.known.get(version)
        rows = pairs.total()
        if not rows:
            return
        share = sum(count for (truth, answer), count in pairs.items() if truth == answer) / rows
        if known is None or not known.truths or share >= known.share - WORSE:
            self.known.pop(version, None)
            self.known[version] = Agreed(share, _shares(pairs, 0), _shares(pairs, 1))
        while len(self.known) > VERSIONS:
            self.known.pop(next(iter(self.known)))


def _mostly(rows: Sequence[Judged]) -> bool:
    """Whether most answers are right by their labels."""
    return 2 * sum(row.truth == row.answer for row in rows) > len(rows)


def since(rows: Sequence[Judged], was: Agreed) -> int:
    """How many of the newest rows are those from which on answers agree less: the newest rows with the largest sum of
    what is wrong beyond what is usual (Page 1954)."""
    usual = min(0.95, 1 - was.share + SLACK / 2)
    best, most, total = 0.0, 0, 0.0
    for number, row in enumerate(reversed(rows), 1):
        total += (row.truth != row.answer) - usual
        if total > best:
            best, most = total, number
    return most


def over(rows: Sequence[Judged], was: Agreed) -> str:
    """How the labels of these rows are turned over; empty where they are not."""
    pairs = _pairs(rows)
    if not pairs:
        return ""
    return _exchanged(pairs, was) or _one_sided(pairs, was)


def _exchanged(pairs: Pairs, was: Agreed) -> str:
    of_truth: dict[str, Counter[str]] = {}
    for (truth, answer), count in sorted(pairs.items()):
        of_truth.setdefault(truth, Counter())[answer] += count
    best = {truth: answers.most_common(1)[0] for truth, answers in of_truth.items()}
    moved = sorted(truth for truth, (answer, _) in best.items() if answer != truth)
    if not moved or len({answer for answer, _ in best.values()}) < len(best):
        return ""
    rows = pairs.total()
    agree = sum(count for _, count in best.values()) / rows
    inside = Counter({pair: count for pair, count in pairs.items() if pair[0] in moved})
    within = inside.total()
    truths, answers = _shares(inside, 0), _shares(inside, 1)
    chance = sum(share * answers.get(truth, 0.0) for truth, share in truths.items())
    right = sum(count for (truth, answer), count in inside.items() if truth == answer) / within
    if agree < was.share - SLACK or chance - right <= _Z * sqrt(chance * (1 - chance) / within):
        return ""
    names = ", ".join(f"{best[truth][0]} is called {truth}" for truth in moved)
    return f"of the newest {rows} answers {agree:.0%} agree with their labels once these are exchanged ({names})"


def _one_sided(pairs: Pairs, was: Agreed) -> str:
    truths, answers = _shares(pairs, 0), _shares(pairs, 1)
    name = max(sorted(truths), key=lambda one: truths[one])
    if (not was.truths or pairs.total() < NEWEST / 2 or truths[name] < ONE_SIDED
            or was.truths.get(name, 0.0) > MINORITY):
        return ""
    if abs(answers.get(name, 0.0) - was.answers.get(name, 0.0)) > SLACK:
        return ""
    return (f"{truths[name]:.0%} of the newest {pairs.total()} labels are {name}, usually "
            f"{was.truths.get(name, 0.0):.0%}, and of the answers {answers.get(name, 0.0):.0%} as ever")


def _pairs(rows: Iterable[Judged]) -> Pairs:
    """Of answers that are names; numbers that turned over cannot be told from a world that did."""
    return Counter((str(row.truth), row.answer) for row in rows if isinstance(row.answer, str))


def _shares(pairs: Pairs, place: int) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for pair, count in pairs.items():
        counts[pair[place]] += count
    return {name: count / pairs.total() for name, count in sorted(counts.items())}
