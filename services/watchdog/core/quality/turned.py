"""Whether it is the labels that are wrong where a version's answers and its labels no longer agree.

Labels are blamed when they turned over while rows and answers stayed as they were: of the newest labelled predictions,
either classes are exchanged (read with their names exchanged, labels agree with answers as before, and as they come
less often than if they had nothing to do with each other), or nearly all labels are of a class that usually has no more
than half of them while answers are spread as ever. And only where that cannot be the version: labels called this one
well before, or those of another version turned over too, or there is no other and it was good when it was published.
What else a loss of quality is, a world that changed or a bad version, labels cannot tell: it is the model's to follow.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt

from services.watchdog.core.inputs import Judged, ModelSeen
from services.watchdog.core.quality.loss import Loss, Window

# Labelled predictions that show it. A loss that may yet turn out to be that waits for them, for as many as show it
# where one class is rare, and no longer than that.
NEWEST, MOST = 40, 80
WAIT_S = 60.0
# So long a version that was gone back to may take to have enough labels before anything is trained for it.
UNJUDGED_S = 300.0
# A version agreed with its labels before if as many did in the same window.
BEFORE = 20
# Of a version of which nobody measured how often it is right.
UNMEASURED = 0.75
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
    rows: int = 0


@dataclass(slots=True)
class _Edge:
    """The newest labels of a version, and whether they agree with it; until there are enough, what those of the version
    before it did."""

    version: int
    agreed: bool = False
    rows: deque[Judged] = field(default_factory=lambda: deque(maxlen=EDGE))

    def take(self, newest: Iterable[Judged]) -> None:
        """These are the newest, oldest first."""
        self.rows.clear()
        for row in newest:
            self.add(row)

    def add(self, row: Judged) -> None:
        self.rows.append(row)
        if len(self.rows) == EDGE:
            self.agreed = _mostly(self.rows)


@dataclass(slots=True)
class Turned:
    """Of one model. `standing`: what is told while labels are wrong. `waits`: whether a few labels more may say it."""

    known: dict[int, Agreed] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    """Versions whose labels had turned over, or said that most answers were wrong, since they last called one well."""
    standing: str = ""
    waits: bool = False
    ended: str = ""
    taught: set[int] = field(default_factory=set)
    """Versions that came while labels were wrong, and may have learnt from them: what these lose is theirs."""
    _version: int = 0
    """The one that labels were found wrong by."""
    _agreed_since: float | None = None
    _edge: "_Edge" = field(default_factory=lambda: _Edge(0))
    """Of the champion."""
    _before: "_Edge" = field(default_factory=lambda: _Edge(0))
    """Of the champion before."""
    _lost_since: float | None = None
    _mixed_at: int | None = None
    _learnt_at: tuple[int, int] = (0, 0)
    _champion: tuple[int, float] = (0, 0.0)
    """And since when it is that."""
    _well_by: Loss | None = None
    """What labels said when they called a version well last."""

    def go_on(self, told: str) -> None:
        """Take up what another watchdog found, or this one before it began anew: labels are wrong until they say."""
        self.standing = self.standing or told

    def look(self, window: Window, model: ModelSeen, loss: Loss | None, calm: Callable[[], bool],
             now: float) -> int | None:
        """Take note of the newest labels; `calm`: whether rows and answers are as usual. Returns how many of the newest
        are to be judged by where labels are not turned over any more; None: all."""
        self._crowned(model.champion, now)
        if not self.standing and loss is not None and loss is self._well_by:
            return None
        if self.standing:
            self._version = self._version or model.champion
            self._at_the_edge(window, model.champion)
        if loss is None:
            # Too few labels to say anything; of a version that just came, nothing is over by that. Where the one that
            # was left for it showed what they would show too, they are waited for.
            left = any(one > model.champion for one in self.shown)
            self.waits = left and now - self._champion[1] < UNJUDGED_S
            return None
        taught = bool(self.standing) and model.champion > self._version
        if taught:
            self.taught.add(model.champion)
            self.taught = set(sorted(self.taught)[-TAUGHT:])
        if not loss.lost:
            if taught and self._may_have_taught(window, now):
                return None
            self._well(window, model.champion, f"version {model.champion}: {loss.text(window.rule.metric)}")
            self._well_by = loss
            return None
        self._lost_since = now if self._lost_since is None else self._lost_since
        self.waits = False
        if not (calm() or (self.standing and now - self._lost_since > SHOWN_S)):
            self.standing, self.ended = "", "rows or answers are not as usual either"
            return None
        if taught and self._agreed_since is not None:
            self.standing, self.ended = "", f"labels turned over again, and version {model.champion} learnt from them"
            return None
        if self.standing:
            return self._still(window, model)
        self._begin(window, model, now)
        return None

    def late(self, row: Judged) -> None:
        """A label of a version that is the champion no more: the last ones come after it was left, and belong to its
        edge for as long as it is open whether it is with the next one that labels agree."""
        if self.standing and self._agreed_since is None:
            for edge in (self._edge, self._before):
                if edge.version and edge.version == row.version:
                    edge.add(row)

    def _crowned(self, champion: int, now: float) -> None:
        if champion == self._champion[0]:
            return
        self._champion, self._mixed_at = (champion, now), None
        if not self.standing:
            self._lost_since = None

    def _at_the_edge(self, window: Window, version: int) -> None:
        if version != self._edge.version:
            self._before, self._edge = self._edge, _Edge(version, self._edge.agreed)
        self._edge.take(list(islice(reversed(window.rows), EDGE))[::-1])

    def _may_have_taught(self, window: Window, now: float) -> bool:
        """Whether a version agrees with them from its first label on, and the one before did not up to its last: then
        it is the version that changed, not they."""
        if self._agreed_since is None and (self._before.agreed or not _mostly(list(islice(window.rows, EDGE)))):
            return False
        self._agreed_since = now if self._agreed_since is None else self._agreed_since
        return now - self._agreed_since < SETTLED_S

    def _begin(self, window: Window, model: ModelSeen, now: float) -> None:
        rows, was, champion = list(window.rows), self._was(model), model.champion
        bad = champion not in self.known and was.share < max(
            (one.share for one in self.known.values()), default=0.0) - SLACK
        if champion in self.taught or bad:
            # Bad when it was published already, or it may have learnt from such labels: what it loses is its own.
            return
        parts = [rows[len(rows) - count:] for count in since(rows, was)]
        newest, told = next(((one, why) for one in parts if (why := over(one, was))), (parts[-1], ""))
        before = rows[:len(rows) - len(newest)]
        if told or not _mostly(newest):
            self.shown.add(champion)
        if not (champion in self.known or self.shown - {champion} or not model.previous or _did_well(before, was)):
            return
        full, late = window.rows.maxlen or MOST, now - (self._lost_since or now) >= WAIT_S
        if told and (late or len(newest) >= min(NEWEST, full)):
            self.standing = f"labels turned over, not version {champion}: {told}"
            self._version, self._mixed_at, self._agreed_since = champion, None, None
            self._edge, self._before = _Edge(champion), _Edge(0)
        else:
            self.waits = not late and len(newest) < min(MOST, full) and any(
                (len(one) < NEWEST and not _mostly(one)) or might(one, was) for one in parts)

    def _still(self, window: Window, model: ModelSeen) -> int | None:
        rows, was = list(window.rows), self._was(model)
        newest = rows[-NEWEST:]
        agree = sum(row.truth == row.answer for row in newest) / len(newest)
        if len(newest) == min(NEWEST, window.rows.maxlen or NEWEST) and agree >= was.share - SLACK:
            self.standing = ""
            self.ended = f"{agree:.0%} of the newest {len(newest)} labels agree with the answers again"
            self.taught.discard(model.champion)
            return _newest(rows, lambda row: row.truth == row.answer, 0.5)[0] or NEWEST
        # Where one class is rare, the newest alone may not show it.
        if over(newest, was) or over(rows[-MOST:], was):
            self._mixed_at = None
        elif self._mixed_at is None:
            self._mixed_at = window.seen
        elif window.seen - self._mixed_at >= MOST:
            # What came before these would show once more that they turned over.
            self.standing, self.ended = "", "labels and answers disagree otherwise now"
            return NEWEST
        return None

    def _was(self, model: ModelSeen) -> Agreed:
        """Of a version that labels said nothing of yet: as it was published, with labels and answers spread as those of
        the version that was called well last."""
        known, others = self.known.get(model.champion), list(self.known.values())
        if known is not None:
            return known
        newest = others[-1] if others else Agreed(UNMEASURED)
        return Agreed(model.metrics.get("accuracy", newest.share), newest.truths, newest.answers)

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
        if known is not None:
            if share < known.share - max(WORSE, 2 / 3 * _error(known.share, known.rows)):
                return
            # Not the best of all windows is what is asked of the newest.
            share = share if rows > known.rows else (share + known.share) / 2
        self.known.pop(version, None)
        self.known[version] = Agreed(share, _shares(pairs, 0), _shares(pairs, 1), rows)
        while len(self.known) > VERSIONS:
            self.known.pop(next(iter(self.known)))


def _mostly(rows: Sequence[Judged]) -> bool:
    """Whether most answers are right by their labels."""
    return 2 * sum(row.truth == row.answer for row in rows) > len(rows)


def _did_well(rows: Sequence[Judged], was: Agreed) -> bool:
    """Whether its labels agreed with a version up to where they ceased to."""
    return len(rows) >= BEFORE and sum(row.truth == row.answer for row in rows) >= (was.share - SLACK) * len(rows)


def since(rows: Sequence[Judged], was: Agreed) -> tuple[int, ...]:
    """How many of the newest rows may be those from which on answers agree less: those with the largest sum of what is
    wrong beyond a share. Shares are half way to as few as count as a loss, which finds where a part of the classes was
    exchanged; and half of all, which finds where all were, to a row or two. Only what makes up most of the loss."""
    usual = 1 - was.share
    least = (sum(map(_wrong, rows)) - usual * len(rows)) / 2
    found = [_newest(rows, _wrong, min(0.95, usual + SLACK / 2)), _newest(rows, _wrong, 0.5)]
    return tuple(dict.fromkeys(count for count, wrong in found if count and wrong - usual * count >= least)) or (
        len(rows),)


def _wrong(row: Judged) -> bool:
    return row.truth != row.answer


def _newest(rows: Sequence[Judged], counts: Callable[[Judged], bool], share: float) -> tuple[int, int]:
    """The newest rows with the largest sum of what counts beyond a share (Page 1954), and how many of them do."""
    best, found, hits = 0.0, (0, 0), 0
    for number, row in enumerate(reversed(rows), 1):
        hits += counts(row)
        if hits - share * number > best:
            best, found = hits - share * number, (number, hits)
    return found


def over(rows: Sequence[Judged], was: Agreed) -> str:
    """How the labels of these rows are turned over; empty where they are not."""
    pairs = _pairs(rows)
    if not pairs:
        return ""
    return _exchanged(pairs, was) or _one_sided(pairs, was)


def might(rows: Sequence[Judged], was: Agreed) -> bool:
    """Whether these rows may be too few to show that labels are turned over: by three standard errors they could be. Of
    answers that are all the same more show nothing."""
    pairs = _pairs(rows)
    total = pairs.total()
    if not total:
        return False
    best, truths = _best(pairs), _shares(pairs, 0)
    name = max(sorted(truths), key=lambda one: truths[one])
    agree = sum(count for _, count in best.values()) / total
    varied = total < NEWEST or len({answer for _, answer in pairs}) > 1
    exchanged = varied and any(answer != truth for truth, (answer, _) in best.items())
    return bool((exchanged and agree >= was.share - max(SLACK, _error(was.share, total)))
                or (was.truths and truths[name] >= ONE_SIDED - _error(ONE_SIDED, total)
                    and was.truths.get(name, 0.0) <= MINORITY))


def _error(share: float, rows: int) -> float:
    """Three standard errors of a share over so many rows."""
    share = min(0.9, max(0.1, share))
    return 3 * sqrt(share * (1 - share) / rows)


def _best(pairs: Pairs) -> dict[str, tuple[str, int]]:
    """By label, the answer that it comes with most often, and how often."""
    of_truth: dict[str, Counter[str]] = {}
    for (truth, answer), count in sorted(pairs.items()):
        of_truth.setdefault(truth, Counter())[answer] += count
    return {truth: answers.most_common(1)[0] for truth, answers in of_truth.items()}


def _exchanged(pairs: Pairs, was: Agreed) -> str:
    best = _best(pairs)
    moved = sorted(truth for truth, (answer, _) in best.items() if answer != truth)
    if not moved or len({answer for answer, _ in best.values()}) < len(best):
        return ""
    rows = pairs.total()
    agree = sum(count for _, count in best.values()) / rows
    inside = Counter({pair: count for pair, count in pairs.items() if pair[0] in moved})
    if agree < was.share - SLACK or not (_opposed(inside) or _respread(pairs, best, was)):
        return ""
    names = ", ".join(f"{best[truth][0]} is called {truth}" for truth in moved)
    return f"of the newest {rows} answers {agree:.0%} agree with their labels once these are exchanged ({names})"


def _respread(pairs: Pairs, best: dict[str, tuple[str, int]], was: Agreed) -> bool:
    """Whether labels are spread as usual only once they are exchanged, by three standard errors, and answers as ever:
    where one class is rare that shows sooner than how the two go together."""
    rows, truths, answers = pairs.total(), _shares(pairs, 0), _shares(pairs, 1)
    if not was.truths or any(abs(answers.get(name, 0.0) - was.answers.get(name, 0.0)) > SLACK
                             for name in {*answers, *was.answers}):
        return False

    def apart(truth: str, as_usual: str) -> bool:
        usual = was.truths.get(as_usual, 0.0)
        return abs(truths[truth] - usual) > _error(usual, rows)

    return any(apart(truth, truth) for truth in best) and not any(
        apart(truth, answer) for truth, (answer, _) in best.items())


def _opposed(pairs: Pairs) -> bool:
    """Whether labels and answers are the same less often than if they had nothing to do with each other: one-sided,
    with the variance of their agreement for given shares of both (Fleiss, Cohen and Everitt 1969), which is small where
    one class is rare; half a step off for continuity."""
    rows, truths, answers = pairs.total(), _shares(pairs, 0), _shares(pairs, 1)
    both = {name: (share, answers.get(name, 0.0)) for name, share in truths.items()}
    chance = sum(truth * answer for truth, answer in both.values())
    spread = chance + chance ** 2 - sum(truth * answer * (truth + answer) for truth, answer in both.values())
    right = sum(count for (truth, answer), count in pairs.items() if truth == answer) / rows
    return chance - right - 1 / rows > _Z * sqrt(max(0.0, spread) / rows)


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
