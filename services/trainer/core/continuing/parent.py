"""What a run takes over from its parent: fields by name, weights layer by layer, the head where it says the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.trainer.core.continuing import freezing
from services.trainer.core.continuing.adapters import Adapters
from services.trainer.core.continuing.beginning import ROWS
from services.trainer.core.dataset import Target
from services.trainer.core.failure import bad_parameter
from services.trainer.core.networks.network import Network
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.choices import Choices
from services.trainer.core.preparing.layout import Layout, Span
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import Part
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.transforming.fitting import prepared_by
from services.trainer.core.weights import unpack

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Parent:
    """A version's weights with what they were learnt under. `name` is for messages."""

    arrays: Mapping[str, Array]
    preparation: Preparation
    target: Target
    plan: Plan
    name: str
    transforms: Sequence[Mapping[str, Any]] = ()
    """Those of its Pipeline, as plain data."""

    @classmethod
    def of(cls, plan: Plan, data: bytes) -> "Parent":
        """Raises Invalid for bytes that are no weights."""
        arrays, about = unpack(data)
        named = plan.parent
        name = f"version {named.version} of {named.model or plan.model}" if named else "the parent"
        return cls(arrays, prepared_by(about["preparation"]), Target.from_data(about["target"]), plan, name,
                   # Absent from what was written before there were any.
                   about.get("transforms", ()))

    @property
    def taken_whole(self) -> bool:
        """Whether statistics and classes are the parent's: the same model goes on, with the same fields."""
        fields = [(one.name, one.type, one.tail) for one in self.plan.fields]
        return self.plan.transfer is None and fields == [(one.name, one.type, one.tail)
                                                         for one in self.preparation.takes]

    @property
    def shaped_alike(self) -> bool:
        """Whether its columns are those of the run; False lets a run that merely goes on begin with nothing instead.

        Columns that transforms made are taken over as a whole or not at all. Raises RunFailed(parameter) where the run
        was told to take from the parent what cannot be taken.
        """
        if not self.transforms and not self.plan.transforms:
            return True
        why = self._columns_apart()
        if self.plan.transfer is None:
            return not why and self.taken_whole
        if why and self.plan.reason != ROWS:
            raise bad_parameter(f"{self.name} cannot be gone on from: {why}",
                                "let features.transforms and the fields be the same, or train without it")
        return not why

    def _columns_apart(self) -> str:
        """Why columns that transforms made are not those of the run; empty where they are."""
        if list(self.transforms) != transforms_of(self.plan):
            return "it was trained with other features.transforms, declared or found by auto"
        if {(one.name, one.type, one.tail) for one in self.plan.fields} != {
                (one.name, one.type, one.tail) for one in self.preparation.takes}:
            return "features.transforms make columns of its fields as a whole, and its fields are others"
        if self.plan.transfer is not None and any(one.kind == "target_encoding" for one in self.plan.transforms):
            return "target_encoding says what labels were, and its are others"
        return ""

    def prepared(self, fresh: Preparation) -> Preparation:
        """`fresh`, in which a field of the same name and type becomes numbers as it did for the parent.

        Its statistics stay those of the run's own rows. Raises RunFailed(parameter) where no field is the same.
        """
        if self.plan.transforms:
            return replace(fresh, parts=self.preparation.parts)
        known = set(self.preparation.takes) & set(fresh.takes)
        names = {one.name for one in known}
        whole = {(part.kind, _fields(part)) for part in fresh.parts}
        kept = [cut for part in self.preparation.parts if (cut := _cut(part, names, whole)) is not None]
        covered = frozenset().union(*(_fields(part) for part in kept))
        if not covered:
            raise bad_parameter(f"no field has the name and type of one that {self.name} takes",
                                f"name them as there: {', '.join(f'{one.name} ({one.type})' for one in _some(self))}")
        rest = [cut for part in fresh.parts if (cut := _cut(part, set(fresh.fields) - covered, whole)) is not None]
        return replace(fresh, parts=(*kept, *rest))

    def headed(self, fresh: Target) -> tuple[Target, bool]:
        """The target of the run, and whether the parent's last layer answers it. Raises RunFailed(parameter)."""
        wanted = self.plan.transfer.head if self.plan.transfer is not None else "auto"
        # Of its own model's classes some may be without a row by now.
        known = self._knows(fresh, some=wanted == "keep" or not (self.plan.parent and self.plan.parent.model))
        if wanted == "replace" or (wanted == "auto" and not known):
            return fresh, False
        if not known:
            raise bad_parameter(f"transfer.head: that of {self.name} answers {_told(self.target)}, and is to answer "
                                f"{_told(fresh)}", "let transfer.head be replace")
        return self.target, True

    def begin(self, network: Network, layout: Layout, kept_head: bool, constant: Array) -> tuple[str, ...]:
        """Give the network what is carried over, and hold what is not to change; names of the former's weights.

        `constant`: prepared columns that never vary; what a new field's would be taught is not theirs to say.
        """
        carried = self._carried(network, layout, kept_head)
        if not carried:
            raise bad_parameter(f"nothing of {self.name} would be taken over: a {self.plan.family} has no layer but "
                                "its head", "let transfer.head be keep, or use mlp")
        network.load({name: value for name, (value, _) in carried.items()} | {
            name: value for name, value in network.arrays().items() if name not in carried})
        new = [span for span in layout.spans if _key(span) not in {_key(one) for one in self.preparation.layout.spans}]
        network.ignore(constant & _columns(new, layout.width))
        if self.plan.transfer is not None:
            freezing.freeze(network, self.plan.transfer.freeze)
            self._check_new(network, [span.field for span in new])
        return tuple(f"{name} ({how})" if how else name for name, (_, how) in carried.items())

    def adapters(self, network: Network, kept_head: bool) -> Adapters | None:
        """What learns beside the network's layers, where that is asked for."""
        if self.plan.transfer is None or self.plan.transfer.lora is None:
            return None
        return Adapters(network, self.plan.transfer.lora, "" if kept_head else network.scores_layer(),
                        self.plan.parameters.seed)

    def _knows(self, fresh: Target, some: bool) -> bool:
        """Whether the parent's head answers the same, or, if `some` will do, that among other classes."""
        if (fresh.task, fresh.label_type) != (self.target.task, self.target.label_type):
            return False
        return fresh.classes == self.target.classes or (some and set(fresh.classes) <= set(self.target.classes))

    def _check_new(self, network: Network, fields: Sequence[str]) -> None:
        free = {name for name, value in network.named_parameters() if value.requires_grad}
        if fields and not free & set(network.columns()):
            raise bad_parameter(f"transfer.freeze: {', '.join(fields)} would have no say: {self.name} does not take "
                                "it, and the weights that read it are frozen",
                                f"leave {' or '.join(network.columns())} free, or let the field be input: false")

    def _carried(self, network: Network, layout: Layout, kept_head: bool) -> dict[str, tuple[Array, str]]:
        before = self.preparation.layout
        axes = {} if layout == before else network.columns()
        if layout != before and not axes:
            raise bad_parameter(f"{self.name} takes other fields, and a {self.plan.family} learns from all of them as "
                                "a whole", "take the same fields, or train without a parent")
        if not kept_head and not network.scores_layer():
            raise bad_parameter(f"transfer.head: a {self.plan.family} has no last layer that could be another's",
                                f"let its answers be those of {self.name}, and transfer.head keep, or train instead of "
                                "fine-tuning")
        carried = {}
        for name, fresh in network.arrays().items():
            if not kept_head and name.rpartition(".")[0] == network.scores_layer():
                continue
            given = self.arrays.get(name)
            if given is None or not _fits(given, fresh, axes.get(name)):
                raise self._other_shape(name, fresh)
            carried[name] = (given, "") if name not in axes else _by_field(given, fresh, axes[name], before, layout)
        return carried

    def _other_shape(self, name: str, fresh: Array) -> Exception:
        given = self.arrays.get(name)
        there = f"is of shape {list(given.shape)} in {self.name}" if given is not None else f"is not in {self.name}"
        return bad_parameter(f"the parent's network has another shape: {name} {there}, and of shape "
                             f"{list(fresh.shape)} here",
                             "set model.parameters to what the parent was trained with (hidden, members), or train "
                             "instead of fine-tuning")


