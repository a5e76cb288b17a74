"""How a family's fields become columns, by what came of its trials: what is taken so far, and what is tried next."""

from collections.abc import Sequence

from services.trainer.core.searching.menu import Menu, Names
from services.trainer.core.searching.study import Trial

# Of a single fold nobody knows the error: so much of the loss stands in for it.
UNSURE = 0.02


def settled(menu: Menu, family: str, trials: Sequence[Trial]) -> tuple[Names, Names | None]:
    """What the trials speak for, and what is to be tried next; None where nothing is left.

    Forward, one type of field after the other: each entry is tried beside what was taken of the types before, and the
    best of them taken if it is better than without by more than chance. Trials that follow change nothing in that.
    """
    own = [one for one in trials if one.family == family]
    taken: Names = ()
    for entries in menu.of(family):
        rivals = [(*taken, entry.name) for entry in entries]
        untried = next((rival for rival in rivals if not any(one.columns == rival for one in own)), None)
        if untried is not None:
            return taken, untried
        without = best_of(own, family, taken)
        found = [one for rival in rivals if (one := best_of(own, family, rival)) is not None
                 and (without is None or better(one, without))]
        if found:
            taken = min(found, key=lambda one: (loss_of(one), one.number)).columns
    return taken, None


def better(rival: Trial, than: Trial) -> bool:
    """Whether its loss is less by more than its standard error."""
    error = rival.standard_error if rival.folds > 1 else UNSURE * abs(loss_of(than))
    return loss_of(rival) < loss_of(than) - error


def best_of(trials: Sequence[Trial], family: str, columns: Names) -> Trial | None:
    """The least loss with just these columns."""
    return min((one for one in trials if (one.family, one.columns, one.state) == (family, columns, "complete")),
               key=lambda one: (loss_of(one), one.number), default=None)


def loss_of(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss
