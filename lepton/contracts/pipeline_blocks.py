"""The blocks of a Pipeline as frozen values: keys, types, bounds and defaults of each; nothing across blocks."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

FieldType = Literal["float", "int", "bool", "category", "text"]
LabelType = Literal["float", "int", "bool", "category"]
Task = Literal["regression", "classification"]
Family = Literal["linear_regression", "logistic_regression", "mlp"]
Metric = Literal["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "mse", "rmse", "mae", "r2"]
MissingKind = Literal["mean", "median", "mode", "drop", "constant"]

NUMERIC: frozenset[str] = frozenset({"float", "int"})
REGRESSION_METRICS: frozenset[str] = frozenset({"mse", "rmse", "mae", "r2"})
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "mse", "rmse", "mae"})
DEFAULT_K: dict[str, float] = {"iqr": 1.5, "zscore": 3.0, "mad": 3.5, "none": 0.0}
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
    unit: str | None = None
    categories: Categories | None = None
    """The only accepted values; without it any text is."""


class LabelSpec(Block):
    field: Member
    type: LabelType | None = None
    """May be left out when `field` is one of `fields`."""
    arrives: Literal["with_event", "later"] = "later"
    task: Task | None = None
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

    @property
    def entity_member(self) -> str:
        return self.entity or self.id


class MissingPolicy(Block):
    """What stands in for an absent value; `drop`: the event becomes a dead letter."""

    kind: MissingKind
    value: float | int | bool | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str) and given in ("mean", "median", "mode", "drop"):
            return {"kind": given}
        if isinstance(given, dict) and set(given) == {"constant"} and isinstance(given["constant"], int | float | str):
            return {"kind": "constant", "value": given["constant"]}
        raise ValueError("must be mean, median, mode, drop or {constant: VALUE}")

    @model_serializer
    def _to_text(self) -> Any:
        return {"constant": self.value} if self.kind == "constant" else self.kind


class Outliers(Block):
    method: Literal["iqr", "zscore", "mad", "none"] = "none"
    action: Literal["clip", "quarantine", "keep"] = "keep"
    k: Annotated[float | None, Field(gt=0, le=1000)] = None
    """Width in interquartile ranges, standard deviations or scaled MADs."""

    @property
    def width(self) -> float:
        return DEFAULT_K[self.method] if self.k is None else self.k


class Clean(Block):
    missing: dict[str, MissingPolicy] = Field(default_factory=dict)
    """By field, and `default` for the rest; a `default` of mean or median means mode for fields that are no numbers."""
    outliers: Outliers = Outliers()


class Parameters(Block):
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...] | None,
                      Field(strict=False, min_length=1, max_length=8)] = None
    """Widths of the hidden layers; mlp only."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.01
    l2: Annotated[float, Field(ge=0, le=100)] = 0.0001
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """mlp only."""

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


class ModelSpec(Block):
    family: Family
    parameters: Parameters = Parameters()
    train: Train = Train()


class Gate(Block):
    metric: Metric
    at_least: float | None = None
    """For metrics where more is better."""
    at_most: float | None = None
    """For metrics where less is better: log_loss, mse, rmse, mae."""
    beat_champion_by: float = 0.0
    """In units of the metric, towards better; negative tolerates a slightly worse candidate."""
    held_out: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2


class Replicas(Block):
    min: Annotated[int, Field(ge=1, le=100)] = 1
    max: Annotated[int, Field(ge=1, le=100)] = 1


class Batching(Block):
    max_rows: Annotated[int, Field(ge=1, le=65_536)] = 64
    max_delay_ms: Annotated[float, Field(ge=0, le=1000)] = 1
    queue_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 4096


class Serve(Block):
    rollout: Literal["immediate"] = "immediate"
    replicas: Replicas = Replicas()
    batching: Batching = Batching()


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


class Watch(Block):
    quality: QualityWatch | None = None
    data: DataWatch = DataWatch()


class Budget(Block):
    actions: Annotated[int, Field(ge=0, le=1000)] = 6
    per_s: Annotated[float, Field(gt=0)] = 600


class Heal(Block):
    budget: Budget = Budget()
    cool_down_s: Annotated[float, Field(ge=0)] = 20
    notify: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Apprise URLs, or `log`."""
