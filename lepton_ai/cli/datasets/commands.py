"""Commands of data sets: list, profile, snapshot, split, export, label, erase."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.errors import Invalid, Missing, Refused
from lepton_ai import AsyncLeptonClient
from lepton_ai._datasets.told import By, Snapshot
from lepton_ai.cli.session import Form, Limit, say, show, with_client

LISTED = ("name", "dataset", "rows", "outcomes", "label", "size_bytes", "snapshots", "retention_s", "generation")
PROFILED = ("field", "type", "missing", "distinct", "mean", "std", "min", "median", "max", "top")
FROZEN = ("id", "rows", "rows_taken", "outcomes_taken", "label_until", "created_at")
_SHORTEST = 6

Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, whole.")]
OfSnapshot = Annotated[str, typer.Option("--snapshot", "-s", help="Id of a snapshot, or how it begins; left out: what "
                                                                  "is stored now.")]
Columns = Annotated[str, typer.Option(help="Names with commas between them; all fields and the label when left out.")]
Labelled = Annotated[bool, typer.Option("--labelled", help="Only rows whose label is known.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="datasets", help="Stored rows: profiles, snapshots, splits, files, corrections, erasure.",
                        no_args_is_help=True)
    for command in (list_, profile, snapshot, snapshots, split, export, label, erase, drop, job):
        group.command(command.__name__.rstrip("_"))(command)
    app.add_typer(group)


def list_(as_json: Json = False) -> None:
    """Show what is stored of every pipeline."""
    async def read(client: AsyncLeptonClient) -> Any:
        return [asdict(one) for one in await client.datasets.list()]
    show(with_client(read), _form(as_json), LISTED)


def profile(name: Name, of: OfSnapshot = "", columns: Columns = "", labelled: Labelled = False,
            as_json: Json = False) -> None:
    """Show statistics of every field; it takes one pass over the rows."""
    async def read(client: AsyncLeptonClient) -> Any:
        return await client.datasets.profile(await _data(client, name, of), columns=_names(columns), labelled=labelled)
    found = with_client(read)
    if as_json:
        show(asdict(found), Form.JSON)
        return
    say(f"{found.pipeline}: {found.rows} rows of {found.entities} entities")
    show([{"field": field, **one, "median": one.get("quantiles", {}).get("0.5"),
           "top": " ".join(f"{value['value']}={value['count']}" for value in one.get("top", [])[:3])}
          for field, one in found.fields.items()], Form.TABLE, PROFILED)


def snapshot(name: Name, label_until: Annotated[str, typer.Option(
        help="Labels of a later time do not count (RFC 3339).")] = "", as_json: Json = False) -> None:
    """Freeze the rows that are stored now; the same rows have the same id."""
    until = _moment(label_until) if label_until else None

    async def take(client: AsyncLeptonClient) -> Snapshot:
        return await client.datasets.snapshot(name, label_until=until)
    found = with_client(take)
    if as_json:
        show(asdict(found), Form.JSON)
    else:
        say(f"{found.id}  {found.rows} rows, {found.outcomes_taken} labels")


def snapshots(name: Name, limit: Limit = 20, as_json: Json = False) -> None:
    """Show snapshots, newest first."""
    async def read(client: AsyncLeptonClient) -> Any:
        return [asdict(one) for one in await client.datasets.snapshots(name, limit)]
    show(with_client(read), _form(as_json), FROZEN)


def split(name: Name, by: Annotated[str, typer.Option(help="event, entity or time.")] = "event",
          seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
          shares: Annotated[str, typer.Option(help="Of train, validation and test.")] = "0.8,0.1,0.1",
          of: OfSnapshot = "", labelled: Labelled = False, columns: Columns = "",
          out: Annotated[Path | None, typer.Option("--out", help="Folder for train, validation and test.parquet.")
                         ] = None, as_json: Json = False) -> None:
    """Split rows by a stated hash of event or entity, or by time; nothing is left to chance."""
    kinds: dict[str, By] = {"event": "event", "entity": "entity", "time": "time"}
    if by not in kinds:
        raise Invalid(f"{by!r} decides no split", field="by", remedy=f"use {', '.join(kinds)}")
    told = _shares(shares)

    async def cut(client: AsyncLeptonClient) -> Any:
        parts = await client.datasets.split(await _data(client, name, of), by=kinds[by], seed=seed, shares=told,
                                            labelled=labelled, columns=_names(columns))
        if out is not None:
            for part in ("train", "validation", "test"):
                await getattr(parts, part).export(out / f"{part}.parquet")
        return parts
    if out is not None:
        _make(out)
    found = with_client(cut)
    if as_json:
        show({"by": by, "seed": seed, "shares": list(told), "counts": dict(found.counts), "method": found.method},
             Form.JSON)
        return
    for part, rows in found.counts.items():
        say(f"{part:12} {rows} rows" + (f"  {out / part}.parquet" if out is not None else ""))


def export(name: Name, out: Annotated[Path, typer.Option("--out", help="A .parquet, .ndjson or .arrow file.")],
           of: OfSnapshot = "", columns: Columns = "", labelled: Labelled = False) -> None:
    """Write rows with their newest labels to a file."""
    async def write(client: AsyncLeptonClient) -> Path:
        return await client.datasets.export(await _data(client, name, of), out, columns=_names(columns),
                                            labelled=labelled)
    written = with_client(write)
    say(f"{written}: {written.stat().st_size} bytes")


def label(name: Name, file: Annotated[Path, typer.Option("--file", "-f", help="CSV, JSONL or Parquet with event_id and "
                                                                              "label.")]) -> None:
    """Correct labels; of an event's labels the newest counts."""
    async def send(client: AsyncLeptonClient) -> int:
        return await client.datasets.label(name, file)
    say(f"{name}: {with_client(send)} labels sent")


