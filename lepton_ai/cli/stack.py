"""Commands of the stack on this machine: up, down, status, pid, key, and the logs of its processes."""

import asyncio
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated

import typer

from lepton.clock import SystemClock
from lepton.errors import Missing
from lepton_ai._library.keras import checkout
from lepton_ai.cli.session import caller, remember, say

Home = Annotated[Path | None, typer.Option(help="Where the stack keeps its state; .local in the checkout by default.")]
_FOLLOW_S = 0.25


def add_to(app: typer.Typer) -> None:
    app.callback()(remember)
    for command in (up, down, status, pid, key, logs):
        app.command()(command)


def up(home: Home = None, example: Annotated[bool, typer.Option(help="Then replay the example.")] = False) -> None:
    """Start what does not run, and wait until all is ready."""
    _local("up", home, *(["--example"] if example else []))


def down(home: Home = None) -> None:
    """Stop everything; data is kept."""
    _local("down", home)


def status(home: Home = None) -> None:
    """Show every process, topic lag and model; exit 1 when something is down."""
    _local("status", home)


def pid(name: Annotated[str, typer.Argument(help="As `lepton status` names it.")], home: Home = None) -> None:
    """Print the pid of one process."""
    _local("pid", home, name)


def key(shell: Annotated[bool, typer.Option("--shell", help="Print KEY (a header) and REST (the gateway's address), "
                                                           "for `eval` or `source`.")] = False) -> None:
    """Print the API key, as it stands after `Bearer`."""
    known = caller.credentials()
    if shell:
        say(f"KEY={shlex.quote(f'authorization: {known.authorization}')}")
        say(f"REST={shlex.quote(known.rest)}")
        return
    say(known.authorization.removeprefix("Bearer "))


def logs(names: Annotated[list[str] | None, typer.Argument(help="Processes; all by default.")] = None,
         home: Home = None, lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 20,
         follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False) -> None:
    """Show the last lines that processes wrote."""
    folder = (home or checkout() / ".local") / "logs"
    paths = _log_files(folder, names or [])
    files = [(path.stem if len(paths) > 1 else "", path.open(encoding="utf-8", errors="replace")) for path in paths]
    try:
        for name, file in files:
            for line in deque(file, maxlen=lines):
                _say(name, line)
        if follow:
            asyncio.run(_follow(files))
    finally:
        for _, file in files:
            file.close()


def _local(verb: str, home: Path | None, *more: str) -> None:
    where = ["--home", str(home.resolve())] if home is not None else []
    done = subprocess.run([sys.executable, "-m", "deploy.local", verb, *where, *more], cwd=checkout(), check=False)
    # A child ended by a signal is told as shells tell it.
    raise typer.Exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def _log_files(folder: Path, names: list[str]) -> list[Path]:
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not found:
        raise Missing("no logs", place=str(folder), remedy="start the stack with `lepton up`")
    for name in names:
        if name not in found:
            raise Missing(f"no log of {name}", place=str(folder), remedy=f"there are {', '.join(found)}")
    return [found[name] for name in names] or list(found.values())


async def _follow(files: Sequence[tuple[str, IO[str]]]) -> None:
    clock = SystemClock()
    while True:
        for name, file in files:
            for line in file.readlines():
                _say(name, line)
        await clock.sleep(_FOLLOW_S)


def _say(name: str, line: str) -> None:
    sys.stdout.write((f"{name:12} " if name else "") + line.rstrip("\n") + "\n")
    sys.stdout.flush()
