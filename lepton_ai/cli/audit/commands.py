"""`lepton audit`: the audit log, listed, and its hash chains checked on this machine."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.contracts.auditing.chain import DIGEST_BYTES, Chain, Chains, Head
from lepton.errors import Invalid, Missing
from lepton_ai._transport import Transport
from lepton_ai.cli.session import Form, Limit, Output, ask, parse_json, read_text, say, show

COLUMNS = ("offset", "at", "writer", "sequence", "actor", "action", "object", "detail")
CHAIN_COLUMNS = ("writer", "records", "first", "last", "head", "broken")
PAGE = 2000

From = Annotated[int, typer.Option("--from", min=0, help="Offset to begin at; what is before is not checked.")]
Heads = Annotated[list[str] | None, typer.Option(
    "--head", metavar="WRITER=HASH", help="A head kept elsewhere, which must still be there; may be given again.")]
Kept = Annotated[Path | None, typer.Option(help="File of heads that --save wrote; each must still be there.")]
Save = Annotated[Path | None, typer.Option(help="Write the heads to this file, if every chain holds.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(name="audit", help="Who did what: listed, and its hash chains checked.", no_args_is_help=True)
    group.command("list")(list_)
    group.command()(verify)
    app.add_typer(group)


def list_(output: Output = Form.TABLE, limit: Limit = 20) -> None:
    """Show what was done lately, newest first: who, what, to what."""
    async def read(transport: Transport) -> Any:
        return (await transport.get("/v1/audit", limit=limit))["records"]
    show(list(reversed(ask(read))), output, COLUMNS)


def verify(head: Heads = None, heads: Kept = None, save: Save = None, start: From = 0,
           output: Output = Form.TABLE) -> None:
    """Recompute every hash of every writer's chain. Exit code 1 names the first place that does not hold.

    A chain cannot tell that its end was cut off: keep its head (--save) elsewhere, and give it the next time (--heads).
    """
    wanted = {**(_kept(heads) if heads else {}), **dict(map(_named, head or []))}
    chains = ask(lambda transport: _read(transport, start, wanted))
    broken = chains.end()
    found = [_row(one) for _, one in sorted(chains.found.items())]
    show(found, output, CHAIN_COLUMNS)
    if broken:
        more = f"; {len(broken)} chains do not hold" if len(broken) > 1 else ""
        raise Invalid(f"the audit chain is broken: {broken[0]}{more}")
    if save is not None:
        _save(save, chains.found)
    if output is Form.TABLE:
        for writer in chains.unchecked():
            say(f"{writer}: its kept head lies before offset {chains.begin}, where what was read begins: not checked")
        begin = "" if chains.whole else f" from offset {chains.begin} on"
        say(f"{chains.records} records of {len(found)} writers{begin}: every chain holds")
        if save is not None:
            say(f"heads written to {save}")


async def _read(transport: Transport, start: int, wanted: Mapping[str, Head]) -> Chains:
    """All pages, up to what was the end when the first was read."""
    page = await _page(transport, start)
    end, begin = page["end"], max(start, page["begin"])
    chains = Chains(begin, begin == 0, wanted)
    while True:
        for one in page["records"]:
            if one["offset"] < end:
                chains.take(one["offset"], one["key"], base64.b64decode(one["record"]))
        if page["next"] >= end:
            return chains
        page = await _page(transport, page["next"])


async def _page(transport: Transport, start: int) -> Any:
    return (await transport.call("GET", "/v1/audit", params={"from": start, "limit": PAGE})).json()


def _row(chain: Chain) -> dict[str, Any]:
    return {"writer": chain.writer, "records": chain.records, "first": chain.first, "last": chain.head.sequence,
            "head": chain.head.hash.hex(), "broken": str(chain.broken) if chain.broken else None}


def _named(text: str) -> tuple[str, Head]:
    writer, _, told = text.partition("=")
    return writer, Head(0, _hash(told, "--head"))


def _kept(path: Path) -> dict[str, Head]:
    told = parse_json(read_text(path), str(path))
    try:
        return {writer: Head(int(one["sequence"]), _hash(one["hash"], f"{path}, {writer}"), int(one["offset"]))
                for writer, one in told.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        raise Invalid("this is no file of heads", place=str(path),
                      remedy="make one with `lepton audit verify --save FILE`") from failure


def _hash(text: str, place: str) -> bytes:
    try:
        told = bytes.fromhex(text)
    except ValueError:
        told = b""
    if len(told) != DIGEST_BYTES:
        raise Invalid(f"{text!r} is no SHA-256", place=place,
                      remedy="write WRITER=HASH with the 64 hexadecimal digits that `lepton audit verify` shows")
    return told


def _save(path: Path, chains: Mapping[str, Chain]) -> None:
    heads = {writer: {"sequence": one.head.sequence, "hash": one.head.hash.hex(), "offset": one.head.offset}
             for writer, one in sorted(chains.items())}
    try:
        path.write_text(json.dumps(heads, indent=2) + "\n", "utf-8")
    except OSError as failure:
        raise Missing(f"cannot be written: {failure.strerror}", place=str(path)) from failure
