"""The blocks of a Pipeline as frozen values: keys, types, bounds and defaults of each; nothing across blocks."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

FieldType = Literal["float", "int", "bool", "category", "text", "vector", "image", "sequence", "timestamp"]
LabelType = Literal["float", "int", "bool", "category"]
LabelTask = Literal["regression", "classification"]
Task = Literal["regression", "classification", "ranking", "policy", "anomaly"]
Metric = Literal["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "mse", "rmse", "mae", "r2",
                 "ndcg", "hit_rate", "mrr", "fqe_gain", "fqe_value", "wis_gain", "wis_value", "separation"]
MissingKind = Literal["mean", "median", "mode", "drop", "constant", "forward_fill", "model"]
OutlierMethod = Literal["iqr", "zscore", "mad", "half_space_trees", "none"]
OutlierAction = Literal["clip", "null", "quarantine", "keep"]
WindowKind = Literal["tumbling", "hopping", "sliding", "session"]
Aggregate = Literal["count", "sum", "mean", "std", "min", "max", "distinct", "last", "time_since"]

SCALARS: frozenset[str] = frozenset({"float", "int", "bool", "category", "text"})
"""Types whose value is one number, truth or text."""
LISTS: frozenset[str] = frozenset({"vector", "sequence"})
"""Types whose value is a list of numbers. A model takes these and scalars; the others are kept with their rows."""
NUMERIC: frozenset[str] = frozenset({"float", "int"})
LABELS: frozenset[str] = frozenset({"float", "int", "bool", "category"})
TASK_METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("r2", "mse", "rmse", "mae"),
    "classification": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
    "ranking": ("ndcg", "hit_rate", "mrr"),
    "policy": ("fqe_gain", "fqe_value", "wis_gain", "wis_value"),
    "anomaly": ("separation", "roc_auc"),
}
"""What a gate may ask of each task; the first when nothing is said."""
GAINS: frozenset[str] = frozenset({"fqe_gain", "wis_gain"})
"""What a policy brings above the decisions that were logged: 0 is as good as those."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "mse", "rmse", "mae"})
DEFAULT_K: dict[str, float] = {"iqr": 1.5, "zscore": 3.0, "mad": 3.5, "half_space_trees": 0.95, "none": 0.0}
MAX_FIELDS = 2_000  # an `_outliers` entry is an int16 index, and a struct per event must stay quick


