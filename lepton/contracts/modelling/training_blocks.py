"""Blocks of `model.train` beyond when a run begins: what learns between runs, and how rows are changed in one."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Block(BaseModel):
    """Strict as every other block; its own, so that what takes these takes no other block with them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Stream(Block):
    """Learning every labelled row as it comes, beside the runs."""

    candidate_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 1000
    """Rows learnt between two candidates."""
    wait_rows: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Most rows that wait for their labels, and labels that wait for their rows; the oldest are given up."""
    width: Annotated[int, Field(ge=16, le=1024)] = 128
    """Random features of each of its regressions."""
    replay_rows: Annotated[int, Field(ge=512, le=100_000)] = 1024
    """Rows kept to begin anew from when rows have moved."""


class Augment(Block):
    """How rows are changed at random before a network learns from them, anew in every epoch."""

    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """What is added to numbers, in their standard deviations."""
    swap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance of a field to have another row's value."""
    drop_words: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance of a word to be an unknown one."""
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    """Most pixels by which an image is moved, down and right."""
    flip: bool = False
    """Whether half of the images are mirrored."""


class Adversarial(Block):
    """Learning from rows moved to where the network is wronger, beside the rows themselves."""

    method: Literal["fgsm", "pgd"] = "fgsm"
    """One step along the gradient's sign; or several, from a random place."""
    epsilon: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Furthest way of each number, in its standard deviations."""
    steps: Annotated[int, Field(ge=1, le=100)] = 5
    """Of `pgd`."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the loss that is of moved rows."""


class Scale(Block):
    """With how many processes a run learns, and how finely it counts."""

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Shares that each batch is divided into; as many processes learn from one each."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of what a step multiplies; weights, losses and the file stay float32."""


WHOLE = {"q_learning": "each step of it follows the one before", "dqn": "each step of it follows the one before",
         "torch_module": "nobody knows what its module keeps of a batch",
         "auto": "a search tries one after another in one process"}
"""Families that learn in one process, and why."""


def check_scale(scale: Scale, family: str, search: bool, stream: bool) -> Iterator[tuple[str, str, str]]:
    """Which of `scale`'s members does not fit what is learnt, why, and what to do."""
    if scale.processes > 1 and family in WHOLE:
        yield "processes", f"{family} learns in one process: {WHOLE[family]}", "remove it, or use another family"
    elif scale.processes > 1 and search:
        yield "processes", "a search tries one after another in one process", "remove it, or model.search"
    if stream and scale.processes > 1:
        yield "processes", "a stream is learnt in one process", "remove it, or train.stream"
    if stream and scale.precision != "float32":
        yield "precision", "a stream is learnt as precisely as numpy counts", "remove it, or train.stream"
