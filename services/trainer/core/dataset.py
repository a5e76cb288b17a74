"""Which rows a run learns from: features joined with what became of them, the newest, and who is held out."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.features import EVENT_ID, OCCURRED_AT, SOURCE_OFFSET, decode_table
from services.trainer.core.failure import RunFailed, bad_data, bad_parameter

LABEL = "_label"
_PARTITION = "_partition"
TRAIN, VALIDATION, HELD_OUT = 0, 1, 2
VALIDATION_SHARE = 0.1
# Below this a tenth is too few rows to judge an epoch by, and each of them is needed for learning.
MIN_ROWS_FOR_VALIDATION = 100
MAX_CLASSES = 1000
MAX_LABEL = 1e30
MIN_TRAIN_ROWS, MIN_HELD_OUT_ROWS = 8, 2


def features_of(segments: Iterable[tuple[int, bytes]], fields: Sequence[str]) -> pa.Table:
    """Feature rows of (partition, bytes) pairs, with `fields` and what orders them; an absent column is all null."""
    tables = [rows_of_partition(partition, decode_table(data), fields) for partition, data in segments]
    return pa.concat_tables(tables, promote_options="default") if tables else None


def rows_of_partition(partition: int, table: pa.Table, fields: Sequence[str]) -> pa.Table:
    """What `features_of` gives for one segment's rows."""
    there = set(table.column_names)
    kept = [name for name in (EVENT_ID, OCCURRED_AT, SOURCE_OFFSET, *fields) if name in there]
    return table.select(kept).replace_schema_metadata(None).append_column(
        _PARTITION, pa.array(np.full(table.num_rows, partition, dtype=np.int32)))


def outcomes_of(segments: Iterable[tuple[int, bytes]]) -> pa.Table:
    """Outcome rows, in the order they were stored."""
    tables = [decode_table(data).replace_schema_metadata(None) for _, data in segments]
    return pa.concat_tables(tables) if tables else None


def known_until(outcomes: pa.Table | None, until: datetime | None) -> pa.Table | None:
    """Outcomes whose label time is not after `until`; None: all."""
    if outcomes is None or until is None:
        return outcomes
    return outcomes.filter(pc.less_equal(outcomes.column("label_time"), pa.scalar(until, pa.timestamp("us", tz="UTC"))))


def join(features: pa.Table | None, outcomes: pa.Table | None, fields: dict[str, pa.DataType],
         labelled: bool = True) -> pa.Table:
    """Rows whose outcome is known (all, unless `labelled`), oldest first: event id, `fields`, `_label`.

    Of several outcomes of an event the one with the latest label time counts, of several rows of an event the newest.
    """
    schema = [(EVENT_ID, pa.string()), *fields.items()]
    if features is None or (labelled and outcomes is None):
        return pa.table({name: pa.array([], kind) for name, kind in [*schema, (LABEL, pa.float64())]})
    ordered = _ordered(features)
    if not _distinct(ordered.column(EVENT_ID)):
        ordered = ordered.filter(_last_of_each(ordered.column(EVENT_ID)))
    if outcomes is None:
        columns = {name: _column(ordered, name, kind) for name, kind in schema}
        return pa.table({**columns, LABEL: pa.nulls(ordered.num_rows, pa.float64())}).combine_chunks()
    rows, labels = _labelled(ordered, outcomes, labelled)
    columns = {name: _column(rows, name, kind) for name, kind in schema}
    return pa.table({**columns, LABEL: labels}).combine_chunks()


def _ordered(features: pa.Table) -> pa.Table:
    """Rows by time, then by their place in the log. Mostly they came so, which is cheap to see."""
    times = features.column(OCCURRED_AT).to_numpy().view(np.int64)
    if (times[1:] > times[:-1]).all():
        return features
    return features.sort_by([(OCCURRED_AT, "ascending"), (_PARTITION, "ascending"), (SOURCE_OFFSET, "ascending")])


def _labelled(rows: pa.Table, outcomes: pa.Table, labelled: bool) -> tuple[pa.Table, pa.ChunkedArray]:
    """Rows, each event once, that have an outcome (all, unless `labelled`), and its label."""
    if rows.column(EVENT_ID).equals(outcomes.column("event_id")):
        # An outcome for each, in their order: the rule where labels come with their rows.
        return rows, outcomes.column("label")
    newest = outcomes
    if not _distinct(outcomes.column("event_id")):
        # index_in finds the first, so the newest outcome comes first; the reversal makes the later stored win a tie.
        backwards = outcomes.take(pa.array(np.arange(outcomes.num_rows - 1, -1, -1)))
        newest = backwards.sort_by([("label_time", "descending")])
    place = pc.index_in(rows.column(EVENT_ID), value_set=newest.column("event_id").combine_chunks())
    if labelled and place.null_count:
        known = pc.is_valid(place)
        place, rows = place.filter(known), rows.filter(known)
    return rows, newest.column("label").take(place.combine_chunks())


def newest(rows: pa.Table, count: int) -> pa.Table:
    """The last `count` of rows in order of time; 0: all."""
    return rows.slice(max(0, rows.num_rows - count)) if count else rows


def roles(event_ids: Iterable[str], held_out: float, validated: bool = True) -> npt.NDArray[np.int8]:
    """TRAIN, VALIDATION (only if `validated`) or HELD_OUT for each event, by a hash of its id alone.

    An event keeps its role in every run with the same share, so no version is measured on a row its parent learnt from.
    """
    numbers = _hashed(event_ids)
    found = np.full(len(numbers), TRAIN, dtype=np.int8)
    away = numbers[:, 0] < held_out
    found[away] = HELD_OUT
    if validated and (~away).sum() >= MIN_ROWS_FOR_VALIDATION:
        found[~away & (numbers[:, 1] < VALIDATION_SHARE)] = VALIDATION
    return found


