"""What each model family is for, and which parameters it takes beyond the common ones; nothing of how it learns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Family = Literal["linear_regression", "logistic_regression", "mlp",
                 "cnn", "rnn", "lstm", "gru", "transformer", "autoencoder", "recommender",
                 "q_learning", "dqn", "torch_module", "auto"]
AUTO = "auto"
"""No family of its own: a search says which of those that fit the label it is, and with which parameters."""


@dataclass(frozen=True, slots=True)
class FamilyRules:
    """`tasks` it fits; `parameters` it takes beyond `COMMON`."""

    tasks: frozenset[str]
    parameters: frozenset[str] = frozenset()

    @property
    def own_task(self) -> str | None:
        """The task, where the family says it and not the label (ADR 0011)."""
        return None if self.tasks & BOTH else next(iter(self.tasks))

    @property
    def head_only(self) -> bool:
        """Whether the network is one layer, from the fields to the scores."""
        return not self.parameters


BOTH = frozenset({"regression", "classification"})
COMMON = frozenset({"epochs", "learning_rate", "l2", "batch_size", "seed", "optimizer", "momentum", "schedule",
                    "warmup_epochs", "l1", "clip_norm", "patience", "class_weights", "sampling", "label_smoothing"})
"""Parameters every family takes."""
CLASSES_ONLY = frozenset({"class_weights", "sampling", "label_smoothing"})
"""Parameters that mean something only where classes are learnt."""
CLASS_TASKS = frozenset({"classification", "ranking"})
"""Tasks in which they are; of a recommender the items."""

LOOKING = frozenset({"hidden", "dropout", "units", "vocabulary", "tokens"})
"""Parameters of every family that looks along a series, a text or an image."""
SHAPED = frozenset({"cnn", "rnn", "lstm", "gru", "transformer"})
"""Families that look along vectors, sequences and texts; the others take them as plain columns."""
NOT_SEARCHED = frozenset({"seed", "epochs", "patience", "class_weights", "image", "module"})
"""Parameters no search tries: chance, how long is tried, and what would change the loss trials are compared by."""

FAMILIES: dict[str, FamilyRules] = {
    "linear_regression": FamilyRules(frozenset({"regression"})),
    "logistic_regression": FamilyRules(frozenset({"classification"})),
    "mlp": FamilyRules(BOTH, frozenset({"hidden", "dropout", "members"})),
    "cnn": FamilyRules(BOTH, LOOKING | {"image", "channels", "kernel"}),
    "rnn": FamilyRules(BOTH, LOOKING | {"depth"}),
    "lstm": FamilyRules(BOTH, LOOKING | {"depth"}),
    "gru": FamilyRules(BOTH, LOOKING | {"depth"}),
    "transformer": FamilyRules(BOTH, LOOKING | {"depth", "heads"}),
    "autoencoder": FamilyRules(frozenset({"anomaly"}), frozenset({"hidden", "dropout", "code", "contamination"})),
    "recommender": FamilyRules(frozenset({"ranking"}), frozenset({"hidden", "dropout", "factors", "top_k"})),
    "q_learning": FamilyRules(frozenset({"policy"}), frozenset({"discount", "caution", "bins"})),
    "dqn": FamilyRules(frozenset({"policy"}), frozenset({"hidden", "dropout", "discount", "caution"})),
    "torch_module": FamilyRules(BOTH, frozenset({"module"})),
    AUTO: FamilyRules(BOTH),
}


EXPLAINED = frozenset({"linear_regression", "logistic_regression", "mlp"}) | SHAPED
"""Families that can give each row's attributions as an output (`model.explain.rows`)."""


def fitting(task: str) -> tuple[str, ...]:
    """Families for a task, in the order of the table."""
    return tuple(name for name, rules in FAMILIES.items() if task in rules.tasks)


def foreign(family: str, parameters: Iterable[str]) -> list[str]:
    """Those of `parameters` that the family does not take, sorted."""
    return sorted(set(parameters) - COMMON - FAMILIES[family].parameters)


def takers(parameter: str) -> tuple[str, ...]:
    """Families that take a parameter which is not common to all."""
    return tuple(name for name, rules in FAMILIES.items() if parameter in rules.parameters)


def searched_for(family: str, parameter: str) -> bool:
    """Whether a search for the family tries the parameter; one for `auto`, those of any family."""
    taken = parameter in COMMON or (bool(takers(parameter)) if family == AUTO else not foreign(family, [parameter]))
    return taken and parameter not in NOT_SEARCHED
