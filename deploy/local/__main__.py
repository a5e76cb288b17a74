"""`python -m deploy.local up|down|status|key|pid|jaeger`: which command does what, and how its failure is said."""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from deploy.local import credentials, down, greeting, processes, programs, status, up
from deploy.local.servers import grpcurl, jaeger
from deploy.local.steps import ended, say, step
from lepton.errors import Missing


def main() -> int:
    """Exit codes: 0 done, 1 it could not be (one line on stderr says why), 2 wrong usage, 130 interrupted."""
    arguments = _parser().parse_args()
    # What libraries warn of while something is away would stand around the one line that says it.
    logging.getLogger().addHandler(logging.NullHandler())
    home = arguments.home.expanduser().resolve()
    return ended(f"lepton {arguments.command}", lambda: arguments.run(home, arguments))


def _up(home: Path, arguments: argparse.Namespace) -> int:
    first_time = credentials.stored() is None or not (home / "stack.json").exists()
    say(f"Bringing Lepton up in {home}")
    building = grpcurl.begin()
    stack = up.up(home, breakable=arguments.breakable)
    if arguments.example:
        say("The example: river's Phishing stream, replayed as live events (examples/phishing)")
        done = subprocess.run([sys.executable, "-m", "examples.phishing.replay"], cwd=programs.ROOT, check=False)
        if done.returncode:
            print(f"lepton up: the example ended with exit {done.returncode}; the stack itself is up", file=sys.stderr)
            return 1
    if building is not None:
        with step("grpcurl, built from source since the beginning"):
            _, failure = building.communicate()
        if failure:
            say(f"  (no grpcurl: {failure.strip()})")
    for line in greeting.lines(stack, first_time=first_time):
        say(line)
    return 0


def _down(home: Path, _: argparse.Namespace) -> int:
    if not home.exists():
        say(f"nothing to stop: {home} does not exist")
        return 0
    with processes.exclusively(home):
        down.down(home)
    say(f"down; the data stays in {home}")
    return 0


def _status(home: Path, _: argparse.Namespace) -> int:
    return 0 if status.status(home) else 1


def _key(home: Path, _: argparse.Namespace) -> int:
    greeting.print_key(home)
    return 0


def _jaeger(_: Path, arguments: argparse.Namespace) -> int:
    if not jaeger.present():
        if arguments.if_built:
            return 1
        say("Building Jaeger from source: about five minutes on two cores, once")
    command = " ".join(jaeger.command())
    quiet = " ".join(f"{name}={value}" for name, value in jaeger.QUIET.items())
    say(f"Jaeger {jaeger.VERSION} is built. In a terminal of its own:\n  {quiet} {command}\n"
        "then let the stack send its traces, and ask for them:\n"
        "  LEPTON_OTLP_ENDPOINT=http://127.0.0.1:4317 make up\n"
        "  curl -s http://127.0.0.1:16686/api/services")
    return 0


def _pid(home: Path, arguments: argparse.Namespace) -> int:
    process = processes.manager(home).process(arguments.name)
    if not process.pid:
        raise Missing("it does not run", field=arguments.name, remedy="`lepton status`")
    print(process.pid)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Lepton's stack on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--home", type=Path, default=programs.HOME, help="where its state is (default: .local)")
    for name, run, about in (("up", _up, "start what does not run and wait until all is ready"),
                             ("down", _down, "stop everything; data is kept"),
                             ("status", _status, "processes, lag, models; exit 1 when something is down"),
                             ("key", _key, "print the API key"),
                             ("jaeger", _jaeger, "build Jaeger, say how to run it"),
                             ("pid", _pid, "print the pid of one process")):
        command = commands.add_parser(name, help=about, parents=[shared])
        command.set_defaults(run=run)
        if name == "up":
            command.add_argument("--example", action="store_true", help="run examples/phishing once the stack is up")
            command.add_argument("--breakable", action="store_true",
                                 help="have connections go through a proxy that `lepton chaos` can delay and cut")
        if name == "jaeger":
            command.add_argument("--if-built", action="store_true", help="do not build it: exit 1 when it is not")
        if name == "pid":
            command.add_argument("name", help="as in `status`, for instance predictor-0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
