"""`lepton logs`: what processes wrote, of the stack on this machine or from a log store."""

import asyncio
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from lepton.clock import SystemClock
from lepton_ai._library.keras import checkout
from lepton_ai._logs import entries, files
from lepton_ai._logs.entries import Entry, Level, Wanted
from lepton_ai._logs.store import Source, Store

_FOLLOW_S: Final = 0.25
_LINES: Final = 20
# A store may hold more than anyone can read, and what it answers is put in order here.
_MOST: Final = 1000
# Without a time a store would look through all it has.
_STORE_SINCE: Final = "1d"

Names = Annotated[list[str] | None, typer.Argument(help="Processes, as `lepton status` names them; all by default.")]
Services = Annotated[list[str] | None, typer.Option("--service", "-s", help="All processes of a service.")]
Since = Annotated[str, typer.Option(help="Not older than this: 30s, 10m, 2h, 1d, or a time.")]
Grep = Annotated[str, typer.Option(help="With this regular expression in their message or error.")]
Least = Annotated[Level | None, typer.Option(case_sensitive=False, help="At least so severe.")]
Trace = Annotated[str, typer.Option(help="Of this trace, by its id or traceparent.")]
Lines = Annotated[int | None, typer.Option("--lines", "-n", min=0, help=(
    f"The last so many: {_LINES} of each process, all where they are filtered, {_MOST} of a store."))]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON object a line, for programs.")]
StoreUrl = Annotated[str, typer.Option("--store", envvar="LEPTON_LOG_STORE", help=(
    "Address of a log store, instead of the files here."))]
Home = Annotated[Path | None, typer.Option(help="Where the stack keeps its state; .local in the checkout by default.")]


def add_to(app: typer.Typer) -> None:
    app.command()(logs)


def logs(names: Names = None, service: Services = None, since: Since = "", grep: Grep = "", level: Least = None,
         trace: Trace = "", lines: Lines = None, follow: Follow = False, as_json: AsJson = False, store: StoreUrl = "",
         home: Home = None) -> None:
    """Show what processes logged: the last lines, or those that are filtered for, of all processes by time."""
    now = SystemClock().now()
    remote = bool(store) and home is None
    when = since or (_STORE_SINCE if remote else "")
    wanted = Wanted(entries.since(when, now) if when else None, entries.pattern(grep) if grep else None, level,
                    entries.trace_id(trace) if trace else "")
    if remote:
        _from_store(Store(store), wanted, Source(names or (), service or ()), lines, follow, as_json)
        return
    folder = (home or checkout() / ".local") / "logs"
    paths = files.found(folder, names or (), service or ())
    with ExitStack() as held:
        opened = [files.Log(path, followed=follow) for path in paths]
        for log in opened:
            held.callback(log.close)
        several = len(opened) > 1
        if wanted.everything and not as_json:
            _last_of_each(opened, _LINES if lines is None else lines, several)
        else:
            _show(_last(files.merged(opened, wanted), lines), as_json, several)
        if follow:
            asyncio.run(_follow(opened, wanted, as_json))


def _last_of_each(opened: Sequence[files.Log], lines: int, several: bool) -> None:
    for log in opened:
        _show((entries.read_line(log.name, line) or Entry(log.name, line) for line in log.last(lines)), False, several)


def _from_store(store: Store, wanted: Wanted, source: Source, lines: int | None, follow: bool, as_json: bool) -> None:
    limit = _MOST if lines is None else lines
    found = store.newest(wanted, source, limit) if limit else []
    _show(found, as_json, True)
    if lines is None and len(found) == limit:
        sys.stderr.write(f"the newest {limit}; more with --lines, others with --since and --grep\n")
    if follow:
        _show(store.follow(wanted, source), as_json, True)


async def _follow(opened: Sequence[files.Log], wanted: Wanted, as_json: bool) -> None:
    clock = SystemClock()
    while True:
        for log in opened:
            _show((entry for entry in log.grown() if wanted.takes(entry)), as_json, len(opened) > 1)
        await clock.sleep(_FOLLOW_S)


def _last(found: Iterable[Entry], lines: int | None) -> Iterable[Entry]:
    return found if lines is None else deque(found, maxlen=lines)


def _show(found: Iterable[Entry], as_json: bool, several: bool) -> None:
    for entry in found:
        name = f"{entry.source:12} " if several and not entry.structured else ""
        sys.stdout.write((entry.as_json() if as_json else name + entry.text()) + "\n")
        sys.stdout.flush()
