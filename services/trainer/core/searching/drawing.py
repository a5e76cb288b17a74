"""The next trial of a search: a function of those that ended and the seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from services.trainer.core.searching.columns import best_of, settled
from services.trainer.core.searching.menu import Names
from services.trainer.core.searching.space import Space
from services.trainer.core.searching.study import Trial

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
# Odd and large, so that the seeds of neighbouring studies and trials do not meet.
_SEED_STEP = 7_368_787
# Trials drawn by chance before the sampler learns from them, and trials that end before one is compared with them.
DRAWN_FIRST, COMPARED_FROM = 8, 4


@dataclass(frozen=True, slots=True)
class Begun:
    """A trial before its first epoch; `drawn` are optuna's values, by which later ones are chosen."""

    family: str
    drawn: dict[str, Any]
    parameters: dict[str, Any]
    columns: Names = ()
    compared: optuna.Trial | None = None

    def behind(self, epoch: int, loss: float) -> bool:
        """Whether it does worse than the others did by that epoch; never, where it is there to be compared with."""
        if self.compared is None:
            return False
        self.compared.report(loss, epoch)
        return self.compared.should_prune()


def begin(space: Space, seed: int, epochs: int, ended: Sequence[Trial]) -> Begun:
    """The trial after `ended`, whatever processes those ran in.

    First what the search begins with; then for each family what the menu has for its fields, each with the best
    parameters so far, and where some of it was taken what is known to do well once more with that; then what is drawn.
    What is drawn follows from trials with the columns that were taken, so that where nothing was they are the same as
    without a menu.
    """
    starts = space.starts()
    taken: dict[str, Names] = {}
    for family in space.families if len(ended) >= len(starts) else ():
        taken[family], untried = settled(space.menu, family, ended)
        if untried is not None:
            return _beside(family, taken[family], untried, ended)
    for family in space.families:
        columns = taken.get(family, ())
        again = next((one for one in space.known(family) if not any(
            (other.columns, other.drawn) == (columns, one) for other in ended)), None)
        if columns and again is not None:
            return _of(space, _study(space, seed, epochs, (), 0), again, columns)
    alike = [one for one in ended if one.columns == taken.get(one.family, ())]
    of_menu = len({(one.family, one.columns) for one in ended if one.columns})
    study = _study(space, seed, epochs, alike, len(ended) - of_menu)
    return _of(space, study, starts[len(ended)] if len(ended) < len(starts) else None, taken)


def _beside(family: str, taken: Names, columns: Names, ended: Sequence[Trial]) -> Begun:
    """The best trial's parameters with other columns; the first one's where none came to its end."""
    like = best_of(ended, family, taken) or next(one for one in ended if one.family == family)
    return Begun(family, dict(like.drawn), dict(like.parameters), columns)


def _of(space: Space, study: optuna.Study, start: dict[str, Any] | None,
        columns: Names | Mapping[str, Names]) -> Begun:
    """`columns`: of a trial that is there to be compared with, else of each family."""
    if start is not None:
        study.enqueue_trial(start)
    asked = study.ask()
    family, values = space.draw(asked)
    if isinstance(columns, Mapping):
        return Begun(family, dict(asked.params), values, columns.get(family, ()), asked)
    return Begun(family, dict(asked.params), values, columns)


def _study(space: Space, seed: int, epochs: int, ended: Sequence[Trial], place: int) -> optuna.Study:
    """Tree-structured Parzen estimator (Bergstra et al. 2011) and the median stopping rule (Golovin et al. 2017)."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=TPESampler(seed=(seed + (1 + place) * _SEED_STEP) % 2**32, n_startup_trials=DRAWN_FIRST),
        # What is known to do well may begin slowly, and is there to be compared with.
        pruner=MedianPruner(n_startup_trials=max(COMPARED_FROM, len(space.starts())), n_warmup_steps=epochs // 5))
    for one in ended:
        study.add_trial(create_trial(
            state=_STATES[one.state], value=one.loss if one.state == "complete" else None, params=one.drawn,
            distributions=space.distributions(one.drawn),
            intermediate_values=dict(enumerate(one.course, start=1))))
    return study
