"""`lepton audit`: the audit log, listed, and its hash chains checked on this machine."""

import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.contracts.auditing.chain import DIGEST_BYTES, Chain, Chains, Head
from lepton.errors import Invalid, Missing
from lepton_ai._files.writing import whole, writes
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
    chains, oldest = ask(lambda transport: _read(transport, start, wanted))
    broken = chains.end()
    found = [_row(one) for _, one in sorted(chains.found.items())]
    show(found, output, CHAIN_COLUMNS)
    if broken:
        more = f"; {len(broken)} chains do not hold" if len(broken) > 1 else ""
        raise Invalid(f"the audit chain is broken: {broken[0]}{more}")
    _all_checked(chains, start)
    if save is not None:
        _save(save, chains, oldest)
    if output is Form.TABLE:
        begin = "" if chains.whole else f" from offset {chains.begin} on"
        told = "every chain holds" if found else "there was nothing to check"
        say(f"{chains.records} records of {len(found)} writers{begin}: {told}")
        if save is not None:
            say(f"heads written to {save}")


def _all_checked(chains: Chains, start: int) -> None:
    """Raises Missing for a kept head that is out of reach, unless it lies before `start`, where nobody looked."""
    unchecked = chains.unchecked()
    for writer in unchecked:
        told = f"its kept head was not met and lies before offset {chains.begin}" \
            if chains.wanted[writer].offset >= 0 else f"its kept head was not met from offset {chains.begin} on"
        sys.stderr.write(f"{writer}: {told}, where what was read begins: not checked\n")
    gone = [writer for writer in unchecked if not 0 <= chains.wanted[writer].offset < start]
    if gone:
        raise Missing(
            f"the kept head of {gone[0]} could not be checked: the log has nothing of before offset {chains.begin}, by "
            f"retention or because it was emptied{f'; so of {len(gone)} writers' if len(gone) > 1 else ''}",
            remedy=f"if retention took it, say --from {chains.begin} with --heads, or leave the writer out")


async def _read(transport: Transport, start: int, wanted: Mapping[str, Head]) -> tuple[Chains, int]:
    """All pages, up to what was the end when the first was read, and the offset of the oldest record that is kept."""
    page = await _page(transport, start)
    end, oldest = page["end"], page["begin"]
    begin = max(start, oldest)
    if start > end:
        raise Invalid(f"the log ends before offset {end}: nothing is there to check", field="--from", place=str(start),
                      remedy="begin at an offset before; if one was there, records were cut off at the end")
    chains = Chains(begin, begin == 0, wanted)
    while True:
        for one in page["records"]:
            if one["offset"] < end:
                chains.take(one["offset"], one["key"], base64.b64decode(one["record"]))
        if page["next"] >= end:
            return chains, oldest
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


def _save(path: Path, chains: Chains, oldest: int) -> None:
    """Those of which nothing was seen stay as they were kept; one that the log has no more, only while it has no other.
    """
    kept = {writer: one.head for writer, one in chains.found.items()}
    for writer in chains.unchecked():
        head = chains.wanted[writer]
        if head.offset >= oldest or writer not in kept:
            kept[writer] = head
    heads = {writer: {"sequence": one.sequence, "hash": one.hash.hex(), "offset": one.offset}
             for writer, one in sorted(kept.items())}
    with writes(path, "--save"), whole(path) as draft:
        draft.write_text(json.dumps(heads, indent=2) + "\n", "utf-8")
