"""What a search may try: families, the ranges of their parameters, and where it begins."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.families import AUTO, FAMILIES, Family, foreign
from lepton.contracts.pipeline_blocks import Tried
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.field import picture_of
from services.trainer.core.searching.menu import PLAIN, Menu
from services.trainer.core.searching.usual import ANY, USUAL

_LOOKS_ALONG: dict[str, frozenset[str]] = {"cnn": frozenset({"vector", "sequence"}),
                                          "gru": frozenset({"sequence", "text"})}
"""Types of which there must be a field for a family to be worth its trials."""
_LINEAR: tuple[dict[str, Any], ...] = tuple({"learning_rate": 0.05, "l2": l2} for l2 in (
    0.003, 0.01, 0.03, 0.001, 0.1, 0.0003))
_PROVEN: dict[Family, tuple[dict[str, Any], ...]] = {
    "linear_regression": _LINEAR, "logistic_regression": _LINEAR,
    "mlp": ({"learning_rate": 0.005, "l2": 0.01, "dropout": 0.3, "hidden": (64,)},)}
"""Where a search begins after what the Pipeline says: of linear families the path of penalties in half decades, its
middle first, at a rate that reaches the minimum (Friedman, Hastie and Tibshirani 2010)."""
LINEAR: frozenset[Family] = frozenset({"linear_regression", "logistic_regression"})
"""Families whose loss has one minimum, so that the penalty alone says how simple they are."""
FEW_ROWS = 2000
"""Below, `auto` sets no rows apart to say when it is enough: trials do, which are judged by every row."""
MEMBERS = 8
"""Of so few rows what one network learns hangs on its first weights; the mean of several hardly does."""


class Space:
    """The drawn values of a plan's search, by optuna's names `<family>.<parameter>`, and the menu for its fields."""

    def __init__(self, plan: Plan, menu: Menu = PLAIN) -> None:
        self._plan = plan
        self.menu = menu
        self.families: tuple[Family, ...] = (plan.family,) if plan.family != AUTO else tuple(
            family for family in USUAL if plan.task in FAMILIES[family].tasks and (
                family not in _LOOKS_ALONG or any(field.type in _LOOKS_ALONG[family] for field in plan.fields)))
        self._ranges = {family: self._tried(family) for family in self.families}
        few = plan.family == AUTO and plan.rows < FEW_ROWS
        self._spares_none, self._several = (few and getattr(plan.parameters, name) == Parameters.model_fields[
            name].default for name in ("patience", "members"))

    def draw(self, trial: Trial) -> tuple[Family, dict[str, Any]]:
        """Family and parameters of a trial."""
        place = self.families[0] if len(self.families) == 1 else trial.suggest_categorical("family", self.families)
        family = next(one for one in self.families if one == place)
        drawn = {}
        for name, tried in self._ranges[family].items():
            value = _suggested(trial, f"{family}.{name}", _distribution(name, tried))
            drawn[name] = json.loads(value) if tried.one_of else value
        if family == "cnn" and self._plan.parameters.image is None and (image := picture_of(self._plan.fields)):
            drawn["image"] = list(image)
        if self._spares_none:
            drawn["patience"] = 0
        if self._several and not foreign(family, ["members"]):
            drawn.setdefault("members", MEMBERS)
        return family, drawn

    def distributions(self, drawn: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """What each of the names stands for."""
        every: dict[str, BaseDistribution] = {"family": CategoricalDistribution(self.families)}
        every |= {f"{family}.{name}": _distribution(name, tried) for family, ranges in self._ranges.items()
                  for name, tried in ranges.items()}
        return {name: every[name] for name in drawn}

    def starts(self) -> list[dict[str, Any]]:
        """The first trials: each family once, with the plan's own values where they are among those to be tried; then
        those that proved good, as far as all their values are."""
        found = [self._start(family, {name: getattr(self._plan.parameters, name) for name in ranges})
                 for family, ranges in self._ranges.items()]
        return found + [one for family in self.families for one in self.known(family)]

    def known(self, family: Family) -> list[dict[str, Any]]:
        """Of the first trials those of a family that proved good."""
        ranges = self._ranges[family]
        return [self._start(family, values) for values in _PROVEN.get(family, ())
                if set(values) == set(ranges)
                and all(_holds(name, tried, values[name]) for name, tried in ranges.items())]

    def _start(self, family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
        """A trial with those of the values that are to be tried, the rest being drawn."""
        start: dict[str, Any] = {"family": family} if len(self.families) > 1 else {}
        for name, tried in self._ranges[family].items():
            if _holds(name, tried, values[name]):
                start[f"{family}.{name}"] = json.dumps(values[name]) if tried.one_of else values[name]
        return start

    def parameters(self, drawn: Mapping[str, Any]) -> Parameters:
        """The plan's, with those drawn. Raises ValidationError where they do not go together."""
        return Parameters.model_validate({**self._plan.parameters.model_dump(exclude_none=True), **drawn})

    def _tried(self, family: Family) -> dict[str, Tried]:
        assert self._plan.search is not None
        declared = {name: tried for name, tried in self._plan.search.ranges.items() if not foreign(family, [name])}
        if declared and self._plan.family != AUTO:
            return declared
        # What somebody set is not looked for.
        usual = {name: tried for name, tried in USUAL.get(family, ANY).items()
                 if getattr(self._plan.parameters, name) == Parameters.model_fields[name].default}
        return {**usual, **declared}


def proven(family: str, parameters: Mapping[str, Any]) -> bool:
    """Whether they are among those that a search begins with because they are known to do well."""
    return any(all(parameters.get(name) == (list(value) if isinstance(value, tuple) else value)
                   for name, value in one.items()) for place, known in _PROVEN.items() if place == family
               for one in known)


def _distribution(name: str, tried: Tried) -> BaseDistribution:
    if tried.one_of:
        # Optuna's choices are plain values; a list goes as its text.
        return CategoricalDistribution([json.dumps(one) for one in tried.one_of])
    assert tried.low is not None and tried.high is not None
    if isinstance(Parameters.model_fields[name].default, int):
        return IntDistribution(int(tried.low), int(tried.high), log=tried.log)
    return FloatDistribution(tried.low, tried.high, log=tried.log)


def _suggested(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _holds(name: str, tried: Tried, value: Any) -> bool:
    distribution = _distribution(name, tried)
    if isinstance(distribution, CategoricalDistribution):
        return json.dumps(value) in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return value is not None and bool(distribution.low <= value <= distribution.high)