def _by_field(given: Array, fresh: Array, axis: int, before: Layout, after: Layout) -> tuple[Array, str]:
    """Columns of fields that both take, from the parent; those of a new field at zero, where it has no say at first."""
    there = {_key(span): span.start for span in before.spans}
    value, columns = np.zeros_like(fresh), 0
    for span in after.spans:
        start = there.get(_key(span))
        if start is not None:
            to, came = [slice(None)] * fresh.ndim, [slice(None)] * fresh.ndim
            to[axis], came[axis] = slice(span.start, span.start + span.width), slice(start, start + span.width)
            value[tuple(to)] = given[tuple(came)]
            columns += span.width
    return value, f"{columns} of {after.width} columns"


def _key(span: Span) -> tuple[str, str, int]:
    return span.field, span.kind, span.width


def _columns(spans: Sequence[Span], width: int) -> Array:
    """True for the columns of these spans: [width]."""
    found = np.zeros(width, dtype=bool)
    for span in spans:
        found[span.start:span.start + span.width] = True
    return found


def _fits(given: Array, fresh: Array, axis: int | None) -> bool:
    return given.ndim == fresh.ndim and all(
        one == other for place, (one, other) in enumerate(zip(given.shape, fresh.shape, strict=True)) if place != axis)


def _cut(part: Part, names: set[str], whole: set[tuple[str, frozenset[str]]]) -> Part | None:
    """What of a part is about these fields; one that cannot be cut stays only where the run has its like."""
    if isinstance(part, Numbers):
        numbers = tuple(one for one in part.numbers if one.name in names)
        # A number is guessed from all the others: where one of them is gone, its mean stands in for it again.
        return Numbers(numbers, part.imputers if numbers == part.numbers else ()) if numbers else None
    if isinstance(part, Choices):
        choices = tuple(one for one in part.choices if one.name in names)
        return Choices(choices) if choices else None
    return part if _fields(part) <= names and (part.kind, _fields(part)) in whole else None


def _fields(part: Part) -> frozenset[str]:
    return frozenset(span.field for span in part.spans)


def transforms_of(plan: Plan) -> list[dict[str, Any]]:
    """Those of a plan as plain data, equal where they are."""
    return [one.model_dump(mode="json") for one in plan.transforms]


def _some(parent: Parent, most: int = 8) -> Sequence[Any]:
    return parent.preparation.takes[:most]


def _told(target: Target) -> str:
    return f"classes {', '.join(target.classes[:8])}" if target.classes else f"a {target.task}"
