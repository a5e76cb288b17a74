"""What a plan of faults may say, as the YAML file has it; knows nothing of how a fault is brought about."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lepton.errors import Invalid

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9 ._-]*$")]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Rest = Annotated[float, Field(ge=0, le=3600)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Block):
    """What the watchdog is to say and bring about. `cause` is what is blamed: `process:ingest`, `data:phishing`.

    A cause matches by its whole text, or by its beginning where this ends in `*`. `healed` False: somebody is told,
    and no more is expected. `must`: each of these symptoms has to be seen, within `must_s` of when nothing more is
    done to the stack; they fit as those of `symptom` do. Nothing at all is expected of a control.
    """

    symptom: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    must_s: Seconds = 120
    cause: tuple[str, ...] = ()
    detected_s: Seconds = 60
    healed: bool = True
    healed_s: Seconds = 120


class _Fault(_Block):
    name: Name
    expect: Expected | None = None
    failed_calls: Annotated[float, Field(ge=0, le=1)] | None = None
    """The largest share of the calls that may fail; left out, as many as the plan's budget has."""
    watchdog_up_s: Rest = 0
    """For how long the watchdog must have run, and events flown, before: what is usual it learns anew in each life."""


class Strike(_Fault):
    """A signal to a process (as `lepton status` names it).

    `kill` ends it, `hang` stops it for `for_s` seconds. `crash_loop`: it is ended, and whoever takes its place as soon
    as that is ready, `times` in all. `rest_s`: for how long `target` must not have been struck, or begun anew, before.
    """

    do: Literal["kill", "hang", "crash_loop"]
    target: Name
    rest_s: Rest = 0
    for_s: Seconds = 20
    times: Annotated[int, Field(ge=2, le=100)] = 5


class Starve(_Fault):
    """Less of the machine.

    `cpu`: `processes` others want it too. `files`: so many is all that the target may open more. `disk`: it is full for
    the target, and for whoever takes its place: no file of it takes another byte. `memory`: the target may have so many
    `megabytes` more, as one that leaked up to its limit. `rest_s`: as of a `kill`.
    """

    do: Literal["cpu", "files", "disk", "memory"]
    target: Name = "host"
    rest_s: Rest = 0
    for_s: Seconds = 30
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    files: Annotated[int, Field(ge=0, le=1000)] = 0
    megabytes: Annotated[int, Field(ge=0, le=100_000)] = 16


EVERY: Final = "every"
"""In the place of a process: every one that has such a connection."""


class Disturb(_Fault):
    """The connections of one process, or of `every` one, to another are not as usual for `for_s` seconds.

    `delay`: all takes `by_ms` longer each way, give or take `jitter_ms`. `reset`: a connection is reset `by_ms` after
    bytes came back on it, and so is the next. `cut`: nothing passes any more, and nobody is told. `loss`: of what is
    said at once, either way, a `share` drawn from `seed` comes as late as TCP has it there once its last segment was
    lost.
    Needs a stack of `lepton up --breakable`.
    """

    do: Literal["delay", "reset", "cut", "loss"]
    between: tuple[Name, Name]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: int = 7
    by_ms: Annotated[int, Field(ge=0, le=60_000)] = 500
    jitter_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    for_s: Seconds = 20


class Spoil(_Fault):
    """Events and labels that are not as usual for `for_s` seconds.

    `missing`: `field` is left out. `scale`: times `by`. `constant`: always `value`. `drift`: ever more
    often `value`, evenly over the time. `rename`: under another name.
    `poison`: the field is a text that means nothing. `duplicates`: every event twice more. `late`: an hour old.
    `flip`, `no_labels`: labels are inverted, or do not come. `surge`: `by` times the events. `silence`: none.
    """

    do: Literal["missing", "scale", "constant", "drift", "rename", "poison", "duplicates", "late", "flip", "no_labels",
                "surge", "silence"]
    field: str = ""
    by: Annotated[float, Field(gt=0, le=1e9)] = 5
    value: float = 0
    for_s: Seconds = 30
    source: str = ""
    """Who the spoilt events say they come from; other events flow beside where this is another source than theirs.

    Left out: `chaos/` and a name of this time's own, for a source that was quarantined stays so.
    """


class Burden(_Fault):
    """Callers of the gateway that others may not suffer from, for `for_s` seconds; none of their calls is counted.

    `abuse`: `clients` ask for predictions with one key of their own as fast as answers come. `slow_clients`: so many
    say their requests a byte a second.
    """

    do: Literal["abuse", "slow_clients"]
    clients: Annotated[int, Field(ge=1, le=1000)] = 50
    for_s: Seconds = 30


