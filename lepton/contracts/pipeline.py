"""The Pipeline resource: read and checked as a whole, every problem at once, and asked for what it means."""

import copy
import hashlib
import json
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lepton.contracts.modelling.blocks import ModelSpec, check_model, task_for
from lepton.contracts.modelling.disturbances import check_disturbances
from lepton.contracts.modelling.healing import Heal
from lepton.contracts.modelling.serving import Serve, check_serve
from lepton.contracts.modelling.transforms import Features, check_taken_over, check_transforms
from lepton.contracts.modelling.watching import Watching
from lepton.contracts.pipeline_blocks import (
    GAINS,
    NUMERIC,
    SCALARS,
    TASK_METRICS,
    Block,
    Clean,
    Events,
    FieldSpec,
    Gate,
    Metadata,
    MissingPolicy,
    QualityWatch,
    label_type,
)
from lepton.contracts.reading.data_rules import check_data
from lepton.contracts.reading.evolution import field_changes
from lepton.contracts.reading.lines import PathKey, Problem, Source, path_text, read, write
from lepton.contracts.reading.patterns import Pattern
from lepton.contracts.reading.rules import Blocks, check, check_name, check_new, structural
from lepton.contracts.source_blocks import LogSource, Sources, check_sources, moved
from lepton.errors import Invalid

__all__ = ["InvalidPipeline", "Pipeline", "Problem", "compatible", "from_json", "parse"]

_BLOCKS: dict[str, type[BaseModel]] = {"metadata": Metadata, "events": Events, "clean": Clean, "features": Features,
                                       "sources": Sources, "model": ModelSpec, "gate": Gate, "serve": Serve,
                                       "watch": Watching, "heal": Heal}
_MEAN, _MODE = MissingPolicy.model_validate("mean"), MissingPolicy.model_validate("mode")
_REQUIRED = ("apiVersion", "kind", "metadata", "events")


class InvalidPipeline(Invalid):
    """A Pipeline that cannot be; `problems` holds all of it, in the order of the text."""

    def __init__(self, problems: list[Problem]) -> None:
        first = problems[0]
        more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        place = f"line {first.line}, {first.path}" if first.line else first.path
        super().__init__(first.message + more, field=first.path, place=place, remedy=first.remedy or None)
        self.problems = problems