class Block(BaseModel):
    """Strict: text is no number, 1 is no bool, an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


def _member(name: str) -> str:
    if not name or name != name.strip() or name.startswith("_"):
        raise ValueError("must be a JSON member name: not empty, no spaces around it, not beginning with `_`")
    return name


Member = Annotated[str, Field(max_length=63), AfterValidator(_member)]
Categories = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
                       Field(min_length=1, max_length=10_000, strict=False)]
Share = Annotated[float, Field(gt=0, le=1)]

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def _seconds(given: Any) -> Any:
    """`90`, `1.5h`, `200ms` → seconds."""
    if not isinstance(given, str):
        return float(given) if isinstance(given, int) and not isinstance(given, bool) else given
    found = _DURATION.fullmatch(given.strip())
    if found is None:
        raise ValueError("must be a duration like 200ms, 30s, 5m, 1.5h or 7d")
    return float(found[1]) * _UNITS_S[found[2]]


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=10 * 366 * 86_400)]
"""Seconds; written as a number of them, or with a unit."""


# YAML reads an unquoted null as nothing at all; where the word means something, what is written is what is meant.
_NULL = BeforeValidator(lambda given: "null" if given is None else given)


class Metadata(Block):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    dataset: str | None = None
    """Name of the loaded data set this pipeline was derived from, when it was."""


class FieldSpec(Block):
    type: FieldType
    required: bool = False
    """An event without it is a dead letter."""
    range: Annotated[tuple[float, float] | None, Field(strict=False)] = None
    """Lowest and highest accepted value, both included; anything else is a dead letter."""
    out_of_range: Annotated[Literal["reject", "clip", "null"] | None, _NULL] = None
    """What becomes of a value outside `range`: a dead letter (when left out), the nearest value inside, or missing."""
    unit: str | None = None
    accept_units: Annotated[tuple[str, ...] | None, Field(strict=False)] = None
    """Other units in which a value may come as `{value: 212, unit: degF}`; it is converted to `unit`."""
    categories: Categories | None = None
    """The only accepted values; without it any text is."""
    normalise: Annotated[tuple[Literal["trim", "lower", "nfc", "collapse"], ...] | None, Field(strict=False)] = None
    """Done to text and categories before they are checked: spaces at the ends, case, Unicode form, runs of spaces."""
    dims: Annotated[int | None, Field(ge=1, le=65_536)] = None
    """Numbers in a vector; required there."""
    max_length: Annotated[int | None, Field(ge=1, le=65_536)] = None
    """Most numbers in a sequence; 4,096 when left out."""
    image: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...] | None,
                     Field(min_length=2, max_length=3, strict=False)] = None
    """Height, width and, where it is not grey, colours of a vector's pixels: it may then come as a PNG or JPEG too."""
    max_bytes: Annotated[int | None, Field(ge=1, le=4 * 1024 * 1024)] = None
    """Most bytes of an image (base64 of a PNG or JPEG in JSON, bytes in Arrow); 1 MiB when left out."""
    input: bool = True
    """Whether a model takes it; what no family takes must say `false`."""

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of one value as a model takes it; () for a scalar."""
        if self.type == "vector":
            return (self.dims or 0,)
        return (self.length_limit,) if self.type == "sequence" else ()

    @property
    def length_limit(self) -> int:
        """Most numbers in a sequence."""
        return self.max_length or 4096

    @property
    def bytes_limit(self) -> int:
        """Most bytes of an image."""
        return self.max_bytes or 1024 * 1024


class LabelSpec(Block):
    field: Member
    type: LabelType | None = None
    """May be left out when `field` is one of `fields`."""
    arrives: Literal["with_event", "later"] = "later"
    task: LabelTask | None = None
    """By default float and int are numbers to predict, bool and category are classes; int can be declared classes."""
    categories: Categories | None = None


class Events(Block):
    id: Member = "event_id"
    entity: Member | None = None
    """Member that is the partition key; the id when left out."""
    time: Member = "occurred_at"
    """Member with the event time (RFC 3339, or epoch in seconds or milliseconds); absent: the broker's time."""
    partitions: Annotated[int, Field(ge=1, le=1024)] = 12
    fields: Annotated[dict[str, FieldSpec], Field(min_length=1, max_length=MAX_FIELDS)]
    label: LabelSpec | None = None
    dedupe_window: Annotated[int, Field(ge=0, le=1_000_000)] = 100_000
    """Accepted events remembered per partition, within which the same id and entity is a duplicate."""
    dead_letter_limit: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Refused events a minute and process past which the line stops; the topic's own limit when left out."""
    retention: Duration | None = None
    """How long accepted rows are kept in the store; for good when left out."""

    @property
    def entity_member(self) -> str:
        return self.entity or self.id


def label_type(events: Events, label: LabelSpec) -> str | None:
    spec = events.fields.get(label.field)
    return label.type or (spec.type if spec else None)


def task_of(events: Events) -> str | None:
    """`regression`, `classification`, or None without a (usable) label."""
    label = events.label
    if label is None:
        return None
    kind = label_type(events, label)
    if kind not in LABELS:
        return None
    return label.task or ("regression" if kind in NUMERIC else "classification")


class MissingPolicy(Block):
    """What stands in for an absent value; `drop`: the event becomes a dead letter.

    `forward_fill` takes the entity's last value (in the stream, as it was then); `model` predicts it from the row's
    other numbers. Where neither can, the mean stands in, or the mode for what is no number.
    """

    kind: MissingKind
    value: float | int | bool | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str) and given in ("mean", "median", "mode", "drop", "forward_fill", "model"):
            return {"kind": given}
        if isinstance(given, dict) and set(given) == {"constant"} and isinstance(given["constant"], int | float | str):
            return {"kind": "constant", "value": given["constant"]}
        raise ValueError("must be mean, median, mode, drop, forward_fill, model or {constant: VALUE}")

    @model_serializer
    def _to_text(self) -> Any:
        return {"constant": self.value} if self.kind == "constant" else self.kind


class Outliers(Block):
    method: OutlierMethod = "none"
    action: Annotated[OutlierAction, _NULL] = "keep"
    """`null`: the value counts as missing."""
    k: Annotated[float | None, Field(gt=0, le=1000)] = None
    """Width in interquartile ranges, standard deviations or scaled MADs; for half-space trees the score (below 1) from
    which a whole row is outlying."""

    @property
    def width(self) -> float:
        return DEFAULT_K[self.method] if self.k is None else self.k


class Duplicates(Block):
    """Beside the same id and entity within `events.dedupe_window`, which is always a duplicate."""

    content: bool = False
    """The same entity, time and fields under another id is a duplicate too, within the same window."""