class Train(_Fault):
    """A training is ordered, as `POST /v1/models/<pipeline>/train` takes it, and waited for until it ended.

    `ends`: what may become of it.
    """

    do: Literal["train"]
    order: dict[str, Any] = {}
    ends: tuple[Literal["SUCCEEDED", "REJECTED", "FAILED", "CANCELLED"], ...] = ("SUCCEEDED",)
    for_s: Seconds = 120
    """How long it may take."""


class Misserve(_Fault):
    """A version is imported and promoted by the doors that people use, and is what the fault says, for `for_s` seconds.

    Somebody opened the gate for it. `bad_model`: it answers the opposite of what it learnt. `nan_model`: where `field`
    is `value` it answers NaN, and rows of that kind come from then on. `corrupt_model`: its bytes in the artefact store
    are changed before it is promoted. `slow_model`: it works out `products` of large matrices for every batch of rows,
    some milliseconds each, and answers right.
    """

    do: Literal["bad_model", "nan_model", "corrupt_model", "slow_model"]
    field: str = ""
    value: float = 0
    products: Annotated[int, Field(ge=1, le=2_000)] = 60
    for_s: Seconds = 60


class Canary(_Fault):
    """A version that answers the opposite of what it learnt came through the gate, and is tried beside the champion.

    It answers `share` of the entities in a rollout of the kind `canary`, by the Pipeline's own trial where it has one.
    `ends`: what may become of that rollout within `for_s`; whoever was champion must be, and answer alone again.
    """

    do: Literal["worse_canary"]
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    ends: tuple[Literal["REVERTED", "ABORTED", "UNDECIDED", "PROMOTED"], ...] = ("REVERTED", "ABORTED")
    for_s: Seconds = 120


class Wait(_Fault):
    """The control: nothing happens for `for_s` seconds, and nothing may be done about it."""

    do: Literal["nothing"]
    for_s: Seconds = 20


Fault = Annotated[Strike | Starve | Disturb | Spoil | Burden | Train | Misserve | Canary | Wait,
                  Field(discriminator="do")]


class Daily(_Block):
    """Days of `period_s` seconds: `night` of the events come at their beginning and end, all at noon.

    `season`: a number whose smaller half of values comes up to `swing` more often in the morning, and less in the
    evening, as much as rows have them over the day.
    """

    period_s: Annotated[float, Field(ge=10, le=86_400)] = 1200
    night: Annotated[float, Field(gt=0, le=1)] = 0.3
    season: str = ""
    swing: Annotated[float, Field(ge=0, le=1)] = 0.3


class Flow(_Block):
    """What flows all the time: numbered events with labels, made of a file's rows, and requests for predictions.

    `rows`: .csv or .jsonl, fields and label as the Pipeline names them; may be given to the command instead.
    """

    rows: Path | None = None
    label: str
    events_per_s: Annotated[float, Field(gt=0, le=10_000)] = 50
    entities: Annotated[int, Field(ge=1, le=100_000)] = 50
    label_after_s: Annotated[float, Field(ge=0, le=600)] = 1
    calls_per_s: Annotated[float, Field(ge=0, le=1000)] = 5
    daily: Daily | None = None
    """Left out: every second like the one before."""


class Budget(_Block):
    """When to stop breaking things: more lost or doubled events, failed calls, or faults that were not healed."""

    lost: Annotated[int, Field(ge=0)] = 0
    doubled: Annotated[int, Field(ge=0)] = 0
    failed_calls: Annotated[float, Field(ge=0, le=1)] = 0.2
    """A share of the calls of one fault."""
    unhealed: Annotated[int, Field(ge=0)] = 1
    unwell: Annotated[int, Field(ge=0)] = 2
    """Faults, one after the other, that were not struck because the stack was not well."""


class Pairs(_Block):
    """So many pairs of the plan's faults, drawn from `seed`, are struck at once after the last round."""

    count: Annotated[int, Field(ge=0, le=1000)] = 20
    seed: int = 7
    these: tuple[tuple[Name, Name], ...] = ()
    """By their names, before those that are drawn."""


class Plan(_Block):
    """Faults in their order, `rounds` times; with `shuffle` each round in an order drawn from `seed`."""

    name: Name
    pipeline: Name
    flow: Flow
    faults: Annotated[tuple[Fault, ...], Field(min_length=1)]
    budget: Budget = Budget()
    rounds: Annotated[int, Field(ge=0, le=100)] = 1
    shuffle: bool = False
    seed: int = 7
    pairs: Pairs | None = None
    ignore: tuple[str, ...] = ()
    """Causes that are not looked at, such as those of a machine that others use too: `resources:*`."""
    learn_s: Annotated[float, Field(ge=0, le=86_400)] = 0
    """How long events flow before the first fault, where what is usual has to be learnt first."""
    settle_s: Seconds = 10
    """How long all must be well before the next fault."""
    well_s: Seconds = 180
    """How long that is waited for before the fault is left out."""


