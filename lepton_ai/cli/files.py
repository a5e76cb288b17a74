"""Commands of files: upload one, describe one by a Pipeline, live one again."""

import os
import shlex
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lepton.contracts.files.rows import file_id
from lepton.errors import Invalid
from lepton_ai import AsyncLeptonClient, Upload
from lepton_ai._files.profile import SAMPLE_ROWS, profile
from lepton_ai._files.proposal import propose
from lepton_ai._files.reading import open_rows
from lepton_ai._files.replaying import Played, Replaying, Tempo
from lepton_ai._transport import Transport
from lepton_ai.cli.bars import bar
from lepton_ai.cli.session import ask, say, with_client

INTERRUPTED = 130
File = Annotated[Path, typer.Argument(help="A .csv, .tsv, .jsonl or .parquet file.")]
Pipeline = Annotated[str, typer.Option("--pipeline", "-p", help="Name of a pipeline.")]
Delimiter = Annotated[str | None, typer.Option(help="Between the values of a CSV file; a comma by default.")]


def add_to(app: typer.Typer) -> None:
    for command in (upload, infer, replay):
        app.command()(command)


def upload(file: File, pipeline: Pipeline,
           name: Annotated[str | None, typer.Option(help="What its rows are called after; its own by default.")] = None,
           delimiter: Delimiter = None) -> None:
    """Send a file into a pipeline. Interrupted anywhere, the same command goes on; no row counts twice."""
    reached: list[Upload] = []
    with bar(file.name) as shown:
        def tell(state: Upload) -> None:
            reached[:] = [state]
            shown.show(*_progress(state))

        async def send(client: AsyncLeptonClient) -> Upload:
            return await client.upload(pipeline, file, tell, name=name, delimiter=delimiter)

        try:
            done = with_client(send)
        except KeyboardInterrupt:
            done = None
    if done is None:
        share = f" at {_progress(reached[0])[0]:.0%}" if reached and not reached[0].done else ""
        sys.stderr.write(f"\nstopped{share}; the same command goes on from there\n")
        raise typer.Exit(INTERRUPTED)
    refused = f", {done.refused:,} of them unreadable" if done.refused else ""
    say(f"{done.name} into {pipeline}: {done.rows:,} rows{refused}")
    say(f"what is refused: lepton dead-letters list {pipeline} --source {shlex.quote(f'file/{done.name}')}")
    if done.ignored_columns:
        say(f"not part of the pipeline: {', '.join(done.ignored_columns)}")


def infer(file: File, name: Annotated[str | None, typer.Option(help="Name of the pipeline; the file's else.")] = None,
          label: Annotated[str | None, typer.Option(help="Column to learn.")] = None,
          out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there; else it is printed.")] = None,
          force: Annotated[bool, typer.Option("--force", help="Replace that file.")] = False,
          rows: Annotated[int, typer.Option(min=1, help="How many rows to look at.")] = SAMPLE_ROWS,
          delimiter: Delimiter = None) -> None:
    """Propose a Pipeline for a file: types, id, entity, time and label, each with its reason."""
    if out is not None and out.exists() and not force:
        raise Invalid("the file exists", place=str(out), remedy="name another, or add --force")
    found = propose(profile(open_rows(file, delimiter), rows), file.name, name, label)
    for note in found.notes:
        sys.stderr.write(f"note: {note}\n")
    if out is None:
        sys.stdout.write(found.text)
        return
    out.write_text(found.text, "utf-8")
    fields = len(found.pipeline.events.fields)
    say(f"{out}: pipeline {found.pipeline.name}, {fields} {'field' if fields == 1 else 'fields'}; "
        f"next: lepton apply -f {out}, then lepton upload {file} --pipeline {found.pipeline.name}")


def replay(file: File, pipeline: Pipeline,
           rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second, whatever their times.")] = None,
           speed: Annotated[float, typer.Option(min=0.001, help="So many times as fast as recorded.")] = 1.0,
           now: Annotated[bool, typer.Option("--now", help="Event times become those of sending.")] = False,
           from_time: Annotated[str, typer.Option(help="Pass over rows before this time (RFC 3339).")] = "",
           loop: Annotated[int, typer.Option(min=1, help="How often; ids of later loops end in ~2, ~3, …")] = 1,
           new_ids: Annotated[bool, typer.Option("--new-ids", help="Send them as events never seen before.")] = False,
           label_after: Annotated[float, typer.Option(min=0, help="Seconds until the label of an event follows, where "
                                                                  "the pipeline's labels come later.")] = 0.0,
           resume: Annotated[bool, typer.Option("--resume", help="Go on where the last replay stopped.")] = False,
           delimiter: Delimiter = None) -> None:
    """Send a recorded file as live events, at the tempo it was recorded in or at a rate."""
    tempo = Tempo(rate, speed, now, _time(from_time), loop, new_ids, label_after)
    left = _left(file, pipeline)
    begun = Played.load(left) if resume else Played(uuid.uuid4().hex[:8])
    reached = [begun]
    with bar(file.name) as shown:
        def tell(played: Played) -> None:
            reached[:] = [played]
            played.save(left)
            shown.show((played.loop - 1 + played.share) / loop, str(played))

        async def play(transport: Transport) -> Played:
            return await Replaying(transport, pipeline, file, tempo, delimiter).play(begun, tell)

        try:
            done = ask(play)
        except KeyboardInterrupt:
            done = None
    if done is None:
        reached[0].save(left)
        sys.stderr.write(f"\nstopped after {reached[0]}; add --resume to go on\n")
        raise typer.Exit(INTERRUPTED)
    left.unlink(missing_ok=True)
    say(f"{file.name} into {pipeline}: {done}")


def _progress(state: Upload) -> tuple[float, str]:
    if not state.id:
        return 0.0, "reading"
    if state.total_rows:
        return state.rows / state.total_rows, f"{state.rows:,} of {state.total_rows:,} rows"
    # Bytes of a Parquet file are on their way before its first row is.
    return state.offset / state.size, f"{state.rows:,} rows" if state.rows else "sending"


def _left(file: Path, pipeline: str) -> Path:
    """Where a replay notes how far it is: one note a file and pipeline."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "lepton" / "replays" / f"{file_id(pipeline, 0, str(file.resolve()))}.json"


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as failure:
        raise Invalid(f"{text!r} is no time", field="--from-time", remedy="write 2026-01-31T12:00:00Z") from failure
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
