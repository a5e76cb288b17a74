"""Commands of pipelines and their data: apply, diff, get, export, delete, send."""

import difflib
import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml

from lepton.errors import Invalid, Missing
from lepton_ai._loading import CHUNK_ROWS, NDJSON
from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, Input, Limit, Output, ask, read_rows, read_text, say, show

Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]


class Kind(StrEnum):
    """What `get` shows."""

    PIPELINES = "pipelines"
    MODELS = "models"
    RUNS = "runs"
    INSTANCES = "instances"
    INCIDENTS = "incidents"
    DEPENDENCIES = "dependencies"
    ROWS = "rows"
    QUALITY = "quality"
    DEAD_LETTERS = "dead-letters"
    SOURCES = "sources"
    RECOVERY = "recovery"
    STATUS = "status"


COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.PIPELINES: ("name", "version", "generation", "partitions", "spec.metadata.dataset", "applied_at"),
    Kind.MODELS: ("model", "champion", "previous_champion", "revision", "reason", "changed_at"),
    Kind.RUNS: ("run_id", "model", "kind", "state", "epoch", "epochs", "rows", "version", "metrics", "failure.message"),
    Kind.INSTANCES: ("instance", "service", "state", "silent", "address", "load", "provider"),
    Kind.INCIDENTS: ("incident_id", "state", "symptom", "cause", "target", "opened_at", "time_to_detect_s",
                     "time_to_decide_s", "time_to_heal_s", "verdict"),
    Kind.DEPENDENCIES: ("caller", "way", "callee", "calls", "failed", "mean_ms", "seen_at"),
    Kind.QUALITY: ("interval_end", "instance", "accepted", "rejected", "duplicates", "quarantined"),
    Kind.DEAD_LETTERS: ("at", "place", "event_id", "field", "reason"),
    Kind.SOURCES: ("name", "kind", "state", "cursor", "events", "refused", "lag", "unit", "reason"),
    Kind.RECOVERY: ("at", "command_id", "target", "outcome", "executor", "evidence"),
}
_OF_PIPELINE = (Kind.ROWS, Kind.QUALITY, Kind.DEAD_LETTERS, Kind.SOURCES)
_LIMITED = (Kind.RUNS, Kind.INCIDENTS, Kind.QUALITY, Kind.DEAD_LETTERS, Kind.RECOVERY)


def add_to(app: typer.Typer) -> None:
    for command in (apply, diff, get, export, delete, send):
        app.command()(command)


def apply(file: Input, new_generation: Annotated[bool, typer.Option(
        help="Start new topics and a new model, for a change the current ones cannot take.")] = False) -> None:
    """Make a Pipeline file current; every mistake in it is told at once."""
    text = read_text(file)
    query: dict[str, str | int] = {"new_generation": 1} if new_generation else {}

    async def post(transport: Transport) -> Any:
        return (await transport.call("POST", "/v1/pipelines", params=query, content=text.encode(),
                                     headers={"content-type": "application/yaml"})).json()
    view = ask(post)
    done = "applied" if view.get("changed", True) else "unchanged"
    say(f"{view['name']} version {view['version']} (generation {view['generation']}): {done}")


def diff(file: Input) -> None:
    """Show what applying a file would change, and why it would need a new generation; exit 1 if it changes anything."""
    text = read_text(file)

    async def compare(transport: Transport) -> tuple[str, str, str, list[str]]:
        checked = (await transport.call("POST", "/v1/pipelines/validate", content=text.encode(),
                                        headers={"content-type": "application/yaml"})).json()
        if not checked["valid"]:
            lines = [f"  line {one.get('line', '?')}, {one['path']}: {one['message']}" for one in checked["problems"]]
            raise Invalid("\n".join([f"{len(lines)} problems:", *lines]), place=str(file))
        name = checked["spec"]["metadata"]["name"]
        try:
            current = (await transport.get(f"/v1/pipelines/{name}"))["spec"]
        except Missing:
            current = {}
        return name, _yaml(current), _yaml(checked["spec"]), checked.get("needs_new_generation", [])
    name, before, after, reasons = ask(compare)
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} (current)", f"{name} ({file})",
                                      lineterm=""))
    for line in lines:
        say(line)
    for reason in reasons:
        say(f"needs --new-generation: {reason}")
    if lines:
        raise typer.Exit(1)


def get(kind: Annotated[Kind, typer.Argument(help="What to show.")],
        name: Annotated[str, typer.Argument(
            help="One of them; for rows, quality, dead-letters and sources the pipeline.")] = "",
        output: Output = Form.TABLE, limit: Limit = 20) -> None:
    """Show pipelines, models, runs, instances, incidents, dependencies, or the data of a pipeline."""
    if kind in _OF_PIPELINE and not name:
        raise Invalid(f"{kind} are those of a pipeline", field="name", remedy=f"lepton get {kind} PIPELINE")
    path = f"/v1/pipelines/{name}/{kind}" if kind in _OF_PIPELINE else f"/v1/{kind}" + (f"/{name}" if name else "")
    parameters: dict[str, str | int] = {"limit": limit} if kind in _LIMITED and not (name and kind is Kind.RUNS) else {}

    async def read(transport: Transport) -> Any:
        return await transport.get(path, **parameters)
    show(ask(read), output, COLUMNS.get(kind, ()))


def export(name: Name) -> None:
    """Print a Pipeline as YAML, every default written out."""
    async def read(transport: Transport) -> str:
        return await transport.text(f"/v1/pipelines/{name}/export")
    sys.stdout.write(ask(read))


def delete(name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """End a pipeline; its topics and rows stay until their retention ends."""
    if not yes:
        typer.confirm(f"end pipeline {name}?", abort=True, err=True)

    async def remove(transport: Transport) -> None:
        await transport.call("DELETE", f"/v1/pipelines/{name}")
    ask(remove)
    say(f"{name}: deleted")


def send(name: Name, file: Input,
         labels: Annotated[bool, typer.Option("--labels", help="They are labels, not events.")] = False) -> None:
    """Send events or labels: JSON objects, one a line or in an array. Returns once all are durable."""
    rows = read_rows(file)

    async def post(transport: Transport) -> int:
        for start in range(0, len(rows), CHUNK_ROWS):
            body = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows[start:start + CHUNK_ROWS])
            await transport.call("POST", f"/v1/pipelines/{name}/{'labels' if labels else 'events'}",
                                 content=body.encode(), headers={"content-type": NDJSON})
        return len(rows)
    say(f"{name}: {ask(post)} {'labels' if labels else 'events'} sent")


def _yaml(spec: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True) if spec else ""
