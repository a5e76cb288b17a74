"""The account of a search: which trial is taken, the table of the best, and why, in sentences for people."""

import json
from collections.abc import Sequence

from google.protobuf import json_format

from lepton.contracts.pb import models_pb2
from services.trainer.core.plan import Plan
from services.trainer.core.searching.space import LINEAR, proven
from services.trainer.core.searching.study import Kept, Trial

# A manifest travels over the bus with nine others.
TOLD = 20
_STATES = {"complete": models_pb2.TRIAL_STATE_COMPLETE, "pruned": models_pb2.TRIAL_STATE_PRUNED,
           "failed": models_pb2.TRIAL_STATE_FAILED}


def finalists(families: Sequence[str], trials: Sequence[Trial]) -> list[Trial]:
    """The best of each family, in their order; none where there is nothing to compare."""
    found = [_best([one for one in trials if one.family == family]) for family in families]
    best = [one for one in found if one is not None]
    return best if len(best) > 1 else []


def chosen(families: Sequence[str], trials: Sequence[Trial], finals: Sequence[Trial] = ()) -> Trial:
    """The simplest family whose best trial is within a standard error of the best, and of it the best trial.

    `families` are in order, the simplest first, and are compared by what came of their best when tried again: the least
    of many losses is too low, and the more so the more was tried (Cawley and Talbot 2010). The reach within a family is
    by that, too. Of a linear family it is, of the trials within it, the one with the heaviest penalty; of another the
    best of those within it that are known to do well, if there are any: what was drawn must be better by more than
    chance. The rule is Breiman's (Classification and Regression Trees, 1984), for penalties as Friedman, Hastie and
    Tibshirani (2010) use it. Raises ValueError when no trial was completed.
    """
    best = finalists(families, trials) or [one for one in [_best(trials)] if one is not None]
    if not best:
        raise ValueError("no trial was completed")
    judged = compared(best, finals)
    least = min(judged, key=_loss)
    reach = _loss(least) + least.standard_error
    taken, again = next((one, seen) for one, seen in zip(best, judged, strict=True) if _loss(seen) <= reach)
    # The best of many was lucky; by what came of it when tried again the others are as good more often.
    reach = max(_loss(one) + one.standard_error for one in (taken, again))
    alike = [one for one in trials if one.family == taken.family and one.state == "complete" and _loss(one) <= reach]
    if taken.family in LINEAR:
        return min(alike, key=lambda one: (-one.parameters.get("l2", 0.0), _loss(one), one.number))
    return _best([one for one in alike if proven(one.family, one.parameters)]) or taken


def compared(best: Sequence[Trial], finals: Sequence[Trial]) -> Sequence[Trial]:
    """By what families are compared: their finals, or where time did not allow for all of them, the trials."""
    return finals if len(finals) == len(best) and all(one.state == "complete" for one in finals) else best


def account(plan: Plan, families: Sequence[str], kept: Kept, taken: Trial, learnt_from: str) -> str:
    """A `lepton.v1.Search` as JSON; of many trials it holds the best, whatever their state."""
    trials = kept.trials
    told = sorted(trials, key=lambda one: (one.state != "complete", one.number if one.loss is None else one.loss,
                                           one.number))[:TOLD]
    told = sorted({one.number: one for one in [*told, taken]}.values(), key=lambda one: one.number)
    search = models_pb2.Search(
        explanation=_explained(plan, families, kept, taken, learnt_from), chosen=taken.number,
        trials=[models_pb2.Trial(number=one.number, family=one.family, loss=one.loss or 0.0, state=_STATES[one.state],
                                 parameters_json=json.dumps(one.parameters, sort_keys=True),
                                 standard_error=one.standard_error) for one in told])
    return json_format.MessageToJson(search, preserving_proto_field_name=True, indent=None)


def _explained(plan: Plan, families: Sequence[str], kept: Kept, taken: Trial, learnt_from: str) -> str:
    trials = kept.trials
    count = {state: sum(one.state == state for one in trials) for state in _STATES}
    measure = "log loss" if plan.task == "classification" else "squared error in units of the label's variance"
    said = [f"{len(trials)} trials of {', '.join(families)} on {learnt_from}, compared by {measure}: "
            f"{count['complete']} to the end, {count['pruned']} ended early as behind the others, "
            f"{count['failed']} failed.",
            f"Taken is trial {taken.number}, {_told(taken)}."]
    for family in families:
        other = _best([one for one in trials if one.family == family])
        if other is taken:
            continue
        if other is None:
            said.append(f"No trial of {family} came to its end.")
        elif family == taken.family:
            why = "less penalised" if other.family in LINEAR else "found by chance, not known to do well"
            said.append(f"{_told(other)} is better by less than the best's standard error, and {why}.")
        else:
            said.append(f"The best of {family}: {_told(other)}.")
    best = finalists(families, trials)
    if best and compared(best, kept.finals) is kept.finals:
        said.append("Tried again on other folds and from other weights, the best of each family: " + ", ".join(
            f"{one.family} {_judged(one)}" for one in kept.finals) + ".")
    if best:
        said.append("Taken is the simplest family within a standard error of the best.")
    return " ".join(said)


def _told(trial: Trial) -> str:
    values = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                       for name, value in sorted(trial.parameters.items()))
    return f"{trial.family} with {values or 'the parameters as they are'}: {_judged(trial)}"


def _judged(trial: Trial) -> str:
    return f"{_loss(trial):.4g}" + (f" ± {trial.standard_error:.2g}" if trial.standard_error else "")


def _best(trials: Sequence[Trial]) -> Trial | None:
    return min((one for one in trials if one.state == "complete"), key=lambda one: (_loss(one), one.number),
               default=None)


def _loss(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss
