"""What must hold between the blocks of a Pipeline, and how a structural error is said to a person."""

import difflib
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lepton.contracts.pipeline_blocks import (
    GAINS,
    LABELS,
    LOWER_IS_BETTER,
    NUMERIC,
    SCALARS,
    TASK_METRICS,
    Clean,
    Events,
    FieldSpec,
    Gate,
    LabelSpec,
    MissingPolicy,
    Watch,
    label_type,
)
from lepton.contracts.reading.lines import PathKey

FIELD_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
Finding = tuple[PathKey, str, str]


@dataclass(frozen=True, slots=True)
class Blocks:
    """What could be read of a Pipeline: a block with an error that could not be cut out is None."""

    events: Events | None
    clean: Clean | None
    gate: Gate | None
    watch: Watch | None
    task: str | None
    written_fields: frozenset[str]
    """Names of fields in the text, those with errors too, so that one error does not cause others."""


def structural(error: ErrorDetails, block: type[BaseModel]) -> tuple[str, str]:
    """Message and remedy for one error of a block; an unknown key gets its nearest known one."""
    kind, path, given = error["type"], error["loc"], error["input"]
    if kind == "extra_forbidden":
        known = _known_keys(block, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return f"unknown key `{path[-1]}`", (f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}")
    if kind == "missing":
        return f"`{path[-1]}` is required", "add it"
    if kind == "literal_error":
        expected = error["ctx"]["expected"].replace("'", "`").replace(" or ", ", ")
        near = difflib.get_close_matches(str(given), expected.replace("`", "").split(", "), n=1)
        return f"`{given}` is not one of {expected}", f"did you mean `{near[0]}`?" if near else ""
    if kind == "union_tag_invalid":
        known = error["ctx"]["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(error["ctx"]["tag"], known.split(", "), n=1)
        return f"there is no kind `{error['ctx']['tag']}`", f"did you mean `{near[0]}`?" if near else f"known: {known}"
    if kind == "union_tag_not_found":
        return "`kind` is required", "add it"
    if kind == "string_pattern_mismatch":
        return f"`{given}` does not match {error['ctx']['pattern']}", "lower-case letters, digits and dashes"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if path and str(path[-1]).endswith("_from"):
        # Perhaps the secret itself was written where its name belongs.
        return message, ""
    shown = repr(given)
    return f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}", ""


def _known_keys(block: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Keys of the block at `path`."""
    current: Any = block
    for part in path:
        if typing.get_origin(current) is dict:
            current = _plain_type(typing.get_args(current)[1])
        elif typing.get_origin(current) is tuple:
            current = _plain_type(typing.get_args(current)[0])
        elif typing.get_origin(current) in (typing.Union, types.UnionType):
            # One of several blocks: the part is its kind.
            current = next(arg for arg in typing.get_args(current) if arg.model_fields["kind"].default == part)
        else:
            current = _plain_type(current.model_fields[str(part)].annotation)
    return [field.alias or name for name, field in current.model_fields.items()]


def _plain_type(annotation: Any) -> Any:
    """Without `Annotated`, and without None where that leaves one type."""
    if typing.get_origin(annotation) is Annotated:
        return _plain_type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _plain_type(rest[0]) if len(rest) == 1 else annotation
    return annotation


def check_name(name: str) -> Iterator[Finding]:
    # Topic names append `-g<generation>` and `-dead-letters`: such a name would be another pipeline's topic.
    if re.search(r"(-g[0-9]+|-dead-letters)$", name):
        yield (("metadata", "name"), f"`{name}` ends like a topic of another pipeline",
               "do not end it in -g<number> or -dead-letters")


def check(blocks: Blocks) -> Iterator[Finding]:
    """Everything wrong between the parts that could be read."""
    events = blocks.events
    if events is not None:
        yield from _check_events(events)
        if blocks.clean is not None:
            yield from _check_clean(events, blocks.clean, blocks.written_fields)
        yield from _check_learning(events, blocks)
    if blocks.gate is not None:
        yield from _check_gate(blocks.gate)
    if blocks.watch is not None and blocks.watch.quality is not None:
        quality = blocks.watch.quality
        if quality.min_labels > quality.window:
            yield (("watch", "quality", "min_labels"), f"more than window ({quality.window}): it would never speak",
                   "raise window or lower min_labels")


def _check_events(events: Events) -> Iterator[Finding]:
    for name, spec in events.fields.items():
        path: PathKey = ("events", "fields", name)
        if not FIELD_NAME.match(name) or name == "default":
            yield (path, f"`{name}` cannot be a field name",
                   "lower-case letters, digits and _, beginning with a letter; not `default`")
        yield from _check_field(path, spec)
    if events.id == events.time:
        yield ("events", "time"), "the same member as id", "name another member"
    if events.entity_member == events.time:
        yield ("events", "time"), "the same member as entity", "name another member"
    for role, member in (("id", events.id), ("time", events.time)):
        if member in events.fields:
            yield ("events", role), f"`{member}` is also a field", "rename the field, or leave it out of fields"
    entity = events.fields.get(events.entity_member)
    if entity is not None and entity.type not in ("int", "category", "text"):
        yield ("events", "entity"), f"a {entity.type} cannot be a partition key", "use an int, category or text"
    if events.label is not None:
        yield from _check_label(events, events.label)


def _check_field(path: PathKey, spec: FieldSpec) -> Iterator[Finding]:
    if spec.range is not None and spec.type not in NUMERIC:
        yield (*path, "range"), f"a {spec.type} has no range", "remove it; only float and int have one"
    elif spec.range is not None and spec.range[0] > spec.range[1]:
        yield (*path, "range"), "the lowest value is above the highest", "swap them"
    if spec.categories is not None and spec.type != "category":
        yield (*path, "categories"), f"a {spec.type} has no categories", "remove them, or make the type category"
    yield from _check_categories(path, spec.categories)


def _check_categories(path: PathKey, categories: tuple[str, ...] | None) -> Iterator[Finding]:
    if categories is not None and len(set(categories)) != len(categories):
        yield (*path, "categories"), "a category appears twice", "keep one of them"


def _check_label(events: Events, label: LabelSpec) -> Iterator[Finding]:
    path: PathKey = ("events", "label")
    spec = events.fields.get(label.field)
    if label.field in (events.id, events.time, events.entity_member):
        yield (*path, "field"), f"`{label.field}` is already the id, entity or time", "name the member with the label"
    elif not FIELD_NAME.match(label.field):
        yield (*path, "field"), f"`{label.field}` cannot be a field name", "lower-case letters, digits and _"
    kind = label_type(events, label)
    if kind is None:
        near = difflib.get_close_matches(label.field, events.fields, n=1)
        yield (*path, "field"), f"`{label.field}` is not one of fields and has no type", (
            f"did you mean `{near[0]}`? else give type" if near else "add it to fields, or give type")
        return
    if spec is not None and label.type is not None and spec.type != label.type:
        yield (*path, "type"), f"the field is declared {spec.type}", f"write {spec.type}, or leave it out"
    if kind == "text":
        yield (*path, "field"), "text cannot be a label", "declare it a category"
    elif kind not in LABELS:
        yield (*path, "field"), f"a {kind} cannot be a label", "choose a float, int, bool or category"
    if spec is not None and len(events.fields) == 1:
        yield (*path, "field"), "the label is the only field", "add the fields to predict it from"
    if label.task == "regression" and kind not in NUMERIC:
        yield (*path, "task"), f"a {kind} cannot be regressed", "leave task out, or make the label a number"
    if label.task == "classification" and kind == "float":
        yield (*path, "task"), "a float has no classes", "make the label an int, bool or category"
    if label.categories is not None and kind != "category":
        yield (*path, "categories"), f"a {kind} has no categories", "remove them, or make the type category"
    elif label.categories is not None and len(label.categories) < 2:
        yield (*path, "categories"), "one class leaves nothing to learn", "name at least two"
    yield from _check_categories(path, label.categories)


def _check_clean(events: Events, clean: Clean, written: frozenset[str]) -> Iterator[Finding]:
    label = events.label.field if events.label else None
    for name, policy in clean.missing.items():
        path: PathKey = ("clean", "missing", name)
        if name == "default":
            if policy.kind == "constant":
                yield path, "one constant does not fit every field", "give constants field by field"
            continue
        if name not in written:
            near = difflib.get_close_matches(name, sorted(written), n=1)
            yield path, f"`{name}` is not one of fields", f"did you mean `{near[0]}`?" if near else "remove it"
            continue
        if name == label:
            yield path, "the label is never filled in", "remove it"
        elif name in events.fields:
            yield from _check_policy(path, events.fields[name], policy)
    outliers = clean.outliers
    if outliers.method == "none" and outliers.action != "keep":
        yield ("clean", "outliers", "action"), f"{outliers.action} needs a method", "choose iqr, zscore or mad"
    if outliers.method == "none" and outliers.k is not None:
        yield ("clean", "outliers", "k"), "k needs a method", "choose iqr, zscore or mad, or remove k"


def _check_policy(path: PathKey, spec: FieldSpec, policy: MissingPolicy) -> Iterator[Finding]:
    if spec.type not in SCALARS:
        if policy.kind != "drop":
            yield path, f"nothing stands in for a missing {spec.type}", "use drop, or remove it"
        return
    if policy.kind in ("mean", "median", "model") and spec.type not in NUMERIC:
        yield path, f"a {spec.type} has no {policy.kind}", "use mode, forward_fill, {constant: VALUE} or drop"
    if policy.kind != "constant":
        return
    value = policy.value
    fits = {"float": isinstance(value, int | float) and not isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "bool": isinstance(value, bool)}.get(spec.type, isinstance(value, str))
    if not fits:
        yield path, f"{value!r} is no {spec.type}", f"write a {spec.type}"
    elif spec.range is not None and isinstance(value, int | float) and not spec.range[0] <= value <= spec.range[1]:
        yield path, f"{value!r} is outside the field's range", "choose a value inside it"
    elif spec.categories is not None and value not in spec.categories:
        yield path, f"{value!r} is none of the field's categories", "add it there, or choose one of them"


def _check_learning(events: Events, blocks: Blocks) -> Iterator[Finding]:
    task = blocks.task
    if task is None:
        if events.label is None and blocks.gate is not None:
            yield ("gate",), "gate needs a label to learn", "add events.label, or remove this block"
        return
    gate = TASK_METRICS[task] if task != "anomaly" or events.label is not None else ("separation",)
    metrics: list[tuple[PathKey, str | None, tuple[str, ...]]] = [
        (("gate", "metric"), blocks.gate.metric if blocks.gate else None, gate)]
    if blocks.watch is not None and blocks.watch.quality is not None:
        # Answers are watched by the labels they meet; of a list or an action there is nothing yet to hold against them.
        watched = {"anomaly": ("accuracy", "precision", "recall", "f1"), "ranking": (), "policy": ()}.get(task, gate)
        metrics.append((("watch", "quality", "metric"), blocks.watch.quality.metric,
                        watched if events.label is not None else ()))
    tested = task in ("regression", "classification")
    if blocks.gate is not None and blocks.gate.significance is not None and not tested:
        yield ("gate", "significance"), f"no test compares two models of {task} row by row", "remove it"
    for path, metric, fitting in metrics:
        if metric is not None and metric not in fitting:
            yield path, f"{metric} does not measure {task}", (
                f"use {', '.join(fitting[:-1])} or {fitting[-1]}" if len(fitting) > 1
                else f"use {fitting[0]}" if fitting else "remove it; only the gate measures it")


def check_new(gate: Gate | None, task: str | None) -> Iterator[Finding]:
    """What is asked of a Pipeline that is written now; one that was stored before goes on without."""
    if gate is None or task != "policy" or gate.at_least is not None:
        return
    if gate.metric in TASK_METRICS[task] and gate.metric not in GAINS:
        # Its first version has no champion to beat, and how much the logged decisions bring nobody knows beforehand.
        yield (("gate",), f"nothing says which {gate.metric} is enough for a first policy to be let loose",
               f"add at_least, or ask for {gate.metric.partition('_')[0]}_gain: 0 is as good as "
               "the logged decisions")


def _check_gate(gate: Gate) -> Iterator[Finding]:
    if gate.at_least is not None and gate.metric in LOWER_IS_BETTER:
        yield ("gate", "at_least"), f"less {gate.metric} is better", "use at_most"
    if gate.at_most is not None and gate.metric not in LOWER_IS_BETTER:
        yield ("gate", "at_most"), f"more {gate.metric} is better", "use at_least"
