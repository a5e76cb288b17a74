"""Commands of the stack on this machine: up, down, status, pid, key, and faults by plan."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from lepton_ai._library.keras import checkout
from lepton_ai.cli.session import caller, remember, say

Home = Annotated[Path | None, typer.Option(help="Where the stack keeps its state; .local in the checkout by default.")]

chaos = typer.Typer(help="Break the stack on this machine by plan, and see it heal.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.callback()(remember)
    for command in (up, down, status, pid, key):
        app.command()(command)
    app.add_typer(chaos, name="chaos")


def up(home: Home = None, example: Annotated[bool, typer.Option(help="Then replay the example.")] = False,
       breakable: Annotated[bool, typer.Option(help="Have connections go through a proxy that `lepton chaos` can delay "
                                                    "and cut.")] = False) -> None:
    """Start what does not run, and wait until all is ready."""
    _local("up", home, *(["--example"] if example else []), *(["--breakable"] if breakable else []))


def down(home: Home = None) -> None:
    """Stop everything; data is kept."""
    _local("down", home)


def status(home: Home = None) -> None:
    """Show every process, topic lag and model; exit 1 when something is down."""
    _local("status", home)


def pid(name: Annotated[str, typer.Argument(help="As `lepton status` names it.")], home: Home = None) -> None:
    """Print the pid of one process."""
    _local("pid", home, name)


@chaos.command("run")
def chaos_run(plan: Annotated[Path, typer.Argument(help="A plan of faults, see docs/chaos.md.")],
              rows: Annotated[Path | None, typer.Option(help="Events are made of these, .csv or .jsonl, instead of the "
                                                             "plan's.")] = None,
              out: Annotated[Path | None, typer.Option(help="Write the table here, as Markdown.")] = None,
              resume: Annotated[Path | None, typer.Option(help="Keep outcomes in this file, and strike only what "
                                                               "it has none of.")] = None,
              only: Annotated[list[str] | None, typer.Option(help="This fault of the plan, once; may be given "
                                                                 "again.")] = None,
              together: Annotated[bool, typer.Option(help="The two faults given with --only at once.")] = False,
              home: Home = None) -> None:
    """Run a plan: each fault in turn while events flow; exit 1 when something was not as it expects."""
    files = [("--rows", rows), ("--out", out), ("--resume", resume)]
    more = [text for name, path in files if path is not None for text in (name, str(path.resolve()))]
    more += [text for name in only or () for text in ("--only", name)] + ["--together"] * together
    _run("deploy.chaos", "run", home, str(plan.resolve()), *more)


def key(shell: Annotated[bool, typer.Option("--shell", help="Print KEY (a header), REST (the gateway's address) and "
                                                           "GRPC (a predictor's), for `eval` or `source`.")] = False
        ) -> None:
    """Print the API key, as it stands after `Bearer`."""
    known = caller.credentials()
    if shell:
        say(f"KEY={shlex.quote(f'authorization: {known.authorization}')}")
        say(f"REST={shlex.quote(known.rest)}")
        if known.grpc:
            say(f"GRPC={shlex.quote(known.grpc)}")
        return
    say(known.authorization.removeprefix("Bearer "))


def _local(verb: str, home: Path | None, *more: str) -> None:
    _run("deploy.local", verb, home, *more)


def _run(module: str, verb: str, home: Path | None, *more: str) -> None:
    where = ["--home", str(home.resolve())] if home is not None else []
    in_checkout(module, verb, *where, *more)


def in_checkout(module: str, *words: str) -> None:
    """Run a module of the checkout as a command, and end as it ended."""
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=checkout(), check=False)
    # A child ended by a signal is told as shells tell it.
    raise typer.Exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)
