"""The account of a search: which trial is taken, the table of the best, and why, in sentences for people."""

import json
from collections.abc import Sequence

from google.protobuf import json_format

from lepton.contracts.pb import models_pb2
from services.trainer.core.plan import Plan
from services.trainer.core.searching.columns import best_of, better, loss_of, settled
from services.trainer.core.searching.space import LINEAR, Space, proven
from services.trainer.core.searching.study import Kept, Trial

# A manifest travels over the bus with nine others.
TOLD, NAMED = 20, 8
_STATES = {"complete": models_pb2.TRIAL_STATE_COMPLETE, "pruned": models_pb2.TRIAL_STATE_PRUNED,
           "failed": models_pb2.TRIAL_STATE_FAILED}


def finalists(space: Space, trials: Sequence[Trial]) -> list[Trial]:
    """The best of each family, in their order, and where some of the menu was taken also the best without; none where
    there is nothing to compare."""
    found = _leaders(space, trials)
    return found if len(found) > 1 else []


def chosen(space: Space, trials: Sequence[Trial], finals: Sequence[Trial] = ()) -> Trial:
    """The simplest family whose best trial is within a standard error of the best, and of it the best trial.

    `space.families` are in order, the simplest first, and are compared by what came of their best when tried again: the
    least of many losses is too low, and the more so the more was tried (Cawley and Talbot 2010). Of a linear family it
    is, of the trials within an error of its best, the one with the heaviest penalty; of another the best of those known
    to do well within an error of the best or of what came of it when tried again, if there are any: what was drawn must
    be better by more than chance. The rule is Breiman's (Classification and Regression Trees, 1984), for penalties as
    Friedman, Hastie and Tibshirani (2010) use it. What was taken of the menu must do better by more than chance again.
    Raises ValueError when no trial was completed.
    """
    pairs = _confirmed(space, trials, finals)
    if not pairs:
        raise ValueError("no trial was completed")
    least = min((seen for _, seen in pairs), key=loss_of)
    reach = loss_of(least) + least.standard_error
    taken, again = next((one, seen) for one, seen in pairs if loss_of(seen) <= reach)
    # Penalties are tried in steps, and the least of so few is hardly lucky. The best of many networks was: by what came
    # of it when tried again the others are as good more often.
    counted = (taken,) if taken.family in LINEAR else (taken, again)
    reach = max(loss_of(one) + one.standard_error for one in counted)
    alike = [one for one in trials if (one.family, one.columns, one.state) == (
        taken.family, taken.columns, "complete") and loss_of(one) <= reach]
    if taken.family in LINEAR:
        return min(alike, key=lambda one: (-one.parameters.get("l2", 0.0), loss_of(one), one.number))
    return min((one for one in alike if proven(one.family, one.parameters)),
               key=lambda one: (loss_of(one), one.number), default=taken)


def compared(best: Sequence[Trial], finals: Sequence[Trial]) -> Sequence[Trial]:
    """By what families are compared: their finals, or where time did not allow for all of them, the trials."""
    return finals if len(finals) == len(best) and all(one.state == "complete" for one in finals) else best


def _leaders(space: Space, trials: Sequence[Trial]) -> list[Trial]:
    found = [best_of(trials, family, columns) for family in space.families
             for columns in dict.fromkeys((settled(space.menu, family, trials)[0], ()))]
    return [one for one in found if one is not None]


