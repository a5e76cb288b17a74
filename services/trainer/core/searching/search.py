"""A whole search as one function: a plan that says what to try in, the plan of what to learn out.

    kept = what an earlier life of the run saved
    until there are as many trials as asked for, or their time is over:
        draw the next                     from those that ended and the seed alone
        train it, fold by fold            on the first fold it is ended when it falls behind
        save what came of it
    take one, and say why
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from pydantic import ValidationError

from services.trainer.core.failure import RunFailed, bad_parameter, no_resource, of_error
from services.trainer.core.plan import Plan
from services.trainer.core.searching import study, telling
from services.trainer.core.searching.space import Space

# The other part of a run's time is left for the training that follows.
SHARE_OF_LIMIT = 0.5
Tell = Callable[[str, dict[str, float]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notes:
    """What a search needs beside its plan and rows: what it kept (None: nothing), and where to keep and tell."""

    kept: bytes | None
    save: Callable[[bytes], None]
    tell: Tell
    monotonic: Callable[[], float]


def find(plan: Plan, attempts: Callable[[], study.Attempt], notes: Notes) -> Plan:
    """The plan of what is to be learnt, with the account of how it was found. Raises RunFailed.

    The same plan and rows give the same answer while no time runs out, in however many lives it was found. `attempts`
    is called only where there is something left to try.
    """
    return plan if plan.search is None else _Search(plan, notes).found(attempts)


class _Search:
    def __init__(self, plan: Plan, notes: Notes) -> None:
        assert plan.search is not None
        self._asked = plan.search
        self._plan = plan
        self._notes = notes
        self._space = Space(plan)
        self._epochs = self._asked.epochs or plan.parameters.epochs
        self._seconds = min(self._asked.seconds or plan.limit_s, SHARE_OF_LIMIT * plan.limit_s)
        self._kept = _kept(notes.kept)
        self._failure: RunFailed | None = None

    def found(self, attempts: Callable[[], study.Attempt]) -> Plan:
        if not self._kept.ended:
            self._try_all(attempts())
        ended = self._kept.trials
        try:
            taken = telling.chosen(self._space.families, ended)
        except ValueError:
            raise self._hopeless() from None
        plan = self._plan.model_copy(update={
            "family": taken.family, "parameters": self._space.parameters(taken.parameters), "search": None})
        rows = "folds" if any(one.standard_error for one in ended) else "a fifth"
        return plan.model_copy(update={"found": telling.account(
            plan, self._space.families, ended, taken, f"{rows} of the training rows")})

    def _try_all(self, attempt: study.Attempt) -> None:
        while len(self._kept.trials) < self._asked.trials and (self._left() > 0 or not self._any_complete()):
            ended = self._kept.trials
            drawn = study.begin(self._space, self._plan.parameters.seed, self._epochs, ended)
            one = self._try(drawn, attempt)
            self._keep(study.Kept((*ended, one)))
        self._keep(study.Kept(self._kept.trials, ended=True))

    def _try(self, drawn: optuna.Trial, attempt: study.Attempt) -> study.Trial:
        family, values = self._space.draw(drawn)
        number, began, course = len(self._kept.trials) + 1, self._notes.monotonic(), list[float]()
        self._notes.tell(f"trial {number} of {self._asked.trials}: {family}", self._least())

        def after_epoch(fold: int, epoch: int, least: float) -> None:
            if fold == 0:
                course.append(least)
                drawn.report(least, epoch)
                if drawn.should_prune():
                    raise study.Pruned("behind the others")
            if self._any_complete() and self._notes.monotonic() - began > self._left():
                raise study.Pruned("the search's time is over")

        state: study.State = "complete"
        loss, error, why = None, 0.0, ""
        try:
            parameters = self._space.parameters(values)
            plan = self._plan.model_copy(update={
                "family": family, "parameters": parameters.model_copy(update={"epochs": self._epochs})})
            loss, error = attempt(plan, after_epoch)
        except study.Pruned as behind:
            state, why = "pruned", str(behind)
        except (RunFailed, ValidationError, RuntimeError, MemoryError) as wrong:
            # One that cannot be trained says nothing of the others; the run fails when none can.
            self._failure = bad_parameter(str(wrong), "narrow model.search.ranges") if isinstance(
                wrong, ValidationError) else of_error(wrong)
            if self._failure.failure_class == "internal":
                raise
            state, why = "failed", self._failure.message
            log.info("trial %d of %s failed: %s", number, family, why)
        return study.Trial(number, family, dict(drawn.params), values, state, loss, error, tuple(course),
                           self._notes.monotonic() - began, why)

    def _keep(self, kept: study.Kept) -> None:
        self._kept = kept
        self._notes.save(kept.to_json())

    def _left(self) -> float:
        """Seconds before the trials' time is over."""
        return self._seconds - sum(one.seconds for one in self._kept.trials)

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


def _kept(data: bytes | None) -> study.Kept:
    """What was saved; damaged, it costs its trials and not the run."""
    try:
        return study.Kept.from_json(data) if data is not None else study.Kept()
    except (ValueError, KeyError, TypeError) as error:
        log.warning("what the search had kept cannot be used, it begins anew: %s", error)
        return study.Kept()