def matches(cause: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is the cause, or its beginning where the pattern ends in `*`."""
    return any(cause.startswith(one[:-1]) if one.endswith("*") else cause == one for one in patterns)


def pairs(plan: Plan) -> list[tuple[Fault, Fault]]:
    """The pairs that the plan asks for; those drawn are never both of events, load or one process."""
    if plan.pairs is None:
        return []
    these = [(first, second) for first, second in (_named(plan, pair, "pairs.these") for pair in plan.pairs.these)]
    chance = random.Random(plan.pairs.seed)  # noqa: S311 - no secret
    # A loop of crashes takes minutes, so that nothing could be expected beside it; a control is no fault.
    those = [one for one in plan.faults if one.do not in ("crash_loop", "nothing")]
    possible = [(first, second) for place, first in enumerate(those) for second in those[place + 1:]
                if not _parts(first) & _parts(second)]
    return these + chance.sample(possible, min(plan.pairs.count, len(possible)))


def part(plan: Plan, names: Sequence[str], *, together: bool = False) -> Plan:
    """The same with these faults only, in their order, once each and without pairs; `together`: two of them at once.

    Raises Invalid for a fault that the plan has not.
    """
    only = _named(plan, names, "--only")
    if together and len(names) != 2:
        raise Invalid(f"{len(names)} faults are to be struck at once", field="--together", place=plan.name,
                      remedy="give --only twice")
    chosen = {"faults": only, "rounds": 0 if together else 1, "shuffle": False,
              "pairs": Pairs(count=0, these=((names[0], names[1]),)) if together else None}
    return plan.model_copy(update=chosen)


def _named(plan: Plan, names: Sequence[str], field: str, place: str = "") -> tuple[Fault, ...]:
    """Those faults. Raises Invalid for one that the plan has not."""
    named = {one.name: one for one in plan.faults}
    for name in names:
        if name not in named:
            raise Invalid(f"the plan has no fault {name}", field=field, place=place or plan.name,
                          remedy=f"one of: {', '.join(named)}")
    return tuple(named[name] for name in names)


def beside(fault: Fault, other: Fault) -> Expected | None:
    """What is expected of a fault while another one is struck: the same, as much later as the other one takes."""
    if fault.expect is None:
        return None
    longer_s = getattr(other, "for_s", 0.0) + (other.expect.healed_s if other.expect is not None else 0.0)
    return fault.expect.model_copy(update={
        name: getattr(fault.expect, name) + longer_s for name in ("detected_s", "healed_s", "must_s")})


def _parts(fault: Fault) -> frozenset[str]:
    """What only one fault may have in hand at a time."""
    match fault:
        case Strike() | Starve():
            return frozenset({fault.target})
        case Disturb():
            return frozenset(fault.between)
        case Spoil():
            return frozenset({"events"})
        case Burden():
            return frozenset({"calls"})
        case Train() | Canary() | Misserve(do="bad_model" | "corrupt_model" | "slow_model"):
            return frozenset({"model"})
        case Misserve():
            return frozenset({"model", "events"})
    return frozenset()


def read(path: Path, rows: Path | None = None) -> Plan:
    """The plan in a YAML file, `rows` in place of its own, which are looked for beside it. Raises Invalid."""
    try:
        document: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as failure:
        raise Invalid(f"the plan cannot be read: {failure}", place=str(path)) from failure
    if not isinstance(document, dict) or document.get("kind") != "Chaos" or document.get("apiVersion") != "lepton/v1":
        raise Invalid("this is no plan of faults", place=str(path), field="kind",
                      remedy="begin it with `apiVersion: lepton/v1` and `kind: Chaos`")
    told = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}
    try:
        plan = Plan.model_validate({"name": (document.get("metadata") or {}).get("name"), **told})
    except ValidationError as failure:
        first = failure.errors()[0]
        raise Invalid(first["msg"], field=".".join(str(one) for one in first["loc"]), place=str(path),
                      remedy="see docs/chaos.md") from failure
    twice = [one.name for at, one in enumerate(plan.faults) if one.name in {other.name for other in plan.faults[:at]}]
    if twice:
        raise Invalid(f"two faults are called {twice[0]}", field="faults", place=str(path), remedy="name them apart")
    for pair in plan.pairs.these if plan.pairs else ():
        _named(plan, pair, "pairs.these", str(path))
    if rows is None and plan.flow.rows is None:
        raise Invalid("it is not said which rows flow", field="flow.rows", place=str(path),
                      remedy="name a file there, or with --rows")
    found = rows or path.parent / (plan.flow.rows or "")
    return plan.model_copy(update={"flow": plan.flow.model_copy(update={"rows": found})})
