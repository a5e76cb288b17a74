"""A whole search as one function: a plan that says what to try in, the plan of what to learn out.

    kept = what an earlier life of the run saved
    until there are as many trials as asked for, or their time is over:
        draw the next                     from those that ended and the seed alone; after the first ones each family
                                          also with other columns of fields that no transform is declared for
        train it, fold by fold            on the first fold it is ended when it falls behind
        save what came of it
    try the best of each family again     on other folds, from other first weights
    take one, and say why

Of the time asked for so much is left as the training that follows will need, as far as trials tell.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from lepton.contracts.modelling.transforms import Transform
from services.trainer.core.deadline import TIME_LIMIT
from services.trainer.core.failure import RunFailed, bad_parameter, no_resource, of_error
from services.trainer.core.plan import Plan
from services.trainer.core.searching import drawing, study, telling
from services.trainer.core.searching.menu import PLAIN, Menu, Names
from services.trainer.core.searching.space import Space

# The other part of a run's time is left for the training that follows.
SHARE_OF_LIMIT = 0.5
# A trial's fold lacks a fifth of the rows; what it took is no promise, and a file is made and measured besides.
ROWS_OF_FOLD, MARGIN = 0.8, 1.5
_OTHER_SEED = 104_729
Tell = Callable[[str, dict[str, float]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notes:
    """What a search needs beside its plan and rows: what it kept (None: nothing), and where to keep and tell."""

    kept: bytes | None
    save: Callable[[bytes], None]
    tell: Tell
    monotonic: Callable[[], float]
    check: Callable[[str], None] = lambda where: None
    """Raises RunFailed, named `time_limit`, when the time of the whole run is over."""


def find(plan: Plan, attempts: Callable[[], study.Attempt], notes: Notes, menu: Menu = PLAIN) -> Plan:
    """The plan of what is to be learnt, with the account of how it was found. Raises RunFailed.

    The same plan, rows and menu give the same answer while no time runs out, in however many lives it was found.
    `attempts` is called only where there is something left to try.
    """
    return plan if plan.search is None else _Search(plan, notes, menu).found(attempts)


class _Search:
    def __init__(self, plan: Plan, notes: Notes, menu: Menu) -> None:
        assert plan.search is not None
        self._asked = plan.search
        self._plan = plan
        self._notes = notes
        self._space = Space(plan, menu)
        self._epochs = self._asked.epochs or plan.parameters.epochs
        self._seconds = min(self._asked.seconds or plan.limit_s, SHARE_OF_LIMIT * plan.limit_s)
        # What a run learns: what was found, and that anew in each fold it is to be evaluated in.
        self._trainings = 1 + (plan.evaluate.folds or 0)
        self._preparing_s = 0.0
        self._kept = _kept(notes.kept)
        # Of former lives only what trials took is known; in this one all counts, also what lies between them.
        self._ends = notes.monotonic() + self._seconds - sum(
            one.seconds for one in (*self._kept.trials, *self._kept.finals))
        self._failure: RunFailed | None = None

    def found(self, attempts: Callable[[], study.Attempt]) -> Plan:
        if not self._kept.ended:
            began = self._notes.monotonic()
            attempt = attempts()
            self._preparing_s = self._notes.monotonic() - began
            self._notes.check("with rows prepared for the first trial")
            self._try_all(attempt)
        ended = self._kept.trials
        try:
            taken = telling.chosen(self._space, ended, self._kept.finals)
        except ValueError:
            raise self._hopeless() from None
        plan = self._plan.model_copy(update={
            "family": taken.family, "parameters": self._space.parameters(taken.parameters), "search": None,
            "transforms": self._transforms(taken.columns)})
        rows = "folds" if any(one.standard_error for one in ended) else "a fifth"
        return plan.model_copy(update={"found": telling.account(
            plan, self._space, self._kept, taken, f"{rows} of the training rows")})

    def _try_all(self, attempt: study.Attempt) -> None:
        while len(self._kept.trials) < self._asked.trials and (
                self._left() > self._following() or not self._any_complete()):
            ended = self._kept.trials
            begun = drawing.begin(self._space, self._plan.parameters.seed, self._epochs, ended)
            one = self._try(begun, attempt)
            self._keep(study.Kept((*ended, one)))
        finalists = telling.finalists(self._space, self._kept.trials)
        for one in finalists[len(self._kept.finals):]:
            self._keep(replace(self._kept, finals=(*self._kept.finals, self._try_again(one, attempt))))
        self._keep(replace(self._kept, ended=True))

    def _try(self, begun: drawing.Begun, attempt: study.Attempt) -> study.Trial:
        number, course, spent = len(self._kept.trials) + 1, list[float](), _Spent(self._notes.monotonic)
        following = self._following()
        beside = f" with {', '.join(begun.columns)}" if begun.columns else ""
        self._notes.tell(f"trial {number} of {self._asked.trials}: {begun.family}{beside}", self._least())

        def after_epoch(fold: int, epoch: int, loss: float) -> None:
            self._notes.check(f"at epoch {epoch} of trial {number}")
            if epoch == 0:
                spent.ready()
                return
            if fold == 0:
                course.append(loss)
                if begun.behind(epoch, loss):
                    raise study.Pruned("behind the others")
            own = self._training(spent.learning() * self._epochs / (fold * self._epochs + epoch))
            if self._any_complete() and max(following, own) > self._left():
                raise study.Pruned("the search's time is over")

        one = study.Trial(number, begun.family, begun.drawn, begun.parameters, "complete", None, 0.0,
                          columns=begun.columns)
        return self._came_of(one, spent, lambda: attempt(self._tried(one), after_epoch), course)

    def _try_again(self, one: study.Trial, attempt: study.Attempt) -> study.Trial:
        """The very same with another seed: of many trials the best was lucky, and in this its luck has no part."""
        spent = _Spent(self._notes.monotonic)
        self._notes.tell(f"trial {one.number} once more: {one.family}", self._least())
        plan = self._tried(one)
        parameters = plan.parameters.model_copy(update={"seed": (plan.parameters.seed + _OTHER_SEED) % 2**31})

        def after_epoch(fold: int, epoch: int, loss: float) -> None:
            self._notes.check(f"at epoch {epoch} of trial {one.number} once more")
            if epoch == 0:
                spent.ready()
            if self._training(_fold_s(one)) > self._left():
                raise study.Pruned("the search's time is over")

        return self._came_of(replace(one, course=()), spent,
                             lambda: attempt(plan.model_copy(update={"parameters": parameters}), after_epoch), [])

    def _tried(self, one: study.Trial) -> Plan:
        """Raises ValidationError where the values do not go together."""
        parameters = self._space.parameters(one.parameters).model_copy(update={"epochs": self._epochs})
        return self._plan.model_copy(update={"family": one.family, "parameters": parameters,
                                             "transforms": self._transforms(one.columns)})

    def _transforms(self, columns: Names) -> tuple[Transform, ...]:
        return (*self._plan.transforms, *self._space.menu.transforms(columns))

    def _came_of(self, one: study.Trial, spent: "_Spent", attempt: Callable[[], study.Judged],
                 course: Sequence[float]) -> study.Trial:
        state: study.State = "complete"
        judged: study.Judged | None = None
        why = ""
        try:
            judged = attempt()
        except study.Pruned as behind:
            state, why = "pruned", str(behind)
        except (RunFailed, ValidationError, RuntimeError, MemoryError) as wrong:
            # One that cannot be trained says nothing of the others; the run fails when none can.
            self._failure = bad_parameter(str(wrong), "narrow model.search.ranges") if isinstance(
                wrong, ValidationError) else of_error(wrong)
            if self._failure.failure_class == "internal" or self._failure.name == TIME_LIMIT:
                raise
            state, why = "failed", self._failure.message
            log.info("trial %d of %s failed: %s", one.number, one.family, why)
        loss, error, folds = (judged.loss, judged.standard_error, judged.folds) if judged else (None, 0.0, 1)
        return replace(one, state=state, loss=loss, standard_error=error, folds=folds, course=tuple(course),
                       seconds=spent.whole(), preparing_s=spent.preparing_s, why=why)

    def _keep(self, kept: study.Kept) -> None:
        self._kept = kept
        self._notes.save(kept.to_json())

    def _left(self) -> float:
        """Seconds before the search's time is over, with the training that follows."""
        return self._ends - self._notes.monotonic()

    def _following(self) -> float:
        """Seconds needed yet when no trial follows: any may be taken, and the best of each family are tried again."""
        finalists = telling.finalists(self._space, self._kept.trials)
        # Their folds are others, which are prepared first.
        again = MARGIN * sum(one.seconds - one.preparing_s + self._preparing(one) for one in finalists)
        return again + max((self._training(_fold_s(one)) for one in self._kept.trials
                            if one.state == "complete"), default=0.0)

    def _preparing(self, one: study.Trial) -> float:
        """As far as known, what it takes until a trial with its columns can learn."""
        return max([self._preparing_s, *(other.preparing_s for other in self._kept.trials
                                         if other.columns == one.columns)])

    def _training(self, fold_s: float) -> float:
        return MARGIN * self._trainings * fold_s / ROWS_OF_FOLD * self._plan.parameters.epochs / self._epochs

    def _any_complete(self) -> bool:
        return any(one.state == "complete" for one in self._kept.trials)

    def _least(self) -> dict[str, float]:
        losses = [one.loss for one in self._kept.trials if one.loss is not None]
        return {"least_loss": min(losses)} if losses else {}

    def _hopeless(self) -> RunFailed:
        last = self._failure
        why = last.message if last else next((one.why for one in self._kept.trials[::-1] if one.why), "")
        message, remedy = f"none of {len(self._kept.trials)} trials could be trained, the last one: {why}", (
            last.remedy if last else "narrow model.search.ranges")
        if last is not None and last.failure_class == "resource":
            return no_resource(message, remedy, last.name)
        return bad_parameter(message, remedy, "search_without_result")


class _Spent:
    """Seconds of a trial since now, and how many of them went before it learnt."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began = monotonic()
        self.preparing_s = 0.0

    def ready(self) -> None:
        self.preparing_s = self.whole()

    def whole(self) -> float:
        return self._monotonic() - self._began

    def learning(self) -> float:
        return self.whole() - self.preparing_s


def _fold_s(one: study.Trial) -> float:
    return (one.seconds - one.preparing_s) / one.folds


def _kept(data: bytes | None) -> study.Kept:
    """What was saved; damaged, it costs its trials and not the run."""
    try:
        return study.Kept.from_json(data) if data is not None else study.Kept()
    except (ValueError, KeyError, TypeError) as error:
        log.warning("what the search had kept cannot be used, it begins anew: %s", error)
        return study.Kept()