class Pipeline(Block):
    """One loop from event schema to healing policy. Made by `parse` or `from_json`, which check the whole."""

    api_version: Annotated[Literal["lepton/v1"], Field(alias="apiVersion")] = "lepton/v1"
    kind: Literal["Pipeline"] = "Pipeline"
    metadata: Metadata
    events: Events
    clean: Clean = Clean()
    features: Features = Features()
    sources: Sources = Sources()
    model: ModelSpec | None = None
    gate: Gate | None = None
    serve: Serve = Serve()
    watch: Watching = Watching()
    heal: Heal = Heal()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def partitions(self) -> int:
        return self.events.partitions

    @cached_property
    def fields(self) -> dict[str, FieldSpec]:
        """Fields of an accepted row, in the order written: all but the label."""
        label = self.label_field
        return {name: spec for name, spec in self.events.fields.items() if name != label}

    @cached_property
    def optional_fields(self) -> frozenset[str]:
        """Those of `fields` that a row may do without; who it is of and when it was are none of them."""
        kept = (self.events.id, self.events.entity_member, self.events.time)
        return frozenset(name for name, spec in self.fields.items() if not spec.required and name not in kept)

    @cached_property
    def window_columns(self) -> tuple[str, ...]:
        """Columns the windows add to a row, in the order written; each a nullable float."""
        return tuple(column for window in self.features.windows for column in window.columns)

    @cached_property
    def inputs(self) -> dict[str, FieldSpec]:
        """What a model takes: the fields and window columns that say so, in the order of a row."""
        windowed = {column: FieldSpec(type="float") for window in self.features.windows if window.input
                    for column in window.columns}
        return {name: spec for name, spec in self.fields.items() if spec.input} | windowed

    @property
    def label_field(self) -> str | None:
        return self.events.label.field if self.events.label else None

    @property
    def label_type(self) -> str | None:
        """`float`, `int`, `bool` or `category`."""
        return label_type(self.events, self.events.label) if self.events.label else None

    @property
    def label_categories(self) -> tuple[str, ...] | None:
        """Classes declared beforehand, by the label or by its field."""
        if self.events.label is None:
            return None
        spec = self.events.fields.get(self.events.label.field)
        return self.events.label.categories or (spec.categories if spec else None)

    @property
    def task(self) -> str | None:
        """What the model answers with; None where there is nothing to learn."""
        return task_for(self.events, self.model)

    def missing_policy(self, field: str) -> MissingPolicy:
        """What stands in for an absent `field`: its own policy, else the default, else mean (mode when no number)."""
        own = self.clean.missing.get(field)
        if own is not None:
            return own
        default = self.clean.missing.get("default", _MEAN)
        if field not in self.events.fields:
            # A column of a window: having none yet is no fault of the event, and there is no last value to repeat.
            return default if default.kind in ("mean", "median", "mode") else _MEAN
        kind = self.events.fields[field].type
        if default.kind == "drop" or kind in NUMERIC:
            return default
        # Nothing is filled in where no model takes the value.
        return _MODE if default.kind in ("mean", "median", "model") or kind not in SCALARS else default

    def to_data(self) -> dict[str, Any]:
        """Plain data with every default written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_yaml(self) -> str:
        return write(self.to_data())

    def canonical_json(self) -> str:
        """The same for equal pipelines. Keys keep their order, since the order of fields is the model's input order."""
        return json.dumps(self.to_data(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def input_schema_digest(self) -> str:
        """SHA-256 over names, types, sizes and order of what a model takes, lower-case hex."""
        schema = [[name, spec.type, *spec.tail] for name, spec in self.inputs.items()]
        return hashlib.sha256(json.dumps(schema, separators=(",", ":")).encode()).hexdigest()


def parse(text: str) -> Pipeline:
    """Pipeline from YAML (or JSON) text. Raises InvalidPipeline with every problem and its line."""
    source, problems = read(text)
    if source.data is None and problems:
        raise InvalidPipeline(problems)
    of = _build(source, problems)
    new = [Problem(path_text(path), source.line(path), message, remedy)
           for path, message, remedy in chain(check_new(of.gate, of.task), _check_patterns(of.sources))]
    if new:
        raise InvalidPipeline(new)
    return of


def from_json(text: str) -> Pipeline:
    """Pipeline from its JSON form, as `canonical_json` gives it. Raises InvalidPipeline; problems carry no line."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPipeline([Problem("(document)", 0, f"not readable as JSON: {error}")]) from error
    return _build(Source(data, {}), [])


def compatible(old: Pipeline, new: Pipeline) -> list[str]:
    """Why rows and models of `old` cannot go on under `new`; empty when they can."""
    pairs = [(what, getattr(old, what), getattr(new, what))
             for what in ("name", "partitions", "label_field", "label_type", "task")]
    pairs += [("events.id", old.events.id, new.events.id),
              ("events.entity", old.events.entity_member, new.events.entity_member),
              ("events.time", old.events.time, new.events.time)]
    reasons = [f"{what} changes from {before} to {after}" for what, before, after in pairs if before != after]
    reasons += field_changes(old.fields, new.fields)
    windows = {window.name: window for window in new.features.windows}
    for window in old.features.windows:
        if window.name not in windows:
            reasons.append(f"window {window.name} is gone")
        elif windows[window.name] != window:
            reasons.append(f"window {window.name} changes")
    if gone := set(old.label_categories or ()) - set(new.label_categories or old.label_categories or ()):
        reasons.append(f"the label loses categories {', '.join(sorted(gone))}")
    return reasons + moved(old.sources, new.sources)


def _build(source: Source, problems: list[Problem]) -> Pipeline:
    data = source.data
    if not isinstance(data, dict):
        raise InvalidPipeline([*problems, Problem("(document)", source.line(()), "must be a mapping of keys",
                                                  "begin with `apiVersion: lepton/v1`")])
    findings = list(_check_top(data))
    blocks: dict[str, Any] = {}
    for name, block in _BLOCKS.items():
        if data.get(name) is not None:
            blocks[name], found = _read_block(name, block, data[name])
            findings += found
    written = _written_fields(data)
    metadata = blocks.get("metadata")
    if metadata is not None:
        findings += check_name(metadata.name)
    events = blocks.get("events")
    task = events and task_for(events, blocks.get("model"))
    findings += check(Blocks(task=task, written_fields=written, **{
        name: blocks.get(name)
        for name in ("events", "clean", "gate", "watch")}))
    if blocks.get("serve") is not None:
        model = blocks.get("model")
        findings += check_serve(blocks["serve"], task, model is not None and model.train.stream is not None)
    findings += check_model(blocks.get("events"), blocks.get("model"))
    findings += check_data(*(blocks.get(name) for name in ("events", "clean", "features")))
    findings += _check_columns(blocks)
    findings += check_sources(blocks.get("events"), blocks.get("sources"))
    problems += [Problem(path_text(path), source.line(path), message, remedy) for path, message, remedy in findings]
    if problems:
        raise InvalidPipeline(sorted(problems, key=lambda problem: problem.line))
    return _with_defaults(blocks)


def _check_columns(blocks: dict[str, Any]) -> list[tuple[PathKey, str, str]]:
    model = blocks.get("model")
    beside = "model.train.stream" if model is not None and model.train.stream is not None else ""
    found = list(check_transforms(blocks.get("events"), blocks.get("features"), model.family if model else None, beside,
                                  model is not None and model.explain.rows))
    found += check_taken_over(blocks.get("features"), model is not None and model.transfer is not None)
    if model is not None and blocks.get("events") is not None:
        found += check_disturbances(blocks["events"], blocks.get("features"), model.family, model.train.augment,
                                    model.train.adversarial, (beside, model.parameters.image))
    return found


def _check_patterns(sources: Sources) -> list[tuple[PathKey, str, str]]:
    """What is asked of a Pipeline that is applied, and not of a stored one: there only its source would stand still."""
    findings: list[tuple[PathKey, str, str]] = []
    for number, source in enumerate(sources.pull):
        if isinstance(source, LogSource) and source.pattern is not None:
            try:
                Pattern(source.pattern)
            except Invalid as error:
                findings.append((("sources", "pull", number, "pattern"), error.message, error.remedy or ""))
    return findings


def _check_top(data: dict[str, Any]) -> list[tuple[PathKey, str, str]]:
    findings: list[tuple[PathKey, str, str]] = []
    top = {key: value for key, value in data.items() if key not in _BLOCKS}
    try:
        Pipeline.model_validate(top)
    except ValidationError as error:
        findings = [(entry["loc"], *structural(entry, Pipeline)) for entry in error.errors()
                    if entry["loc"][0] not in _BLOCKS]
    for key in _REQUIRED:
        if data.get(key) is None:
            findings = [finding for finding in findings if finding[0] != (key,)]
            findings.append(((key,), f"`{key}` is required", "add it"))
    return findings


def _read_block(name: str, block: type[BaseModel], data: Any) -> tuple[Any, list[tuple[PathKey, str, str]]]:
    """The block, without its broken parts where those can be cut out, and the problems of those parts."""
    rest = copy.deepcopy(data)
    findings: list[tuple[PathKey, str, str]] | None = None
    while True:
        try:
            return block.model_validate(rest), findings or []
        except ValidationError as error:
            errors = error.errors()
        if findings is None:
            # A list whose items are wrong is also said to be too short: the consequence is left out.
            inside = {entry["loc"][:depth] for entry in errors for depth in range(len(entry["loc"]))}
            errors = [entry for entry in errors if entry["loc"] not in inside]
            findings = [((name, *_written(entry["loc"], data)), *structural(entry, block)) for entry in errors]
        # What lacks a required part goes as a whole; every round cuts something, so the rounds end.
        paths = [_written(entry["loc"][:-1] if entry["type"] == "missing" else entry["loc"], rest) for entry in errors]
        cut = [_cut(rest, path) for path in paths]
        if not all(paths) or not any(cut):
            return None, findings


def _written(path: PathKey, data: Any) -> PathKey:
    """The path as it is in the text: without the kinds pydantic adds where one of several blocks was meant."""
    parts: list[int | str] = []
    for part in path:
        if isinstance(data, dict) and part not in data and data.get("kind") == part:
            continue
        parts.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(parts)


def _cut(data: Any, path: PathKey) -> bool:
    for depth, part in enumerate(path):
        if not isinstance(data, dict) or part not in data:
            return False
        # A list is cut as a whole: an item less would shift its neighbours.
        if depth == len(path) - 1 or isinstance(path[depth + 1], int):
            del data[part]
            return True
        data = data[part]
    return False


def _written_fields(data: dict[str, Any]) -> frozenset[str]:
    events = data.get("events")
    fields = events.get("fields") if isinstance(events, dict) else None
    return frozenset(fields) if isinstance(fields, dict) else frozenset()


def _with_defaults(blocks: dict[str, Any]) -> Pipeline:
    pipeline = Pipeline(**{name: block for name, block in blocks.items() if block is not None})
    if pipeline.task is None:
        return pipeline
    model = pipeline.model or ModelSpec(
        family="linear_regression" if pipeline.task == "regression" else "logistic_regression")
    gate = pipeline.gate or Gate.model_validate({"metric": TASK_METRICS[pipeline.task][0]})
    if gate.metric in GAINS and gate.at_least is None:
        # A policy that is worse than what was done is let loose only where that is written.
        gate = gate.model_copy(update={"at_least": 0.0})
    quality = pipeline.watch.quality or QualityWatch()
    if quality.metric is None and pipeline.task in ("regression", "classification"):
        quality = quality.model_copy(update={"metric": gate.metric})
    return Pipeline(**{**blocks, "model": model, "gate": gate,
                       "watch": pipeline.watch.model_copy(update={"quality": quality})})
