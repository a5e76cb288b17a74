"""How a family's fields become columns, by what came of its trials: what is taken so far, and what is tried next."""

from collections.abc import Sequence

from services.trainer.core.searching.menu import Menu, Names
from services.trainer.core.searching.study import Trial

# Of a single fold nobody knows the error: so much of the loss stands in for it.
UNSURE = 0.02


def settled(menu: Menu, family: str, trials: Sequence[Trial]) -> tuple[Names, Names | None]:
    """What the trials speak for, and what is to be tried next; None where nothing is left.

    Forward, one type of field after the other: each entry is tried beside what was taken of the types before, and the
    best of them taken if it is better than without by more than chance. The first trial of each is what counts, beside
    those before it: trials that follow change nothing in that.
    """
    own = [one for one in trials if one.family == family]
    taken: Names = ()
    for entries in menu.of(family):
        rivals = [(*taken, entry.name) for entry in entries]
        first = {rival: next((one for one in own if one.columns == rival), None) for rival in rivals}
        untried = next((rival for rival, one in first.items() if one is None), None)
        if untried is not None:
            return taken, untried
        found = [one for one in first.values()
                 if one is not None and one.state == "complete" and _pays(one, own, taken)]
        if found:
            taken = min(found, key=lambda one: (loss_of(one), one.number)).columns
    return taken, None


def _pays(rival: Trial, own: Sequence[Trial], taken: Names) -> bool:
    """Whether it did better than the best before it with what was taken."""
    without = best_of([one for one in own if one.number < rival.number], rival.family, taken)
    return without is None or better(rival, without)


def better(rival: Trial, than: Trial) -> bool:
    """Whether its loss is less by more than its standard error; of other folds, which say nothing, it is not."""
    if rival.folds != than.folds:
        return False
    error = rival.standard_error if rival.folds > 1 else UNSURE * abs(loss_of(than))
    return loss_of(rival) < loss_of(than) - error


def best_of(trials: Sequence[Trial], family: str, columns: Names) -> Trial | None:
    """The least loss with just these columns."""
    return min((one for one in trials if (one.family, one.columns, one.state) == (family, columns, "complete")),
               key=lambda one: (loss_of(one), one.number), default=None)


def loss_of(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss
