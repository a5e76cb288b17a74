"""What to do in which state, learnt from what others did, and judged by the log before anybody does it."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lepton.contracts.features import ENTITY
from services.trainer.core.dataset import LABEL, Target
from services.trainer.core.export.answers import as_texts
from services.trainer.core.export.session import Session
from services.trainer.core.failure import bad_data, bad_parameter
from services.trainer.core.lessons.lesson import Array, Lesson
from services.trainer.core.lessons.offpolicy import UNKNOWN, Log, fitted, habits, importance, likely, logged_value
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs


class Policy(Lesson):
    """`truth`: the row's place in the log of all rows, which this run keeps. Whole entities are held out."""

    stops_early = False

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._discount = plan.parameters.discount
        self._log: Log
        self._foreign: Array
        self._inputs: Inputs
        self._preparation: Preparation | None = None
        self._taught: list[Array] = []
        self._shown: tuple[Array, Array] | None = None

    def owners(self, rows: pa.Table) -> list[str]:
        found: list[str] = rows.column(ENTITY).to_pylist()
        return found

    def target(self, rows: pa.Table, training: Array) -> Target:
        actions, kind = self._actions(rows)
        seen = {name for name in actions[training].tolist() if name is not None}
        classes = ("false", "true") if kind == "bool" else self.plan.label_categories or tuple(
            sorted(seen, key=int if kind == "int" else str))
        if len(seen) < 2:
            raise bad_data("the training rows show fewer than two actions",
                           "log what else was tried: of an action nobody took nothing can be learnt")
        rewards = _rewards(rows)[training]
        spread = float(np.nanstd(rewards)) if np.isfinite(rewards).any() else 0.0
        return Target("policy", kind, classes, std=spread if spread > 0 else 1.0)

    def truth(self, rows: pa.Table, inputs: Inputs, target: Target) -> Array:
        self._log, self._inputs = self._read(rows, target), inputs
        self._foreign = np.array([one is not None and one not in target.classes for one in self._actions(rows)[0]])
        return np.arange(rows.num_rows)

    def check_known(self, target: Target, truth: Array, training: Array) -> None:
        if self._foreign[training].any():
            raise bad_data("an action is one the parent version does not know", "train instead of fine-tuning")

    def teaches(self, truth: Array, training: Array) -> Array:
        log = self._log
        found: Array = ~training | ((log.action != UNKNOWN) & np.isfinite(log.reward)
                                    & (log.ended | (log.next != UNKNOWN)))
        return found

    def check(self, target: Target, training_truth: Array) -> None:
        """What `target` asked for will do."""

    def tensor(self, truth: Array, preparation: Preparation, target: Target) -> torch.Tensor:
        self._preparation = preparation
        self._taught.append(truth)
        log = self._log
        now = np.stack([log.action[truth], log.reward[truth] / target.std, log.ended[truth]], axis=1)
        # After the last row of an episode nothing counts, so any will do.
        after = preparation.transform(self._inputs.take(np.maximum(log.next[truth], 0)))
        return torch.from_numpy(np.concatenate([now, after], axis=1).astype(np.float32))

    def measure(self, running: Session, held: Inputs, truth: Array, target: Target,
                classes: Sequence[str] = ()) -> dict[str, float]:
        log, which = self._log, self._whole(truth)
        columns, chances = self._evidence()
        chosen = np.full(len(log.action), UNKNOWN)
        places = {name: place for place, name in enumerate(target.classes)}
        chosen[truth] = [places.get(name, UNKNOWN) for name in as_texts(running.answers(held)["label"])]
        logged = logged_value(log, which, self._discount)
        by_weights, episodes = importance(log, which, chosen, chances, self._discount)
        by_fitting = fitted(log, which, chosen, columns, len(target.classes), self._discount)
        found = {"fqe_value": by_fitting, "fqe_gain": by_fitting - logged, "wis_value": by_weights,
                 "wis_gain": by_weights - logged, "wis_episodes": episodes,
                 "agreement": float((chosen[truth] == log.action[truth]).mean())}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def baseline(self, training: tuple[Inputs, Array], held: tuple[Inputs, Array], preparation: Preparation,
                 target: Target) -> dict[str, float]:
        """What the log's own policy brought in the held-out episodes."""
        logged = logged_value(self._log, self._whole(held[1]), self._discount)
        return {f"baseline_{name}": logged for name in ("fqe_value", "wis_value") if math.isfinite(logged)}

    def _evidence(self) -> tuple[Array, Array]:
        """Columns of all rows, and how likely their actions were: as logged, else as the taught rows show."""
        if self._shown is None:
            assert self._preparation is not None
            log = self._log
            columns = self._preparation.transform(self._inputs).astype(np.float64)
            places = np.sort(np.concatenate(self._taught))
            weights = habits(columns[places], log.action[places], int(log.action.max()) + 1)
            usual = likely(columns, weights)[np.arange(len(columns)), np.maximum(log.action, 0)]
            self._shown = columns, np.where(np.isfinite(log.chance), log.chance, usual)
        return self._shown

    def _whole(self, truth: Array) -> Array:
        which = np.zeros(len(self._log.action), dtype=bool)
        which[truth] = True
        return which & self._log.whole

    def _read(self, rows: pa.Table, target: Target) -> Log:
        actions, _ = self._actions(rows)
        places = {name: place for place, name in enumerate(target.classes)}
        action = np.array([places.get(name, UNKNOWN) for name in actions.tolist()], dtype=np.int64)
        roles, count = self.plan.roles, rows.num_rows
        entity = np.unique(np.array(rows.column(ENTITY).to_pylist(), dtype=str), return_inverse=True)[1]
        order = np.argsort(entity, kind="stable")
        follows = entity[order][1:] == entity[order][:-1]
        after = np.full(count, UNKNOWN)
        after[order[:-1][follows]] = order[1:][follows]
        ended = after == UNKNOWN
        if roles.done is not None:
            ended = np.asarray(pc.fill_null(rows.column(roles.done), False).to_numpy(), dtype=bool)
        begins = np.ones(count, dtype=bool)
        begins[order[1:][follows & ~ended[order[:-1]]]] = False
        episode = np.empty(count, dtype=np.int64)
        episode[order] = np.cumsum(begins[order]) - 1
        chance = np.full(count, np.nan)
        if roles.propensity is not None:
            chance = np.asarray(rows.column(roles.propensity).to_numpy(), dtype=np.float64)
            chance = np.where((chance > 0) & (chance <= 1), chance, np.nan)
        return Log(action, _rewards(rows), ended, np.where(ended, UNKNOWN, after), episode, chance)

    def _actions(self, rows: pa.Table) -> tuple[Array, str]:
        """Each row's action as text, None where there is none; and the type answers have."""
        name = self.plan.roles.action
        if name is None or name not in rows.column_names:
            raise bad_parameter("no field says what was done", "name it as model.roles.action")
        column = rows.column(name)
        kind = "bool" if pa.types.is_boolean(column.type) else (
            "int" if pa.types.is_integer(column.type) else "category")
        return np.array(column.cast(pa.string()).to_pylist(), dtype=object), kind


def _rewards(rows: pa.Table) -> Array:
    labels = rows.column(LABEL)
    if pa.types.is_boolean(labels.type) or pa.types.is_string(labels.type):
        raise bad_parameter(f"the label is {labels.type}, and no reward", "label with numbers")
    found = np.asarray(labels.cast(pa.float64()).to_numpy(), dtype=np.float64)
    return np.where(np.abs(found) <= 1e30, found, np.nan)