class Late(Block):
    """Against the watermark: the highest event time seen in the partition (future events left out)."""

    after: Duration | None = None
    """An event further behind is late; never when left out."""
    action: Literal["keep", "quarantine"] = "keep"
    """`keep` accepts and counts it; `quarantine` makes it a dead letter."""


class Future(Block):
    """Against the broker's time of the record."""

    ahead: Duration = 300.0
    """An event time further ahead is a future one and moves no watermark."""
    action: Literal["keep", "quarantine", "clip"] = "keep"
    """`clip` sets it to the broker's time."""


class Clean(Block):
    missing: dict[str, MissingPolicy] = Field(default_factory=dict)
    """By field, and `default` for the rest; a `default` of mean or median means mode for fields that are no numbers."""
    outliers: Outliers = Outliers()
    duplicates: Duplicates = Duplicates()
    late: Late = Late()
    future: Future = Future()


class Window(Block):
    """Aggregates of one field over an entity's events, by event time, the event itself included.

    Columns are named `<name>_<aggregate>`; each is a nullable float.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    kind: WindowKind = "tumbling"
    size: Duration | None = None
    """Length; for a session left out."""
    every: Duration | None = None
    """A hopping window begins so often; `size` is a multiple of it."""
    gap: Duration | None = None
    """A session ends after so long without an event."""
    of: Member | None = None
    """Field aggregated; not needed for count and time_since."""
    aggregates: Annotated[tuple[Aggregate, ...], Field(strict=False, min_length=1, max_length=9)]
    input: bool = True
    """Whether a model takes the columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{aggregate}" for aggregate in self.aggregates)


class Features(Block):
    windows: Annotated[tuple[Window, ...], Field(strict=False, max_length=64)] = ()


class Gate(Block):
    metric: Metric
    at_least: float | None = None
    """For metrics where more is better. Of a policy's gain 0 when left out, of a policy's value required."""
    at_most: float | None = None
    """For metrics where less is better: log_loss, mse, rmse, mae."""
    beat_champion_by: float = 0.0
    """In units of the metric, towards better; negative tolerates a slightly worse candidate."""
    significance: Annotated[float | None, Field(gt=0, lt=0.5)] = None
    """Largest chance that the lead over the champion is not above beat_champion_by (paired bootstrap); any if left out.
    """
    held_out: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2


class QualityWatch(Block):
    metric: Metric | None = None
    """The gate's metric when left out."""
    window: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Newest labelled predictions looked at."""
    min_labels: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    drop: Annotated[float, Field(gt=0)] = 0.15
    """How much worse than at publication is a symptom: absolute, but a share of the value for mse, rmse and mae."""


class DataWatch(Block):
    bad_share: Share = 0.3
    """Share of rejected, outlying or incomplete rows that is a symptom."""
    window_s: Annotated[float, Field(gt=0, le=86_400)] = 5
    min_rows: Annotated[int, Field(ge=1)] = 50
    field_share: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """Share of a field's usual values that are gone, or lie where none did, when the field is broken."""
    turned_away: Annotated[float, Field(ge=0.1, lt=1)] = 0.5
    """Share of all rows that are rejected, whichever source they come from, when the pipeline is paused."""
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 10
    """How long every source must be bad before the data is called broken as a whole."""


class Watch(Block):
    quality: QualityWatch | None = None
    data: DataWatch = DataWatch()


class Tried(Block):
    """Values of one parameter that a search tries: those listed, or any from `low` to `high` (`log`: of its size)."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    one_of: Annotated[tuple[Any, ...] | None, Field(strict=False, min_length=1, max_length=50)] = None

    def unfit(self, number: bool) -> str:
        """Why these are no values to try for a parameter, which is a `number` or not; empty when they are."""
        if self.one_of is not None:
            return "there are two sets of values to try" if (self.low, self.high) != (None, None) else ""
        if not number or self.low is None or self.high is None:
            return "there are no values to try"
        empty = self.low >= self.high or (self.log and self.low <= 0)
        return f"nothing lies between {self.low:g} and {self.high:g}" if empty else ""

    def values(self, default: Any) -> tuple[Any, ...]:
        """Those listed, or the two bounds: whole numbers as ints where the parameter is one, as its default tells."""
        return tuple(int(one) if isinstance(default, int) and isinstance(one, float) and one.is_integer() else one
                     for one in self.one_of or (self.low, self.high))


class Search(Block):
    trials: Annotated[int, Field(ge=1, le=200)] = 20
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """What all trials and the training that follows them take together, as far as trials tell how long that is."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Most epochs of a trial; absent: as many as the model's."""
    ranges: dict[str, Tried] = Field(default_factory=dict)
    """By parameter; without any, those usual for the family."""
