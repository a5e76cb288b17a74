"""The verbs on data sets for programs without an event loop."""

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lepton_ai._datasets.rows import Run, StoredRows
from lepton_ai._datasets.told import By, Erasure, Profile, Snapshot, Split, StoredData
from lepton_ai._datasets.verbs import AsyncDatasets, Name


class Datasets:
    """`client.datasets`; see `AsyncDatasets` for what the verbs promise."""

    def __init__(self, datasets: AsyncDatasets, run: Run) -> None:
        self._datasets = datasets
        self._run = run

    def list(self) -> builtins.list[StoredData]:
        """One a pipeline, by name."""
        found: builtins.list[StoredData] = self._run(self._datasets.list())
        return found

    def get(self, name: str) -> StoredData:
        """One of them."""
        found: StoredData = self._run(self._datasets.get(name))
        return found

    def profile(self, data: Name, *, columns: Sequence[str] = (), labelled: bool = False) -> Profile:
        """Statistics of every field."""
        found: Profile = self._run(self._datasets.profile(data, columns=columns, labelled=labelled))
        return found

    def rows(self, data: Name, *, columns: Sequence[str] = (), labelled: bool = False, limit: int = 0) -> StoredRows:
        """Rows to be read with `to_arrow`, `to_pandas`, `to_polars`, `to_torch`, `batches` or `export`."""
        return StoredRows(self._datasets.rows(data, columns=columns, labelled=labelled, limit=limit), self._run)

    def snapshot(self, name: str, *, label_until: datetime | None = None) -> Snapshot:
        """Freeze the rows that are stored now; the same rows give the same snapshot."""
        found: Snapshot = self._run(self._datasets.snapshot(name, label_until=label_until))
        return found

    def snapshots(self, name: str, limit: int = 20) -> builtins.list[Snapshot]:
        """Newest first."""
        found: builtins.list[Snapshot] = self._run(self._datasets.snapshots(name, limit))
        return found

    def get_snapshot(self, name: str, snapshot_id: str) -> Snapshot:
        """One by its id."""
        found: Snapshot = self._run(self._datasets.get_snapshot(name, snapshot_id))
        return found

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        """Forget a snapshot; rows that only it held are gone."""
        self._run(self._datasets.drop_snapshot(snapshot))

    def split(self, data: Name, *, by: By = "event", seed: int = 0,
              shares: tuple[float, float, float] = (0.8, 0.1, 0.1), labelled: bool = False,
              columns: Sequence[str] = ()) -> Split[StoredRows]:
        """Train, validation and test, by a stated hash of event or entity and a seed, or by time."""
        parts = self._run(self._datasets.split(data, by=by, seed=seed, shares=shares, labelled=labelled,
                                               columns=columns))
        train, validation, test = (StoredRows(one, self._run) for one in (parts.train, parts.validation, parts.test))
        return Split(train, validation, test, by, seed, shares, parts.counts, parts.method)

    def export(self, data: Name, path: str | Path, *, columns: Sequence[str] = (), labelled: bool = False) -> Path:
        """Write the rows to a file: Parquet, JSON lines or Arrow, by its extension."""
        written: Path = self._run(self._datasets.export(data, path, columns=columns, labelled=labelled))
        return written

    def label(self, name: str, source: str | Path | Sequence[Mapping[str, Any]]) -> int:
        """Correct labels from a CSV, JSONL or Parquet file, or from rows; how many were sent."""
        sent: int = self._run(self._datasets.label(name, source))
        return sent

    def erase(self, name: str, entity: str, *, dry_run: bool = False) -> Erasure:
        """Take an entity out of every segment and snapshot; with `dry_run` it is only counted."""
        found: Erasure = self._run(self._datasets.erase(name, entity, dry_run=dry_run))
        return found

    def job(self, name: str, job_id: str) -> dict[str, Any]:
        """How far something asked for is."""
        found: dict[str, Any] = self._run(self._datasets.job(name, job_id))
        return found
