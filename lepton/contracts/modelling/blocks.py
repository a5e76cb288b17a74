"""The `model` block of a Pipeline: parameters with their bounds and defaults, when to train, and what must hold."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from lepton.contracts.modelling.families import FAMILIES, Family, fitting, foreign, takers
from lepton.contracts.pipeline_blocks import Block, Events, label_type, task_of

Finding = tuple[tuple[int | str, ...], str, str]
"""Path in the Pipeline, message, remedy."""
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
                     Field(strict=False, max_length=50)]


class Parameters(Block):
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None,
                      Field(strict=False, min_length=1, max_length=8)] = None
    """Widths of the hidden layers."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.01
    l2: Annotated[float, Field(ge=0, le=100)] = 0.0001
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden values left out at random in training."""

    @property
    def layers(self) -> tuple[int, ...]:
        return self.hidden or (32, 16)


class Train(Block):
    first_rows: Annotated[int, Field(ge=10)] = 200
    """Labelled rows before the first run."""
    every_rows: Annotated[int, Field(ge=0)] = 1000
    """Newly labelled rows between runs; 0: never by rows."""
    window_rows: Annotated[int, Field(ge=10)] = 20_000
    """Newest labelled rows learnt from."""
    warm_start: bool = True


class Start(Block):
    """The version whose weights a first run begins with."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    version: Annotated[int, Field(ge=0)] = 0
    """0: its champion."""


class Lora(Block):
    """Low-rank adapters beside frozen layers, merged into them before the export (Hu et al., 2021)."""

    rank: Annotated[int, Field(ge=1, le=256)] = 4
    alpha: Annotated[float, Field(gt=0, le=1024)] = 8.0
    layers: Patterns = ("*",)
    """Patterns of layer names; the head learns whole where it is a new one."""


class Transfer(Block):
    """How a run that begins with a version's weights goes on from them."""

    start: Annotated[Start | None, Field(alias="from")] = None
    freeze: Patterns = ()
    """Patterns of weights (`layers.0.*`) that stay as they are."""
    head: Literal["auto", "keep", "replace"] = "auto"
    """The last layer; `auto`: kept where it answers the same classes, or numbers."""
    lora: Lora | None = None


class Export(Block):
    """How the served file is made smaller or faster than the trained one, and what that may cost."""

    prune: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units left out: those that say least on the training rows."""
    precision: Literal["full", "dynamic_int8", "static_int8", "fp16"] = "full"
    max_cost: Annotated[float, Field(ge=0)] = 0.01
    """How much worse the gate's metric may become on the held-out rows."""
    otherwise: Literal["reject", "full"] = "reject"
    """What happens to a version whose file costs more."""


class ModelSpec(Block):
    family: Family
    parameters: Parameters = Parameters()
    train: Train = Train()
    transfer: Transfer | None = None
    export: Export | None = None


def check_model(events: Events | None, model: ModelSpec | None) -> Iterator[Finding]:
    """Everything wrong with what is to be learnt, by itself and from these events."""
    if model is None:
        return
    if events is not None:
        yield from _check_task(events, model)
    path = ("model", "parameters")
    # What stands there with its default was perhaps never written.
    given = [name for name in model.parameters.model_fields_set
             if getattr(model.parameters, name) != type(model.parameters).model_fields[name].default]
    for name in foreign(model.family, given):
        yield (*path, name), f"{model.family} has no parameter `{name}`", (
            f"remove it, or use {' or '.join(takers(name))}")
    if model.train.window_rows < model.train.first_rows:
        yield ("model", "train", "window_rows"), "fewer than first_rows", "raise it to at least first_rows"


def _check_task(events: Events, model: ModelSpec) -> Iterator[Finding]:
    if events.label is None:
        yield ("model",), "model needs a label to learn", "add events.label, or remove this block"
        return
    task = task_of(events)
    if task is not None and task not in FAMILIES[model.family].tasks:
        yield ("model", "family"), f"{model.family} does not fit {task}", (
            f"use {' or '.join(fitting(task))}"
            + (", or set events.label.task" if label_type(events, events.label) == "int" else ""))
