"""The account of a search: which trial is taken, the table of the best, and why, in sentences for people."""

import json
from collections.abc import Sequence

from google.protobuf import json_format

from lepton.contracts.pb import models_pb2
from services.trainer.core.plan import Plan
from services.trainer.core.searching.study import Trial

# A manifest travels over the bus with nine others.
TOLD = 20
_STATES = {"complete": models_pb2.TRIAL_STATE_COMPLETE, "pruned": models_pb2.TRIAL_STATE_PRUNED,
           "failed": models_pb2.TRIAL_STATE_FAILED}


def chosen(families: Sequence[str], trials: Sequence[Trial]) -> Trial:
    """The simplest family whose best trial is within a standard error of the best, and of it the best trial.

    `families` are in order, the simplest first. The rule is Breiman's (Classification and Regression Trees, 1984).
    Raises ValueError when no trial was completed.
    """
    best = _best(trials)
    if best is None:
        raise ValueError("no trial was completed")
    of_families = [_best([one for one in trials if one.family == family]) for family in families]
    reach = _loss(best) + best.standard_error
    return next(one for one in of_families if one is not None and _loss(one) <= reach)


def account(plan: Plan, families: Sequence[str], trials: Sequence[Trial], taken: Trial, learnt_from: str) -> str:
    """A `lepton.v1.Search` as JSON; of many trials it holds the best, whatever their state."""
    told = sorted(trials, key=lambda one: (one.state != "complete", one.number if one.loss is None else one.loss,
                                           one.number))[:TOLD]
    told = sorted({one.number: one for one in [*told, taken]}.values(), key=lambda one: one.number)
    search = models_pb2.Search(
        explanation=_explained(plan, families, trials, taken, learnt_from), chosen=taken.number,
        trials=[models_pb2.Trial(number=one.number, family=one.family, loss=one.loss or 0.0, state=_STATES[one.state],
                                 parameters_json=json.dumps(one.parameters, sort_keys=True),
                                 standard_error=one.standard_error) for one in told])
    return json_format.MessageToJson(search, preserving_proto_field_name=True, indent=None)


def _explained(plan: Plan, families: Sequence[str], trials: Sequence[Trial], taken: Trial, learnt_from: str) -> str:
    count = {state: sum(one.state == state for one in trials) for state in _STATES}
    measure = "log loss" if plan.task == "classification" else "squared error in units of the label's variance"
    said = [f"{len(trials)} trials of {', '.join(families)} on {learnt_from}, compared by {measure}: "
            f"{count['complete']} to the end, {count['pruned']} ended early as behind the others, "
            f"{count['failed']} failed.",
            f"Taken is trial {taken.number}, {_told(taken)}."]
    for family in families:
        other = _best([one for one in trials if one.family == family])
        if family == taken.family:
            continue
        if other is None:
            said.append(f"No trial of {family} came to its end.")
        elif _loss(other) < _loss(taken):
            said.append(f"{_told(other)} is better by less than its standard error, and less simple.")
        else:
            said.append(f"The best of {family}: {_told(other)}.")
    return " ".join(said)


def _told(trial: Trial) -> str:
    values = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                       for name, value in sorted(trial.parameters.items()))
    error = f" ± {trial.standard_error:.2g}" if trial.standard_error else ""
    return f"{trial.family} with {values or 'the parameters as they are'}: {_loss(trial):.4g}{error}"


def _best(trials: Sequence[Trial]) -> Trial | None:
    return min((one for one in trials if one.state == "complete"), key=lambda one: (_loss(one), one.number),
               default=None)


def _loss(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss
