"""The `model` block of a Pipeline: parameters with their bounds and defaults, when to train, and what must hold."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from lepton.contracts.modelling.families import (
    CLASS_TASKS,
    CLASSES_ONLY,
    EXPLAINED,
    FAMILIES,
    SHAPED,
    Family,
    fitting,
    foreign,
    searched_for,
    takers,
)
from lepton.contracts.modelling.training_blocks import Adversarial, Augment, Scale, Stream, check_scale
from lepton.contracts.pipeline_blocks import (
    LISTS,
    NUMERIC,
    SCALARS,
    Block,
    Events,
    Member,
    Search,
    Share,
    label_type,
    task_of,
)

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
    members: Annotated[int, Field(ge=1, le=32)] = 1
    """Networks of that shape that learn side by side and answer with the mean of their scores."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`."""
    schedule: Literal["cosine", "constant", "linear", "step", "exponential"] = "cosine"
    """How learning_rate falls; `step` is tenfold at half and at three quarters of the epochs."""
    warmup_epochs: Annotated[int, Field(ge=0, le=1000)] = 0
    """Epochs in which the rate rises to where its schedule begins."""
    l1: Annotated[float, Field(ge=0, le=100)] = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Longest gradient that is followed as it is; 0: any."""
    patience: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Epochs without improvement on validation rows before a run ends; 0: all are learnt, from those rows too."""
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["plain", "balanced"] = "plain"
    """`balanced`: every epoch draws rare classes as often as the largest."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    units: Annotated[int, Field(ge=1, le=1024)] = 32
    """Width of what is known at each step of a series or text."""
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    """Recurrent layers or transformer blocks above each other."""
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=512)], ...],
                        Field(strict=False, min_length=1, max_length=8)] = (16, 32)
    """Of each convolution."""
    kernel: Literal[1, 3, 5, 7, 9, 11] = 3
    image: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...] | None,
                     Field(strict=False, min_length=2, max_length=3)] = None
    """Height, width and, for more than one, colours: vectors of so many numbers are images, row by row."""
    vocabulary: Annotated[int, Field(ge=1, le=50_000)] = 5000
    """Most words that are told apart: the commonest."""
    tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    """Words of a text that are read; the rest is left out."""

    code: Annotated[int, Field(ge=1, le=4096)] = 2
    """Numbers an autoencoder has to say a row with."""
    contamination: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of the training rows that is strange."""

    factors: Annotated[int, Field(ge=1, le=512)] = 16
    """Numbers that stand for a user, and as many for an item."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 10
    """Items in an answer."""

    discount: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """What a reward is worth a row later."""
    caution: Annotated[float, Field(ge=0, le=100)] = 0.1
    """How strongly actions that the log does not show are held to be worth less."""
    bins: Annotated[int, Field(ge=2, le=64)] = 5
    """Into which a table divides the values of a number."""

    module: Annotated[str | None, Field(max_length=200, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")] = None
    """Import path `package.module:name` of what makes the network from (width, outputs)."""

    @property
    def layers(self) -> tuple[int, ...]:
        return self.hidden or (32, 16)


class Train(Scale):
    first_rows: Annotated[int, Field(ge=10)] = 200
    """Labelled rows before the first run."""
    every_rows: Annotated[int, Field(ge=0)] = 1000
    """Newly labelled rows between runs; 0: never by rows."""
    window_rows: Annotated[int, Field(ge=10)] = 20_000
    """Newest labelled rows learnt from."""
    warm_start: bool = True
    stream: Stream | None = None
    augment: Augment | None = None
    adversarial: Adversarial | None = None


class Start(Block):
    """The version a run begins with that would begin with nothing."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    version: Annotated[int, Field(ge=0)] = 0
    """0: its champion."""


class Lora(Block):
    """Low-rank adapters beside frozen layers, merged into them before the export (Hu et al., 2021)."""

    rank: Annotated[int, Field(ge=1, le=256)] = 4
    alpha: Annotated[float, Field(gt=0, le=1024)] = 8.0
    layers: Patterns = ("*",)
    """Patterns of layers; the head learns whole where it is a new one."""


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


class Fairness(Block):
    """Groups of rows that are to be treated alike, and how far apart they may be."""

    groups: Annotated[tuple[Member, ...], Field(strict=False, min_length=1, max_length=8)]
    """Fields whose values are the groups; they need be no inputs."""
    criterion: Literal["demographic_parity", "equal_opportunity", "equalised_odds", "accuracy"] = "equal_opportunity"
    at_most: Share | None = None
    """Gap between two groups above which a candidate is kept out; only told when left out."""


class Evaluate(Block):
    """What is measured of a candidate beside the gate's metric."""

    folds: Annotated[int | None, Field(ge=2, le=20)] = None
    """So many times it is learnt anew, each with another part held out."""
    by: Literal["chance", "time"] = "chance"
    """What folds hold out: a random part, or what came after the rows learnt from."""
    slices: Annotated[tuple[Member, ...], Field(strict=False, max_length=20)] = ()
    """Fields by whose values the metrics are told apart; they need be no inputs."""
    fairness: Fairness | None = None


class Explain(Block):
    rows: bool = False
    """Answer with `attributions` where asked: what each field did to the row's score."""
    steps: Annotated[int, Field(ge=4, le=256)] = 32
    """Points of the path that the gradients of an `mlp` are integrated over; a linear model needs none. Families that
    look along images, series and texts: random orders in which parts come in."""
    parts: Annotated[int, Field(ge=1, le=256)] = 64
    """What they tell of an image, a series or a text is told of so many parts of it at most."""


class Roles(Block):
    """Fields that say more than what a row is like. All but `user` are known only later: they are `input: false`."""

    user: Member | None = None
    """Who is recommended to."""
    item: Member | None = None
    liked_from: float | None = None
    """The least number a label says of what was liked."""
    action: Member | None = None
    done: Member | None = None
    """Bool: an episode, the rows of one entity, ends with this row."""
    propensity: Member | None = None
    """The chance with which the action was chosen."""


class ModelSpec(Block):
    family: Family
    parameters: Parameters = Parameters()
    search: Search | None = None
    train: Train = Train()
    roles: Roles = Roles()
    transfer: Transfer | None = None
    export: Export | None = None
    evaluate: Evaluate = Evaluate()
    explain: Explain = Explain()


def check_model(events: Events | None, model: ModelSpec | None) -> Iterator[Finding]:
    """Everything wrong with what is to be learnt, by itself and from these events."""
    if model is None:
        return
    if events is not None:
        yield from _check_task(events, model)
        yield from _check_shapes(events, model)
        yield from _check_judging(events, model)
    path, takes = ("model", "parameters"), FAMILIES[model.family].parameters
    # What stands there with its default was perhaps never written.
    given = [name for name in model.parameters.model_fields_set
             if getattr(model.parameters, name) != type(model.parameters).model_fields[name].default]
    for name in foreign(model.family, given):
        yield (*path, name), f"{model.family} has no parameter `{name}`", (
            " or ".join(["remove it", *(f"use {one}" for one in takers(name))]))
    if model.family == "torch_module" and model.parameters.module is None:
        yield (*path, "module"), "torch_module needs to know which one", "name it as package.module:name"
    if events is not None and task_for(events, model) not in (None, *CLASS_TASKS):
        for name in sorted(CLASSES_ONLY & set(given)):
            yield (*path, name), f"`{name}` is for classes, and {task_for(events, model)} has none", "remove it"
    if model.transfer is not None and model.transfer.head == "replace" and FAMILIES[model.family].head_only:
        yield ("model", "transfer", "head"), f"{model.family} has no layer but its head", "keep it, or use mlp"
    if model.export is not None and model.export.prune and "hidden" not in takes:
        yield ("model", "export", "prune"), f"{model.family} has no hidden units to leave out", (
            f"remove it, or use {' or '.join(takers('hidden'))}")
    if model.train.stream is not None and FAMILIES[model.family].own_task is not None:
        yield ("model", "train", "stream"), "only classes and numbers are learnt from a stream", "remove it"
    if model.train.stream is not None and model.export is not None:
        yield ("model", "export"), "candidates of a stream are published as they are", "remove it, or train.stream"
    if model.train.stream is not None and model.transfer is not None:
        yield ("model", "transfer"), "what a stream teaches begins with its rows alone", "remove it, or train.stream"
    yield from _check_search(model)
    for name, why, remedy in check_scale(model.train, model.family, bool(model.search), bool(model.train.stream)):
        yield ("model", "train", name), why, remedy
    if model.train.window_rows < model.train.first_rows:
        yield ("model", "train", "window_rows"), "fewer than first_rows", "raise it to at least first_rows"


def _check_shapes(events: Events, model: ModelSpec) -> Iterator[Finding]:
    """What a family looks along must be there, and of the size that it is to be seen in."""
    taken = {name: spec for name, spec in events.fields.items()
             if spec.input and (events.label is None or name != events.label.field)}
    if events.label is None:
        for name, spec in taken.items():
            if spec.type not in SCALARS | LISTS:
                yield ("events", "fields", name, "input"), f"no model family takes a field of type {spec.type}", (
                    "write `input: false`")
    if model.family not in SHAPED:
        return
    parameters, path = model.parameters, ("model", "parameters")
    if not any(spec.type in LISTS or spec.type == "text" for spec in taken.values()):
        yield ("model", "family"), f"{model.family} has nothing to look along", (
            "declare a vector, a sequence or a text, or use another family")
    if parameters.image and math.prod(parameters.image) not in {
            spec.dims for spec in taken.values() if spec.type == "vector"}:
        yield (*path, "image"), f"no vector has the {math.prod(parameters.image)} numbers of such an image", (
            "declare a vector with as many dims, or correct `image`")
    if model.family == "transformer" and parameters.units % parameters.heads:
        yield (*path, "heads"), f"{parameters.units} units cannot be shared by {parameters.heads} heads", (
            "choose units that are a multiple of heads")


def _check_search(model: ModelSpec) -> Iterator[Finding]:
    if model.search is not None and FAMILIES[model.family].own_task is not None:
        yield ("model", "search"), f"{model.family} has no labels that trials could be compared by", "remove it"
    search = model.search or Search()
    for name in search.ranges:
        path = ("model", "search", "ranges", name)
        if not searched_for(model.family, name):
            yield path, f"`{name}` is nothing a search for {model.family} tries", "remove it"
        elif wrong := _wrong_range(search, name, Parameters.model_fields[name].default):
            yield path, wrong, "name low and high with low < high (and low > 0 for log), or one_of"


def _wrong_range(search: Search, name: str, default: object) -> str:
    wrong = search.ranges[name].unfit(isinstance(default, int | float))
    try:
        for value in () if wrong else search.ranges[name].values(default):
            Parameters.model_validate({name: value})
    except ValidationError as error:
        return f"{value!r}: {error.errors()[0]['msg']}"
    return wrong


def task_for(events: Events, model: ModelSpec | None) -> str | None:
    """The family's own task, else what the label asks for; None where there is nothing to learn."""
    return (FAMILIES[model.family].own_task if model else None) or task_of(events)


_ROLES: dict[str, dict[str, frozenset[str]]] = {
    "ranking": {"user": frozenset({"category", "text"}), "item": frozenset({"category", "text", "int"})},
    "policy": {"action": frozenset({"category", "int", "bool"}), "done": frozenset({"bool"}),
               "propensity": frozenset({"float"})}}
_NEEDED = ("user", "item", "action")
_ANSWERED = {"ranking": {"label", "items", "scores"}, "policy": {"label", "values"}, "anomaly": {"label", "score"}}


def _check_roles(events: Events, model: ModelSpec, task: str) -> Iterator[Finding]:
    taken = _ROLES.get(task, {})
    for name, member in model.roles.model_dump(exclude={"liked_from"}).items():
        path, spec = ("model", "roles", name), events.fields.get(member or "")
        if member is None:
            if name in taken and name in _NEEDED:
                yield path, f"{model.family} needs to know which field is the {name}", "name it"
        elif name not in taken:
            yield path, f"{task} has no {name}", "remove it"
        elif spec is None or spec.type not in taken[name]:
            yield path, f"`{member}` is {f'a {spec.type}' if spec else 'not one of fields'}", (
                f"name a field of type {' or '.join(sorted(taken[name]))}")
        elif spec.input != (name == "user"):
            yield ("events", "fields", member, "input"), f"the {name} is {'' if name == 'user' else 'no '}part of " \
                "what a request holds", f"write input: {'true' if name == 'user' else 'false'}"


def _check_own_task(events: Events, model: ModelSpec, task: str) -> Iterator[Finding]:
    """What the tasks without a class or number as their answer need of the label and the entity (ADR 0011)."""
    yield from _check_roles(events, model, task)
    for name in sorted(_ANSWERED[task] & {name for name, spec in events.fields.items() if spec.input}):
        yield ("events", "fields", name), f"`{name}` is what a part of the answer is called", "rename the field"
    kind = label_type(events, events.label) if events.label else None
    label = ("events", "label", "field")
    if task == "policy":
        if kind not in NUMERIC:
            yield label if kind else ("model",), "a policy learns from rewards", "let events.label be a number"
        if events.entity is None:
            yield ("events", "entity"), "an episode is the rows of one entity", "name the member that they share"
    elif task == "anomaly" and kind not in (None, "bool"):
        yield label, f"a {kind} does not say what is strange", "use a bool that is true for what is, or no label"
    elif task == "ranking" and kind is not None and (kind in NUMERIC) != (model.roles.liked_from is not None):
        yield ("model", "roles", "liked_from"), f"the label is a {kind}", (
            "say from which number on it was liked" if kind in NUMERIC else "remove it")
    elif task == "ranking" and kind == "category":
        yield label, "a category does not say what was liked", "use a bool, a number with liked_from, or no label"


def _check_task(events: Events, model: ModelSpec) -> Iterator[Finding]:
    own = FAMILIES[model.family].own_task
    if own is not None:
        yield from _check_own_task(events, model, own)
        return
    yield from _check_roles(events, model, task_of(events) or "a task")
    if events.label is None:
        yield ("model",), "model needs a label to learn", "add events.label, or remove this block"
        return
    task = task_of(events)
    if task is not None and task not in FAMILIES[model.family].tasks:
        yield ("model", "family"), f"{model.family} does not fit {task}", (
            f"use {' or '.join(fitting(task))}"
            + (", or set events.label.task" if label_type(events, events.label) == "int" else ""))


def _check_judging(events: Events, model: ModelSpec) -> Iterator[Finding]:
    path, wanted = ("model", "evaluate"), model.evaluate
    if model.explain.rows and model.family not in EXPLAINED:
        yield ("model", "explain", "rows"), f"{model.family} cannot say what each field did", (
            f"remove it, or use {', '.join(sorted(EXPLAINED))}")
    elif model.explain.rows and model.export is not None:
        yield ("model", "explain", "rows"), "attributions are of the file as it was learnt", "remove model.export"
    if FAMILIES[model.family].own_task:
        for name in ("folds", "slices", "fairness"):
            if getattr(wanted, name):
                yield (*path, name), f"{model.family} is not judged row by row by a label", "remove it"
        return
    if model.train.stream is not None and wanted.fairness is not None and wanted.fairness.at_most is not None:
        yield (*path, "fairness", "at_most"), "a stream's candidates are not judged by group", (
            "remove it, or model.train.stream")
    named: list[tuple[tuple[str, ...], str]] = [((*path, "slices"), name) for name in wanted.slices]
    named += [((*path, "fairness", "groups"), name) for name in (wanted.fairness.groups if wanted.fairness else ())]
    for where, name in named:
        if name not in events.fields or events.fields[name].type not in SCALARS:
            yield where, f"`{name}` is no field whose values tell rows apart", "name fields of events.fields"
    if wanted.fairness and task_of(events) == "regression" and wanted.fairness.criterion != "accuracy":
        yield (*path, "fairness", "criterion"), f"{wanted.fairness.criterion} is about classes", "use accuracy"
