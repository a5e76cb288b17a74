"""What the gateway says of data sets, as values a program can use and a person can read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

By = Literal["event", "entity", "time"]
Part = Literal["train", "validation", "test"]
RowsKind = TypeVar("RowsKind")


@dataclass(frozen=True, slots=True)
class StoredData:
    """The data set of one pipeline: what of its rows is stored."""

    name: str
    rows: int
    outcomes: int
    size_bytes: int
    fields: int
    label: str | None
    generation: int
    snapshots: int
    retention_s: float | None = None
    dataset: str | None = None

    def __str__(self) -> str:
        label = f", {self.outcomes} labels of {self.label}" if self.label else ""
        return f"data set {self.name}: {self.rows} rows{label}, {self.snapshots} snapshots"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows that never change. `rows` is what reading it gives; `erased` says which jobs took how many out since."""

    id: str
    pipeline: str
    rows: int
    rows_taken: int
    outcomes_taken: int
    created_at: str
    label_until: str | None = None
    erased: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        erased = f", {self.rows_taken - self.rows} erased" if self.erased else ""
        return f"snapshot {self.id[:12]} of {self.pipeline}: {self.rows} rows{erased}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Statistics of every field, by name: type, rows, missing, distinct, mean, std, min, max, quantiles, top."""

    pipeline: str
    rows: int
    entities: int
    fields: Mapping[str, Mapping[str, Any]]
    snapshot: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.pipeline}: {self.rows} rows of {self.entities} entities"]
        for name, one in self.fields.items():
            shown = [f"{key} {_short(one[key])}" for key in ("missing", "distinct", "mean", "min", "max") if key in one]
            lines.append(f"  {name} ({one['type']}): {', '.join(shown)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Split(Generic[RowsKind]):
    """Three parts that share no row, and no entity when split by entity. `counts` has the rows of each part."""

    train: RowsKind
    validation: RowsKind
    test: RowsKind
    by: str
    seed: int
    shares: tuple[float, float, float]
    counts: Mapping[str, int]
    method: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, or, with `dry_run`, what would be. `entity_key` is what the entity is known by from now on."""

    pipeline: str
    rows: int
    outcomes: int
    snapshots: int = 0
    dry_run: bool = False
    job_id: str = ""
    entity_key: str = ""


def stored_from(told: Mapping[str, Any]) -> StoredData:
    return StoredData(**{name: told[name] for name in StoredData.__slots__})


def snapshot_from(told: Mapping[str, Any]) -> Snapshot:
    return Snapshot(**{name: told[name] for name in Snapshot.__slots__ if name != "erased"},
                    erased=tuple(told["erased"]))


def profile_from(told: Mapping[str, Any]) -> Profile:
    return Profile(told["pipeline"], told["rows"], told["entities"], told["fields"], told["snapshot"])


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