def _hashed(names: Iterable[str]) -> npt.NDArray[np.float64]:
    """Two numbers from 0 to 1 for each name."""
    return np.frombuffer(b"".join(hashlib.blake2b(one.encode(), digest_size=16).digest() for one in names),
                         dtype=np.uint64).reshape(-1, 2).astype(np.float64) / 2.0**64


def check_enough(training: int, held_out: int) -> None:
    """Raises RunFailed(data) for fewer rows than anything can be learnt from and measured on."""
    if not training + held_out:
        raise no_rows()
    if training < MIN_TRAIN_ROWS or held_out < MIN_HELD_OUT_ROWS:
        raise bad_data(f"too little data: {training} rows to learn from and {held_out} held out",
                       f"at least {MIN_TRAIN_ROWS} and {MIN_HELD_OUT_ROWS} are needed; wait for more labels",
                       "too_few_rows")


def no_rows() -> RunFailed:
    return bad_data("there are no labelled rows", "send events and their labels; the two are joined by event id",
                    "no_rows")


def _distinct(ids: pa.ChunkedArray) -> bool:
    """Whether none comes twice, which is the rule and cheap to find out."""
    return bool(pc.count_distinct(ids, mode="all").as_py() == len(ids))


def _last_of_each(ids: pa.ChunkedArray) -> pa.Array:
    backwards = ids.combine_chunks().take(pa.array(np.arange(len(ids) - 1, -1, -1)))
    _, first = np.unique(pc.dictionary_encode(backwards).indices.to_numpy(), return_index=True)
    keep: npt.NDArray[Any] = np.zeros(len(ids), dtype=bool)
    keep[len(ids) - 1 - first] = True
    return pa.array(keep)


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> Any:
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, kind)
    column = rows.column(name)
    return column if column.type == kind else column.cast(kind)


@dataclass(frozen=True, slots=True)
class Target:
    """What a label is to the network: the number of its class, or a number standardised by `mean` and `std`.

    A recommender's classes are its items and a policy's are its actions, of which `label_type` is the type; `std` is
    then the spread of rewards. Of an autoencoder `std` is the error from which a row is called strange.
    """

    task: str
    label_type: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    top_k: int = 0
    """Items a recommender answers with."""
    reach: float | None = None
    """How far from a number its bounds lie, in `std`; None where none are answered."""

    @property
    def outputs(self) -> int:
        """Width of the network's last layer: one score for a number or a yes/no, else one a class."""
        if self.task in ("ranking", "policy"):
            return len(self.classes)
        return 1 if self.task in ("regression", "anomaly") or len(self.classes) == 2 else len(self.classes)

    @property
    def named_classes(self) -> tuple[str, ...]:
        """Those a manifest lists. A catalogue stays in the file: the registry's state travels over the bus."""
        return () if self.task == "ranking" else self.classes

    def encode(self, labels: pa.ChunkedArray) -> npt.NDArray[Any]:
        """Class numbers (-1 for a class not known here), or the label's numbers as they are."""
        if self.task == "regression":
            return _numbers(labels)
        places = {name: place for place, name in enumerate(self.classes)}
        return np.array([places.get(text, -1) for text in texts(labels, self.label_type)], dtype=np.int64)

    def to_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Target":
        return cls(**{**data, "classes": tuple(data["classes"])})


def fit_target(task: str, label_type: str, declared: Sequence[str] | None, labels: pa.ChunkedArray,
               training: npt.NDArray[np.bool_]) -> Target:
    """Classes are those declared, else those seen; mean and spread are of the training rows. Raises RunFailed."""
    if task == "regression":
        numbers = _numbers(labels)[training]
        if not (np.abs(numbers) <= MAX_LABEL).all():
            raise bad_data("labels are not finite, or too large to be answered in 32 bits",
                           "correct the labels that are NaN, infinite or beyond 1e30", "unfit_labels")
        spread = float(numbers.std())
        return Target(task, label_type, (), float(numbers.mean()), spread if spread > 0 else 1.0)
    seen = sorted(set(texts(labels, label_type)), key=(int if label_type == "int" else str))
    if len(seen) > MAX_CLASSES:
        raise bad_data(f"the label has {len(seen)} classes, more than {MAX_CLASSES}",
                       "declare events.label.task: regression, or merge rare classes", "too_many_classes")
    classes = ("false", "true") if label_type == "bool" else tuple(declared or seen)
    return Target(task, label_type, classes)


def texts(labels: pa.ChunkedArray, label_type: str) -> list[str]:
    """Labels as the text that names their class."""
    if label_type == "bool":
        return ["true" if one else "false" for one in labels.to_pylist()]
    if label_type == "int":
        return [str(int(one)) for one in labels.to_pylist()]
    return [str(one) for one in labels.to_pylist()]


def _numbers(labels: pa.ChunkedArray) -> npt.NDArray[Any]:
    if not (pa.types.is_floating(labels.type) or pa.types.is_integer(labels.type)):
        raise bad_parameter(f"the label is {labels.type}, not a number", "use logistic_regression or mlp on classes, "
                                                                         "or label with numbers")
    return np.asarray(labels.to_numpy(), dtype=np.float64)