def erase(name: Name, entity: Annotated[str, typer.Argument(help="Whose rows.")],
          dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")] = False,
          yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, as_json: Json = False) -> None:
    """Take an entity out of every segment and snapshot, for good."""
    if not dry_run and not yes:
        typer.confirm(f"erase every row of {entity} from {name}, for good?", abort=True, err=True)

    async def take_out(client: AsyncLeptonClient) -> Any:
        return await client.datasets.erase(name, entity, dry_run=dry_run)
    found = with_client(take_out)
    if as_json:
        show(asdict(found), Form.JSON)
    elif dry_run:
        say(f"{name}: {found.rows} rows and {found.outcomes} labels would be erased")
    else:
        say(f"{name}: {found.rows} rows and {found.outcomes} labels erased, from {found.snapshots} snapshots too")


def drop(name: Name, snapshot_id: Annotated[str, typer.Argument(help="Id of a snapshot, or how it begins.")],
         yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Forget a snapshot; rows that only it held are gone."""
    if not yes:
        typer.confirm(f"forget snapshot {snapshot_id} of {name}?", abort=True, err=True)

    async def forget(client: AsyncLeptonClient) -> str:
        found = await _snapshot(client, name, snapshot_id)
        await client.datasets.drop_snapshot(found)
        return found.id
    say(f"{with_client(forget)}: forgotten")


def job(name: Name, job_id: Annotated[str, typer.Argument(help="As it was told.")]) -> None:
    """Show how far something asked for is."""
    async def read(client: AsyncLeptonClient) -> Any:
        return await client.datasets.job(name, job_id)
    show(with_client(read), Form.JSON)


async def _data(client: AsyncLeptonClient, name: str, snapshot_id: str) -> str | Snapshot:
    return await _snapshot(client, name, snapshot_id) if snapshot_id else name


async def _snapshot(client: AsyncLeptonClient, name: str, begins: str) -> Snapshot:
    if len(begins) < _SHORTEST:
        raise Invalid(f"{begins!r} is too short to tell snapshots apart", field="snapshot",
                      remedy=f"give {_SHORTEST} characters at least")
    found = [one for one in await client.datasets.snapshots(name, 1000) if one.id.startswith(begins)]
    if not found:
        raise Missing(f"{name} has no snapshot {begins}", field="snapshot", remedy=f"lepton datasets snapshots {name}")
    if len(found) > 1:
        raise Invalid(f"{len(found)} snapshots begin with {begins}", field="snapshot", remedy="give more of the id")
    return found[0]


def _names(columns: str) -> list[str]:
    return [name for name in columns.split(",") if name]


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(one) for one in text.split(","))
    except ValueError as error:
        raise Invalid(f"{text!r} are no three shares", field="shares",
                      remedy="write for example 0.8,0.1,0.1") from error
    return train, validation, test


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no time", field="label_until", remedy="as in 2026-01-31T12:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise Refused(f"cannot be made: {failure.strerror}", place=str(folder)) from failure


def _form(as_json: bool) -> Form:
    return Form.JSON if as_json else Form.TABLE
