"""Commands of data quality: show it by minute and hour, and write a report of it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.clock import SystemClock
from lepton.errors import Missing
from lepton_ai._files.writing import writes
from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, Limit, Output, ask, reach, say, show

EVENTS = ("interval_start", "accepted", "rejected", "duplicates", "content_duplicates", "late", "future", "quarantined",
          "reasons")
FIELDS = ("field", "present", "missing", "invalid", "outliers", "repaired", "quarantined", "distinct", "p05", "median",
          "p95", "top")
Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]


class Interval(StrEnum):
    MINUTE = "1m"
    HOUR = "1h"


Every = Annotated[Interval, typer.Option("--interval", "-i", help="Steps of a minute or an hour, over all instances.")]
From = Annotated[str, typer.Option("--from", help="Steps that began then or later (RFC 3339).")]
To = Annotated[str, typer.Option("--to", help="Steps that began before.")]
Json = Annotated[bool, typer.Option("--json", help="The gateway's answer as JSON.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="quality", help="Data quality of a pipeline.", no_args_is_help=True)
    for command in (show_quality, report):
        group.command(command.__name__.partition("_")[0])(command)
    app.add_typer(group)


def show_quality(name: Name, interval: Every = Interval.MINUTE, begin: From = "", end: To = "", limit: Limit = 10,
                 output: Output = Form.TABLE, as_json: Json = False) -> None:
    """Show what was accepted, refused, repaired and missed: by step, then by field in the newest step."""
    found = _read(name, interval, begin, end, limit)
    if as_json or output is not Form.TABLE:
        show(found, Form.JSON if as_json else output)
        return
    show([{**one, "reasons": {reason["code"]: reason["count"] for reason in one["rejections"]}} for one in found],
         output, EVENTS)
    if found:
        say("")
        show([_field(one) for one in found[0]["fields"]], output, FIELDS)


def report(name: Name,
           out: Annotated[Path, typer.Option("--out", help="HTML file to write; it needs nothing beside it.")],
           interval: Every = Interval.MINUTE, begin: From = "", end: To = "", limit: Limit = 240) -> None:
    """Write a report with plots as one HTML file."""
    # Drawing takes a second to load, which no other command should wait for.
    from lepton_ai._quality.document import report as rendered
    from lepton_ai._quality.history import history

    found = _read(name, interval, begin, end, limit)
    if not found:
        raise Missing(f"nothing is known of the quality of {name} in this span", field="interval",
                      remedy="send events, or ask for another span")
    text = rendered(history(name, interval, found), SystemClock().now())
    with writes(out, "--out"):
        out.write_text(text, "utf-8")
    say(f"{out}: {len(found)} steps of {interval}, {len(text) // 1024} KiB")


def _read(name: str, interval: Interval, begin: str, end: str, limit: int) -> list[dict[str, Any]]:
    span = {"from": begin, "to": end}
    parameters: dict[str, str | int] = {"interval": interval.value, "limit": limit,
                                        **{key: value for key, value in span.items() if value}}

    async def read(transport: Transport) -> Any:
        return await transport.get(f"/v1/pipelines/{name}/quality", **parameters)
    return list(ask(read))


def _field(one: dict[str, Any]) -> dict[str, Any]:
    quantiles = one["quantiles"] or [None] * 7
    top = " ".join(f"{value['value']}={value['count']}" for value in one["top"][:3])
    return {**one, "p05": quantiles[1], "median": quantiles[3], "p95": quantiles[5], "top": top,
            "distinct": None if reach(one, "distinct") is None else round(one["distinct"])}
