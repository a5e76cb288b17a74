"""What a partition remembers for its windows, block by block, from its records and back to them.

Keys: `win/head`; `win/<block>`: its entities and the panes of windows that keep few; `win/<block>/<window>/<slot>`: the
panes of the other windows, spread so that a batch writes those it changed. A pane whose entity is not in its block (it
was forgotten, or moved when the block was split) means nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from lepton.errors import Invalid
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.windows import blocks
from services.ingest.core.windows.blocks import Block, Entities
from services.ingest.core.windows.cells import Cells, Folding
from services.ingest.core.windows.runs import NEVER, Bools, Ints

PREFIX = "win"
FORMAT = 1


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to no block. `following`: the next number of a life; `entities`: how many are remembered."""

    format: int = FORMAT
    watermark: int = NEVER
    following: int = 0
    blocks: int = 1
    entities: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


@dataclass(frozen=True, slots=True)
class Changed:
    """What a batch makes of the blocks it gathered: all their entities and panes, and which panes are new."""

    head: Head
    gathered: frozenset[int]
    entities: Entities
    cells: Mapping[str, Cells]
    touched: Mapping[str, Bools]


class Memory:
    """Blocks as the last kept batch left them; never changed in place."""

    def __init__(self) -> None:
        self.head = Head()
        self.blocks: dict[int, Block] = {}

    def restore(self, records: Mapping[bytes, bytes], foldings: Iterable[Folding]) -> None:
        """Raises Invalid when a record cannot be read: without it events would be missing in their windows."""
        self.head, self.blocks = Head(), {}
        loose: list[tuple[int, str, Cells]] = []
        found: dict[int, tuple[Entities, dict[str, list[Cells]]]] = {}
        for key, value in records.items():
            parts = key.decode().split("/")
            if parts[1] == "head":
                self.head = _read_head(value)
            elif len(parts) == 2:
                entities, cells = blocks.read(value)
                found[int(parts[1])] = entities, {window: [one] for window, one in cells.items()}
            else:
                loose.append((int(parts[1]), parts[2], blocks.read_cells(value)))
        if found and not self.head.following:
            raise Invalid("the windows' state has blocks but no head")
        for number, window, one in loose:
            if number in found:
                found[number][1].setdefault(window, []).append(one)
        self.blocks = {number: Block(entities, {
            folding.window.name: _restored(folding, cells.get(folding.window.name, []), entities)
            for folding in foldings}) for number, (entities, cells) in found.items()}

    def gather(self, numbers: Iterable[int], foldings: Iterable[Folding]) -> Block:
        """The blocks as one."""
        found = [self.blocks[number] for number in numbers if number in self.blocks]
        if not found:
            return Block(blocks.nobody(), {one.window.name: Cells.none(one.columns) for one in foldings})
        # A window that came with a newer version of the Pipeline is in no block yet.
        return Block(Entities.joined([block.entities for block in found]), {
            one.window.name: Cells.joined([
                block.cells[one.window.name] if one.window.name in block.cells else Cells.none(one.columns)
                for block in found]) for one in foldings})

    def successor(self, changed: Changed, foldings: Iterable[Folding]) -> tuple[dict[int, Block], list[StateRecord]]:
        """The gathered blocks, and those they were split into, after the batch; and what to write of them."""
        numbers = sorted(changed.gathered | set(range(self.head.blocks, changed.head.blocks)))
        entities = changed.entities
        home = blocks.place(entities.hash, changed.head.blocks)
        order = np.argsort(entities.number)
        shares = {number: Block(entities.take(which), {}) for number, which in _split(home, numbers)}
        inline: dict[int, dict[str, Cells]] = {number: {} for number in numbers}
        records: list[StateRecord] = []
        for folding in foldings:
            name, cells, touched = folding.window.name, changed.cells[folding.window.name], \
                changed.touched[folding.window.name]
            owner = order[np.searchsorted(entities.number, cells.owner, sorter=order)]
            for number, which in _split(home[owner], numbers):
                mine = cells.take(which)
                shares[number].cells[name] = mine  # type: ignore[index]  # filled here, read only afterwards
                if folding.inline:
                    inline[number][name] = mine
                else:
                    fresh = touched[which] if number < self.head.blocks else np.ones(len(mine), np.bool_)
                    records += _slots(f"{PREFIX}/{number}/{name}", folding, mine, fresh)
        records += [(f"{PREFIX}/{number}".encode(), blocks.write(block.entities, inline[number]))
                    for number, block in shares.items()]
        records.append((f"{PREFIX}/head".encode(), _encode(changed.head)))
        return shares, records


def _read_head(value: bytes) -> Head:
    try:
        head = _decode(value)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Invalid(f"the head of the windows' state cannot be read: {error}") from error
    if head.format != FORMAT:
        raise Invalid(f"the windows' state is of format {head.format}, this program reads {FORMAT}",
                      remedy="run the version that wrote it, or apply with --new-generation")
    return head


def _restored(folding: Folding, parts: list[Cells], entities: Entities) -> Cells:
    for part in parts:
        if set(part.columns) != set(folding.columns):
            raise Invalid(f"the state of window {folding.window.name} has other columns than its aggregates need")
    if not parts:
        return Cells.none(folding.columns)
    cells = Cells.joined(parts)
    return folding.newest(cells.take(np.flatnonzero(np.isin(cells.owner, entities.number))))


def _split(home: Ints, numbers: list[int]) -> list[tuple[int, Ints]]:
    """Which are at home in each of `numbers`, in their order."""
    order = np.argsort(home, kind="stable")
    bounds = np.searchsorted(home[order], [*numbers, numbers[-1] + 1])
    ends = np.searchsorted(home[order], numbers, side="right")
    return [(number, order[begin:end]) for number, begin, end in zip(numbers, bounds.tolist(), ends.tolist(),
                                                                    strict=False)]


def _slots(place: str, folding: Folding, cells: Cells, touched: Bools) -> list[StateRecord]:
    slot = folding.layout.slot(cells.pane)
    return [(f"{place}/{one}".encode(), blocks.write_cells(cells.take(np.flatnonzero(slot == one))))
            for one in np.unique(slot[touched]).tolist()]
