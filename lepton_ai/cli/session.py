"""How a command reaches Lepton, and how what it got is shown: tables for people, JSON or YAML for programs."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from rich.console import Console
from rich.table import Table

from lepton.errors import Invalid, Missing
from lepton_ai import AsyncLeptonClient, _credentials
from lepton_ai._transport import Transport

Answer = TypeVar("Answer")


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Key = Annotated[str, typer.Option(help="Key id, or the name of a variable or entry that holds it.")]
Secret = Annotated[str, typer.Option(help="The same for its secret; a name is better, others can read arguments.")]
Region = Annotated[str, typer.Option(help="A region of the credentials file, or the gateway's URL.")]
Output = Annotated[Form, typer.Option("--output", "-o", help="How the answer is shown.")]
Input = Annotated[Path, typer.Option("--file", "-f", help="File to read; - is standard input.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most, newest first.")]


class Caller:
    """Whom the commands of this process speak for; the options before the command's name say it."""

    def __init__(self) -> None:
        self.key, self.secret, self.region = _credentials.KEY, _credentials.SECRET, _credentials.REGION

    def credentials(self) -> _credentials.Credentials:
        return _credentials.resolve(self.key, self.secret, self.region)


caller = Caller()


def remember(key: Key = _credentials.KEY, secret: Secret = _credentials.SECRET,
             region: Region = _credentials.REGION) -> None:
    """Keeps machine-learning models alive on live data."""
    caller.key, caller.secret, caller.region = key, secret, region


def with_client(work: Callable[[AsyncLeptonClient], Awaitable[Answer]]) -> Answer:
    """What `work` returns, done with a client of the caller."""
    async def opened() -> Answer:
        async with AsyncLeptonClient(caller.key, caller.secret, caller.region) as client:
            return await work(client)
    return asyncio.run(opened())


def ask(work: Callable[[Transport], Awaitable[Answer]]) -> Answer:
    """The same for a single call."""
    return with_client(lambda client: work(client.transport))


def read_text(path: Path) -> str:
    """Raises Missing, or Invalid when it is no text."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError as failure:
        raise Invalid("not UTF-8 text", place=str(path)) from failure
    except OSError as failure:
        raise Missing(f"cannot be read: {failure.strerror}", place=str(path)) from failure


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a file: one, an array, or one a line. Raises Invalid naming the line."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        found = parse_json(text, str(path))
    else:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        found = [parse_json(line, f"{path}, line {number}") for number, line in lines]
    if not found or not all(isinstance(row, dict) for row in found):
        raise Invalid("needs JSON objects, one a line or in an array", place=str(path))
    return list(found)


def parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as failure:
        raise Invalid(f"not JSON: {failure}", place=place) from failure


def show(found: Any, form: Form, columns: Sequence[str] = ()) -> None:
    """Print an answer. A table has the given columns; members of members are reached by dots."""
    if form is Form.JSON:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    elif form is Form.YAML or isinstance(found, Mapping):
        sys.stdout.write(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    elif not found:
        sys.stderr.write("none\n")
    else:
        print_table(columns, ([reach(row, column) for column in columns] for row in found))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*[column.rpartition(".")[2].replace("_", " ") for column in columns], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*[cell(value) for value in row])
    # A pipe has no width: what reads it wants whole values.
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(table, highlight=False, soft_wrap=not sys.stdout.isatty())


def reach(row: Any, path: str) -> Any:
    for step in path.split("."):
        row = row.get(step) if isinstance(row, Mapping) else None
    return row


def cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case Mapping():
            return " ".join(f"{name}={cell(one)}" for name, one in value.items())
        case list() | tuple():
            return " ".join(cell(one) for one in value)
    return str(value)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def recover(name: str, order: dict[str, Any]) -> None:
    """Order a recovery command, and say who carries it out."""
    async def post(transport: Transport) -> Any:
        return await transport.post("/v1/recovery", order, repeatable=False)
    told = ask(post)
    say(f"{name}: command {told['command_id']} sent to {told.get('executor', 'ingest')}; see `lepton get recovery`")
