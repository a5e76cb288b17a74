"""Commands of dead letters: list, show, replay, discard."""

import json
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.clock import SystemClock
from lepton.errors import Invalid
from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, Limit, Output, ask, read_rows, say, show

COLUMNS = ("letter", "at", "row", "event_id", "field", "reason")
EVERY_COLUMN = (*COLUMNS, "replayed", "discarded")
_AGO = re.compile(r"([0-9]+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_SETTLED = 10_000

dead_letters = typer.Typer(help="Events and labels that were refused: list, show, replay, discard.",
                           no_args_is_help=True)


class Topics(StrEnum):
    EVENTS = "events"
    LABELS = "labels"
    FEATURES = "features"
    OUTCOMES = "outcomes"


Pipeline = Annotated[str, typer.Argument(help="Name of a pipeline.")]
Named = Annotated[list[str] | None, typer.Argument(help="Letters by name, as `list` shows them: events/0/12.")]
Topic = Annotated[list[Topics] | None, typer.Option("--topic", help="Whose letters; events and labels by default.")]
Reason = Annotated[str, typer.Option(help="A pattern found anywhere in the reason (RE2).")]
Code = Annotated[str, typer.Option(help="The reason's first word: wrong_type, missing, out_of_range, malformed, …")]
Field = Annotated[str, typer.Option(help="The field it is about.")]
Source = Annotated[str, typer.Option(help="Who sent it: ce_source; of a file file/NAME.")]
EventId = Annotated[str, typer.Option("--event-id", help="The event's id.")]
Since = Annotated[str, typer.Option(help="Refused at this time (RFC 3339) or later; 30m, 2h, 1d: so long ago.")]
Until = Annotated[str, typer.Option(help="Refused before this time.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Of the refused record.")]
Offset = Annotated[int | None, typer.Option(min=0, help="Of the refused record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, max=MAX_SETTLED, help="How many at most, oldest first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(dead_letters, name="dead-letters")


@dead_letters.command("list")
def list_letters(pipeline: Pipeline, topic: Topic = None, reason: Reason = "", code: Code = "", field: Field = "",
                 source: Source = "", event_id: EventId = "", since: Since = "", until: Until = "",
                 partition: Partition = None, offset: Offset = None,
                 every: Annotated[bool, typer.Option("--all", help="Also those replayed or discarded.")] = False,
                 output: Output = Form.TABLE, limit: Limit = 20) -> None:
    """Show refused events and labels, newest first."""
    wanted = _filter(topic, reason, code, field, source, event_id, since, until, partition, offset)

    async def read(transport: Transport) -> Any:
        answer = await transport.call("GET", f"/v1/pipelines/{pipeline}/dead-letters",
                                      params={**wanted, "limit": limit, **({"all": True} if every else {})})
        return answer.json()
    found = ask(read)
    if output is Form.TABLE:
        found = [{**one, "at": (one["at"] or "")[:19]} for one in found]
    show(found, output, EVERY_COLUMN if every else COLUMNS)


@dead_letters.command("show")
def show_letter(pipeline: Pipeline,
                letter: Annotated[str, typer.Argument(help="As `list` names it: events/0/12.")],
                raw: Annotated[bool, typer.Option("--raw", help="Only its text, as it was refused.")] = False,
                output: Output = Form.YAML) -> None:
    """Show everything of one letter."""
    async def read(transport: Transport) -> Any:
        return await transport.get(f"/v1/pipelines/{pipeline}/dead-letters/{letter}")
    found = ask(read)
    if not raw:
        show(found, output)
        return
    if found["text"] is None:
        raise Invalid("the letter is no text", place=letter, remedy="leave out --raw: base64 holds its bytes")
    say(found["text"].rstrip("\n"))


@dead_letters.command("replay")
def replay(pipeline: Pipeline, letters: Named = None, topic: Topic = None, reason: Reason = "", code: Code = "",
           field: Field = "", source: Source = "", event_id: EventId = "", since: Since = "", until: Until = "",
           partition: Partition = None, offset: Offset = None, dry_run: DryRun = False,
           force: Annotated[bool, typer.Option("--force", help="Also those replayed or discarded before.")] = False,
           edit: Annotated[Path | None, typer.Option(help="JSON lines {\"letter\": \"events/0/12\", \"value\": {…}}: "
                                                          "what goes back instead; only these go.")] = None,
           limit: Most = MAX_SETTLED) -> None:
    """Send letters back to where they were refused. Each goes back once; repeating the command is harmless."""
    edits = _edits(edit) if edit is not None else {}
    wanted = _filter(topic, reason, code, field, source, event_id, since, until, partition, offset)
    named = [*(letters or []), *(one for one in edits if one not in (letters or []))]
    if named:
        wanted["letters"] = named
        wanted.setdefault("topic", sorted({one.partition("/")[0] for one in named}))
    body = {"filter": wanted, "dry_run": dry_run, "limit": limit, "force": force, "edits": edits}
    _settle(pipeline, "replay", body, "would go back" if dry_run else "went back")


@dead_letters.command("discard")
def discard(pipeline: Pipeline, letters: Named = None, topic: Topic = None, reason: Reason = "", code: Code = "",
            field: Field = "", source: Source = "", event_id: EventId = "", since: Since = "", until: Until = "",
            partition: Partition = None, offset: Offset = None, dry_run: DryRun = False, yes: Yes = False,
            limit: Most = MAX_SETTLED) -> None:
    """Mark letters as dealt with: `list` hides them unless --all. They stay until their retention ends."""
    wanted = _filter(topic, reason, code, field, source, event_id, since, until, partition, offset)
    if letters:
        wanted["letters"] = letters
        wanted.setdefault("topic", sorted({one.partition("/")[0] for one in letters}))
    if not (wanted or yes or dry_run):
        typer.confirm(f"discard every dead letter of {pipeline}?", abort=True, err=True)
    body = {"filter": wanted, "dry_run": dry_run, "limit": limit}
    _settle(pipeline, "discard", body, "would be discarded" if dry_run else "discarded")


def _settle(pipeline: str, verb: str, body: dict[str, Any], told: str) -> None:
    async def post(transport: Transport) -> Any:
        return await transport.post(f"/v1/pipelines/{pipeline}/dead-letters/{verb}", body)
    done = ask(post)
    if body["dry_run"]:
        show([{**one, "at": (one["at"] or "")[:19]} for one in done["letters"]], Form.TABLE, COLUMNS)
    more = "; the limit was reached, there may be more" if done["more"] else ""
    say(f"{pipeline}: {done['count']} {'letter' if done['count'] == 1 else 'letters'} {told}{more}")


def _filter(topic: list[Topics] | None, reason: str, code: str, field: str, source: str, event_id: str,
            since: str, until: str, partition: int | None, offset: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {"topic": [one.value for one in topic or []], "reason": reason, "code": code,
                            "field": field, "source": source, "event_id": event_id, "since": _time(since, "--since"),
                            "until": _time(until, "--until"), "partition": partition, "offset": offset}
    return {name: value for name, value in told.items() if value not in ("", None, [])}


def _time(text: str, option: str) -> str:
    if not text:
        return ""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return (SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as failure:
        raise Invalid(f"{text!r} is no time", field=option,
                      remedy="write 2026-01-31T12:00:00Z, or 30m for half an hour ago") from failure
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _edits(path: Path) -> dict[str, Any]:
    edits: dict[str, Any] = {}
    for row in read_rows(path):
        letter, value = row.get("letter"), row.get("value")
        if not isinstance(letter, str) or not isinstance(value, dict):
            raise Invalid("each line needs `letter` and the JSON object `value`", place=str(path),
                          remedy=json.dumps({"letter": "events/0/12", "value": {"event_id": "e-1"}}))
        edits[letter] = value
    return edits
