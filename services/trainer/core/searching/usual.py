"""What a search tries of each family where nothing is declared, and what one tries that is to heal; needs no optuna."""

from lepton.contracts.modelling.blocks import ModelSpec, Parameters
from lepton.contracts.modelling.families import AUTO, Family
from lepton.contracts.pipeline_blocks import Search, Tried

_RATE = Tried(low=0.003, high=0.3, log=True)
USUAL: dict[Family, dict[str, Tried]] = {
    "linear_regression": {"learning_rate": _RATE, "l2": Tried(low=1e-5, high=1.0, log=True)},
    "logistic_regression": {"learning_rate": _RATE, "l2": Tried(low=1e-5, high=1.0, log=True)},
    "mlp": {"learning_rate": Tried(low=0.001, high=0.05, log=True), "l2": Tried(low=1e-5, high=0.1, log=True),
            "dropout": Tried(low=0.0, high=0.5),
            "hidden": Tried(one_of=((16,), (32,), (64,), (32, 16), (64, 32)))},
    "cnn": {"learning_rate": Tried(low=0.001, high=0.03, log=True), "dropout": Tried(low=0.0, high=0.5),
            "channels": Tried(one_of=((16,), (16, 32), (32, 64)))},
    "gru": {"learning_rate": Tried(low=0.001, high=0.03, log=True), "dropout": Tried(low=0.0, high=0.5),
            "units": Tried(one_of=(16, 32, 64))},
}
"""Families `auto` picks from, the simplest first, and what is tried of each where nothing is declared."""
ANY = {"learning_rate": _RATE, "l2": Tried(low=1e-5, high=0.1, log=True)}
"""The same of every other family."""

BUDGET = Search(trials=40, seconds=240.0)
"""Of `auto`, where nothing is said: with the training that follows, and all that surrounds it, within five minutes."""
TUNING = Search(trials=20, seconds=240.0)
"""Of a run that is to heal, where the Pipeline says nothing."""

_SIZES = frozenset({"hidden", "channels", "units"})
"""Parameters that say how large, and so how slow, a model is."""


def tuning(model: ModelSpec, seconds: float = 0.0) -> Search:
    """The search of a run that is to heal what is wrong with a model's parameters, done within `seconds` (0: 240).

    The Pipeline's own, where it has one, but never longer; else what is usual for the family. How fast and how freely
    it learns is then tried whatever the Pipeline says, since that may be the fault; a size that somebody chose is
    kept, as the model is served at it.
    """
    own = model.search or (BUDGET if model.family == AUTO else None)
    most = seconds or TUNING.seconds or 0.0
    if own is not None:
        return own.model_copy(update={"seconds": min(own.seconds or most, most)})
    ranges = {name: tried for name, tried in USUAL.get(model.family, ANY).items()
              if name not in _SIZES or getattr(model.parameters, name) == Parameters.model_fields[name].default}
    return TUNING.model_copy(update={"seconds": most, "ranges": ranges})
