"""The verbs on data sets, for programs that run an event loop."""

import builtins
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton_ai._datasets.rows import ANSWER_S, AsyncStoredRows
from lepton_ai._datasets.told import (
    By,
    Erasure,
    Part,
    Profile,
    Snapshot,
    Split,
    StoredData,
    profile_from,
    snapshot_from,
    stored_from,
)
from lepton_ai._progress import Progress
from lepton_ai._transport import Transport

_POLL_S: Final = 0.25
# A job that says nothing new for this long is not being done.
STALLED_S: Final = 600.0
LABELS_AT_ONCE: Final = 10_000
ARROW: Final = "application/vnd.apache.arrow.stream"
NDJSON: Final = "application/x-ndjson"

Name = str | Snapshot
"""A pipeline's name stands for the rows that are stored now, a snapshot for its own."""


class AsyncDatasets:
    """`client.datasets`. Every verb raises Missing for a pipeline there is not, and Unavailable."""

    def __init__(self, transport: Transport, progress: Progress) -> None:
        self._transport = transport
        self._progress = progress

    async def list(self) -> builtins.list[StoredData]:
        """One a pipeline, by name."""
        return [stored_from(one) for one in await self._transport.get("/v1/datasets")]

    async def get(self, name: str) -> StoredData:
        """One of them."""
        return stored_from(await self._transport.get(f"/v1/datasets/{name}"))

    async def profile(self, data: Name, *, columns: Sequence[str] = (), labelled: bool = False) -> Profile:
        """Statistics of every field, computed by one pass over the rows."""
        asked = _asked(data, columns, labelled)
        answer = await self._transport.call("GET", f"/v1/datasets/{_pipeline(data)}/profile", params=asked,
                                            timeout=ANSWER_S)
        return profile_from(answer.json())

    def rows(self, data: Name, *, columns: Sequence[str] = (), labelled: bool = False,
             limit: int = 0) -> AsyncStoredRows:
        """Rows to be read with `to_arrow`, `to_pandas`, `to_polars`, `to_torch`, `batches` or `export`."""
        return AsyncStoredRows(self._transport, _pipeline(data), {
            **_asked(data, columns, labelled), **({"limit": limit} if limit else {})})

    async def snapshot(self, name: str, *, label_until: datetime | None = None) -> Snapshot:
        """Freeze the rows that are stored now; the same rows give the same snapshot.

        Labels of a time after `label_until` do not count. Raises Refused when nothing is stored.
        """
        if label_until is not None and label_until.tzinfo is None:
            raise Invalid("label_until has no time zone", field="label_until", remedy="give one, as in UTC")
        wanted: dict[str, Any] = {"command_id": f"sdk-{uuid.uuid4().hex}"}
        if label_until is not None:
            wanted["label_until"] = label_until.isoformat()
        asked = await self._transport.post(f"/v1/datasets/{name}/snapshots", wanted)
        result = (await self._ended(name, asked))["result"]
        return await self.get_snapshot(name, str(result["snapshot"]))

    async def snapshots(self, name: str, limit: int = 20) -> builtins.list[Snapshot]:
        """Newest first."""
        return [snapshot_from(one) for one in await self._transport.get(f"/v1/datasets/{name}/snapshots", limit=limit)]

    async def get_snapshot(self, name: str, snapshot_id: str) -> Snapshot:
        """One by its id."""
        return snapshot_from(await self._transport.get(f"/v1/datasets/{name}/snapshots/{snapshot_id}"))

    async def drop_snapshot(self, snapshot: Snapshot) -> None:
        """Forget a snapshot; rows that only it held are gone."""
        path = f"/v1/datasets/{snapshot.pipeline}/snapshots/{snapshot.id}"
        asked = (await self._transport.call("DELETE", path, repeatable=False)).json()
        await self._ended(snapshot.pipeline, asked)

    async def split(self, data: Name, *, by: By = "event", seed: int = 0,
                    shares: tuple[float, float, float] = (0.8, 0.1, 0.1), labelled: bool = False,
                    columns: Sequence[str] = ()) -> Split[AsyncStoredRows]:
        """Train, validation and test, by a stated hash of event or entity and a seed, or by time.

        By time the rows must stand still: a snapshot is taken of a pipeline given by name.
        """
        if by == "time" and not isinstance(data, Snapshot):
            data = await self.snapshot(data)
        how: dict[str, str | int] = {"by": by, "seed": seed, "shares": ",".join(f"{one!r}" for one in shares)}
        asked = _asked(data, columns, labelled)
        told = (await self._transport.call("GET", f"/v1/datasets/{_pipeline(data)}/split", params={**asked, **how},
                                           timeout=ANSWER_S)).json()
        if told["cuts"]:
            how["cuts"] = ",".join(repr(datetime.fromisoformat(cut).timestamp()) for cut in told["cuts"])

        def part(name: Part) -> AsyncStoredRows:
            return AsyncStoredRows(self._transport, _pipeline(data), {**asked, **how, "part": name})

        return Split(part("train"), part("validation"), part("test"), by, seed, shares,
                     {name: one["rows"] for name, one in told["parts"].items()}, told["method"])

    async def export(self, data: Name, path: str | Path, *, columns: Sequence[str] = (),
                     labelled: bool = False) -> Path:
        """Write the rows to a file: Parquet, JSON lines or Arrow, by its extension."""
        return await self.rows(data, columns=columns, labelled=labelled).export(path)

    async def label(self, name: str, source: str | Path | Sequence[Mapping[str, Any]]) -> int:
        """Correct labels from a CSV, JSONL or Parquet file, or from rows; how many were sent.

        Columns `event_id` and `label`, and where there are `entity` and `label_time`. Of an event's labels the newest
        counts; without a time that is the one sent last. Sending the same again changes nothing. Raises Invalid.
        """
        sent = 0
        for body, media, count in _bodies(source):
            await self._transport.call("POST", f"/v1/datasets/{name}/labels", content=body,
                                       headers={"content-type": media})
            sent += count
            self._progress.show(f"{name}: {sent} labels sent")
        self._progress.done(f"{name}: {sent} labels sent")
        return sent

    async def erase(self, name: str, entity: str, *, dry_run: bool = False) -> Erasure:
        """Take an entity out of every segment and snapshot, in all generations; returned once it is done.

        With `dry_run` it is only counted. Raises Refused (scope), Unavailable when segments cannot be read: then
        everything else is erased already.
        """
        path = f"/v1/datasets/{name}/entities/{quote(entity, safe='')}"
        parameters = {"dry_run": "true"} if dry_run else {}
        told = (await self._transport.call("DELETE", path, params=parameters, timeout=ANSWER_S)).json()
        if dry_run:
            return Erasure(name, told["rows"], told["outcomes"], dry_run=True)
        result = (await self._ended(name, told))["result"]
        return Erasure(name, result["rows"], result["outcomes"], result["snapshots"], False, told["job_id"],
                       told["entity_key"])

    async def job(self, name: str, job_id: str) -> dict[str, Any]:
        """How far something asked for is."""
        found: dict[str, Any] = await self._transport.get(f"/v1/datasets/{name}/jobs/{job_id}")
        return found

    async def _ended(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        clock = self._transport.clock
        before, moved_at = dict(asked), clock.monotonic()
        while True:
            job = await self.job(name, str(asked["job_id"]))
            if job["state"] == "DONE":
                return job
            if job["state"] == "FAILED":
                outcome = Unavailable if job["action"] == "ERASE" else Refused
                raise outcome(str(job["reason"]), place=f"job {job['job_id']}")
            if job != before:
                before, moved_at = job, clock.monotonic()
            elif clock.monotonic() - moved_at > STALLED_S:
                raise Unavailable(f"job {job['job_id']} is {job['state'].lower()} and does not move",
                                  remedy="see `lepton status`")
            done = job["progress"]
            self._progress.show(f"{name}: {job['action'].lower()} {done['done']} of {done['total']}")
            await clock.sleep(_POLL_S)


def _pipeline(data: Name) -> str:
    return data.pipeline if isinstance(data, Snapshot) else data


def _asked(data: Name, columns: Sequence[str], labelled: bool) -> dict[str, str | int]:
    asked: dict[str, str | int] = {"snapshot": data.id} if isinstance(data, Snapshot) else {}
    return asked | ({"columns": ",".join(columns)} if columns else {}) | ({"labelled": "true"} if labelled else {})


def _bodies(source: str | Path | Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, str, int]]:
    """Body, media type and number of labels, so many at once that a request stays small."""
    if not isinstance(source, str | Path):
        for start in range(0, len(source), LABELS_AT_ONCE):
            rows = source[start:start + LABELS_AT_ONCE]
            yield b"\n".join(json.dumps(dict(row), default=str).encode() for row in rows), NDJSON, len(rows)
        return
    path = Path(source)
    try:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            lines = [line for line in path.read_bytes().splitlines() if line.strip()]
            for start in range(0, len(lines), LABELS_AT_ONCE):
                some = lines[start:start + LABELS_AT_ONCE]
                yield b"\n".join(some), NDJSON, len(some)
            return
        table = _table(path)
    except OSError as failure:
        raise Missing(f"cannot be read: {failure.strerror}", place=str(path)) from failure
    except (pa.ArrowInvalid, UnicodeDecodeError) as failure:
        raise Invalid(f"cannot be read: {str(failure).splitlines()[0]}", place=str(path)) from failure
    for batch in table.to_batches(max_chunksize=LABELS_AT_ONCE):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield sink.getvalue().to_pybytes(), ARROW, batch.num_rows


def _table(path: Path) -> pa.Table:
    match path.suffix.lower():
        case ".parquet":
            return pq.read_table(path)
        case ".csv":
            with path.open("rb") as file:
                names = pa.csv.open_csv(file).schema.names
            # As text: what a label is, the Pipeline says, and no guess.
            return pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True))
    raise Invalid(f"{path.suffix or 'no extension'} is no table of labels", place=str(path),
                  remedy="use .csv, .jsonl or .parquet")