def _confirmed(space: Space, trials: Sequence[Trial], finals: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """The best of each family, with the columns that hold when tried again, and what it is compared by."""
    best = _leaders(space, trials)
    again = {(one.family, one.columns): seen for one, seen in zip(best, finals, strict=False)
             if seen.state == "complete"}
    found: list[tuple[Trial, Trial]] = []
    for one, seen in zip(best, compared(best, finals), strict=True):
        before = found[-1][0] if found and found[-1][0].family == one.family else None
        # Of one family, what was taken of the menu comes first, then without.
        if before is None:
            found.append((one, seen))
        elif not _held(again.get((one.family, before.columns)), again.get((one.family, one.columns))):
            found[-1] = (one, seen)
    return found


def _held(rival: Trial | None, than: Trial | None) -> bool:
    """Whether both were tried again, and the first was better again."""
    return rival is not None and than is not None and better(rival, than)


def account(plan: Plan, space: Space, kept: Kept, taken: Trial, learnt_from: str) -> str:
    """A `lepton.v1.Search` as JSON; of many trials it holds the best, whatever their state."""
    trials = kept.trials
    told = sorted(trials, key=lambda one: (one.state != "complete", one.number if one.loss is None else one.loss,
                                           one.number))[:TOLD]
    told = sorted({one.number: one for one in [*told, taken]}.values(), key=lambda one: one.number)
    search = models_pb2.Search(
        explanation=_explained(plan, space, kept, taken, learnt_from), chosen=taken.number,
        trials=[models_pb2.Trial(number=one.number, family=one.family, loss=one.loss or 0.0, state=_STATES[one.state],
                                 parameters_json=json.dumps(one.parameters, sort_keys=True),
                                 standard_error=one.standard_error,
                                 # Names of all fields: what learns on needs those of one trial.
                                 transforms_json=_transforms(space, taken) if one is taken else "")
                for one in told])
    return json_format.MessageToJson(search, preserving_proto_field_name=True, indent=None)


def _transforms(space: Space, trial: Trial) -> str:
    found = space.menu.transforms(trial.columns)
    return json.dumps([one.model_dump(mode="json", exclude_none=True) for one in found]) if found else ""


def _explained(plan: Plan, space: Space, kept: Kept, taken: Trial, learnt_from: str) -> str:
    trials = kept.trials
    count = {state: sum(one.state == state for one in trials) for state in _STATES}
    measure = "log loss" if plan.task == "classification" else "squared error in units of the label's variance"
    said = [f"{len(trials)} trials of {', '.join(space.families)} on {learnt_from}, compared by {measure}: "
            f"{count['complete']} to the end, {count['pruned']} ended early as behind the others, "
            f"{count['failed']} failed.",
            f"Taken is trial {taken.number}, {_told(taken)}."]
    counted = {one.family: one for one, _ in _confirmed(space, trials, kept.finals)}
    for family in space.families:
        other = counted.get(family)
        if other is taken:
            continue
        if other is None:
            said.append(f"No trial of {family} came to its end.")
        elif family == taken.family:
            why = "less penalised" if other.family in LINEAR else "found by chance, not known to do well"
            said.append(f"{_told(other)} is better by less than the best's standard error, and {why}.")
        else:
            said.append(f"The best of {family}: {_told(other)}.")
    best = finalists(space, trials)
    if best and compared(best, kept.finals) is kept.finals:
        said.append("Tried again on other folds and from other weights, the best of each family: " + ", ".join(
            f"{one.family}{_beside(one)} {_judged(one)}" for one in kept.finals) + ".")
    if best:
        said.append("Taken is the simplest family within a standard error of the best.")
    if any(one.columns for one in trials):
        said.append(_of_columns(space, taken, trials))
    return " ".join(said)


def _of_columns(space: Space, taken: Trial, trials: Sequence[Trial]) -> str:
    """What was tried of the menu with the family that is taken, and why it is or is not."""
    own = [one for one in trials if one.family == taken.family]
    tried = [f"{' with '.join(columns)} {_judged(one) if one.state == 'complete' else one.state}"
             for columns in dict.fromkeys(one.columns for one in own if one.columns)
             for one in [best_of(own, taken.family, columns) or next(one for one in own if one.columns == columns)]]
    without = best_of(own, taken.family, ())
    beside = f", without {_judged(without)}" if without is not None else ""
    if not tried:
        return f"Fields that no transform is declared for stay as they are with {taken.family}."
    told = f"For fields that no transform is declared for, {taken.family} tried {', '.join(tried)}{beside}: "
    if not taken.columns:
        better_once = settled(space.menu, taken.family, trials)[0]
        return told + (f"{', '.join(better_once)} was not seen to do better again" if better_once else
                       "none is better by more than its standard error") + ", so they stay as they are."
    fields = "; ".join(f"{one.kind} of {_some(one.of)}" for one in space.menu.transforms(taken.columns))
    return told + f"taken is what is better by more than its standard error: {fields}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _told(trial: Trial) -> str:
    values = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                       for name, value in sorted(trial.parameters.items()))
    return f"{trial.family} with {values or 'the parameters as they are'}{_beside(trial)}: {_judged(trial)}"


def _beside(trial: Trial) -> str:
    return f" and {', '.join(trial.columns)}" if trial.columns else ""


def _judged(trial: Trial) -> str:
    return f"{loss_of(trial):.4g}" + (f" ± {trial.standard_error:.2g}" if trial.standard_error else "")
