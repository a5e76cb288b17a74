"""Files as sources: every complete line once, across rotation of every kind, and only inside the allowed folders."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lepton.clock import SystemClock
from lepton.contracts.source_blocks import LogSource
from lepton.errors import Refused
from services.ingest.edge.sources.log import LogOrigin
from services.ingest.flow.pulling.origin import Bad, Cursor, Lines, Pulled, Row, files
from tests.unit.ingest.house import House, living
from tests.unit.ingest.sources.shop import events, pulled, pulling, standing


def lines(numbers: Iterable[int]) -> str:
    return "".join(json.dumps({"order": f"o-{number}", "customer": "c", "price": 1.0}) + "\n" for number in numbers)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


class Follower:
    """A log source looked at when the test says so."""

    def __init__(self, path: str, roots: list[Path], **changes: Any) -> None:
        self.source = LogSource(name="log", path=path, **changes)
        self.roots = roots
        self.cursor: Cursor = {}
        self.losses: list[str] = []
        self.marks: list[str] = []

    async def look(self) -> list[Any]:
        """Orders of what is new, over a connection of its own, as after a restart."""
        origin = LogOrigin(self.source, self.roots, SystemClock())
        await origin.open(self.cursor)
        found: list[Any] = []
        more = True
        while more:
            read: Pulled = await origin.read(self.cursor)
            self.cursor, more = read.cursor, read.more
            self.losses += read.losses
            self.marks += [item.mark for item in read.items]
            found += [item.values.get("order") if isinstance(item, Row) else item for item in read.items]
        await origin.close()
        return found


def orders(*numbers: int) -> list[str]:
    return [f"o-{number}" for number in numbers]


async def test_a_partial_last_line_waits_for_its_end(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    assert await follower.look() == []
    append(log, lines([1]) + '{"order": "o-2", ')
    assert await follower.look() == orders(1)
    append(log, '"customer": "c"}\n\n')
    assert await follower.look() == orders(2)
    assert await follower.look() == []


async def test_rename_and_create_is_followed_to_the_end_of_the_old_file(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    append(log, lines(range(3)))
    assert await follower.look() == orders(0, 1, 2)
    append(log, lines([3]))
    log.rename(tmp_path / "app.log.1")
    append(log, lines([5]))
    append(tmp_path / "app.log.1", lines([4]))
    assert sorted(await follower.look()) == orders(3, 4, 5)
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    log.rename(tmp_path / "app.log.1")
    append(log, lines([6]))
    assert await follower.look() == orders(6)
    (tmp_path / "app.log.2").unlink()
    assert await follower.look() == []
    assert follower.losses == []


@pytest.mark.parametrize("pattern", ["app.log", "app.log*", "*"])
async def test_copytruncate_is_followed_in_the_copy(tmp_path: Path, pattern: str) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/{pattern}", [tmp_path])
    append(log, lines(range(3)))
    assert await follower.look() == orders(0, 1, 2)
    append(log, lines([3, 4]))
    shutil.copy(log, tmp_path / "app.log.1")
    # Between copying and truncating, the copy is no file of its own.
    assert await follower.look() == orders(3, 4)
    append(log, lines([5]))
    shutil.copy(log, tmp_path / "app.log.1")
    log.write_text(lines([6]))
    assert sorted(await follower.look()) == orders(5, 6)
    append(log, lines([7]))
    assert await follower.look() == orders(7)
    assert follower.losses == []
    assert len(set(follower.marks)) == 8


async def test_a_file_that_vanishes_unread_is_told(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    append(log, lines([1]) + "half")
    assert await follower.look() == orders(1)
    log.unlink()
    assert await follower.look() == []
    assert follower.losses == [f"{log} went with 4 bytes unread"]


async def test_two_files_that_begin_alike_are_both_read(tmp_path: Path) -> None:
    follower = Follower(f"{tmp_path}/*.log", [tmp_path])
    append(tmp_path / "a.log", lines([1]) + lines([2]))
    append(tmp_path / "b.log", lines([1]) + lines([3]))
    assert sorted(await follower.look()) == orders(1, 1, 2, 3)
    assert len(set(follower.marks)) == 4


async def test_an_inode_that_is_used_again_is_another_file(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    append(log, lines([1, 2]))
    assert await follower.look() == orders(1, 2)
    log.write_text(lines([8, 9, 10]))
    assert await follower.look() == orders(8, 9, 10)


async def test_lines_of_a_file_that_begins_as_the_one_before_have_ids_of_their_own(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    append(log, lines(range(60)))
    assert len(await follower.look()) == 60
    log.write_text(lines(range(40)))
    assert len(await follower.look()) == 40
    assert len(set(follower.marks)) == 100


async def test_a_file_that_was_away_for_a_look_is_read_on_and_not_again(tmp_path: Path) -> None:
    log, away = tmp_path / "in" / "app.log", tmp_path / "app.log"
    follower = Follower(f"{tmp_path}/in/*.log", [tmp_path])
    log.parent.mkdir()
    append(log, lines(range(5)))
    assert len(await follower.look()) == 5
    for number in (5, 6):
        log.rename(away)
        assert await follower.look() == []
        away.rename(log)
        append(log, lines([number]))
        assert await follower.look() == orders(number)
    assert len(set(follower.marks)) == 7


async def test_a_line_without_end_is_one_dead_letter_and_memory_stays_bounded(tmp_path: Path) -> None:
    log, follower = tmp_path / "app.log", Follower(f"{tmp_path}/app.log", [tmp_path])
    append(log, "x" * 3_000_000)
    (bad,) = await follower.look()
    assert isinstance(bad, Bad)
    assert len(bad.raw) <= 65_536
    append(log, "x" * 3_000_000)
    assert await follower.look() == []
    append(log, "\n" + lines([1]))
    assert await follower.look() == orders(1)


async def test_links_and_paths_that_leave_the_allowed_folders_are_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    append(outside / "secret.log", lines([1]))
    append(inside / "own.log", lines([2]))
    (inside / "linked.log").symlink_to(outside / "secret.log")
    (inside / "folder").symlink_to(outside)
    assert await Follower(f"{inside}/*.log", [inside]).look() == orders(2)
    for path in (f"{outside}/secret.log", f"{inside}/folder/secret.log", "/etc/passwd"):
        with pytest.raises(Refused, match="leads out"):
            await Follower(path, [inside]).look()
    with pytest.raises(Refused, match="no folder is allowed"):
        await Follower(f"{inside}/own.log", []).look()


async def test_a_regular_expression_gives_typed_members_and_times(house: House, tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    append(log, "01/Jun/2026:12:00:00 +0200 o-1 c-1 price=2.5 items=3 member=yes\nnoise\n"
                "01/Jun/2026:12:00:01 +0200 o-2 c-2 price=cheap items=1 member=no\n")
    async with living(house, log_roots=str(tmp_path)):
        await house.apply(pulling({
            "name": "log", "kind": "log", "path": str(log), "time_format": "%d/%b/%Y:%H:%M:%S %z",
            "pattern": r"^(?P<at>\S+ \S+) (?P<order>\S+) (?P<customer>\S+) price=(?P<price>\S+) items=(?P<items>\d+) "
                       r"member=(?P<member>\w+)$"}))
        await pulled(house, 2)
        await standing(house, "log", state="following", events=2, refused=1)
        rows = await house.rows()
    assert [(row["_event_id"], row["price"], row["items"], row["member"]) for row in rows] == [("o-1", 2.5, 3, True)]
    assert rows[0]["_occurred_at"].isoformat() == "2026-06-01T10:00:00+00:00"
    assert sorted(one["reason"].partition(":")[0] for one in await house.letters()) == ["malformed", "wrong_type"]


def test_a_long_line_that_nearly_matches_holds_nothing_up_and_is_one_dead_letter() -> None:
    """Python's `re` needs hours for this line, and holds everything else up meanwhile."""
    good, trap = b"s-1 price=2", b"a" * files.MAX_LINE_BYTES
    row, bad = Lines(r"(?P<shop>\w+) price=(?P<price>\S+)").read([("m/0", good), ("m/1", trap)])
    assert isinstance(row, Row) and row.values == {"shop": "1", "price": "2"}
    assert isinstance(bad, Bad) and "does not match" in bad.reason


def test_lines_keep_their_order_whatever_is_wrong_with_some() -> None:
    items = Lines(r"(?P<a>x+)(?P<b>y)?(?P<c>z*)$").read([
        ("1", b"x" * (files.MAX_LINE_BYTES + 1)), ("2", b"xx"), ("3", b"\xff"), ("4", b"?"), ("5", "ü xyz".encode())])
    assert [item.mark for item in items] == ["1", "2", "3", "4", "5"]
    assert [item.reason[:12] if isinstance(item, Bad) else item.values for item in items] == [
        "a line of mo", {"a": "xx", "c": ""}, "the line is ", "the line doe", {"a": "x", "b": "y", "c": "z"}]


async def test_ingest_follows_files_over_a_restart(house: House, tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    spec = pulling({"name": "log", "kind": "log", "path": f"{tmp_path}/shop.log*"})
    append(log, lines(range(2500)))
    async with living(house, log_roots=str(tmp_path)):
        await house.apply(spec)
        await pulled(house, 2500)
    append(log, lines(range(2500, 2600)))
    log.rename(tmp_path / "shop.log.1")
    append(log, lines(range(2600, 2700)))
    async with living(house, log_roots=str(tmp_path)):
        await pulled(house, 2700)
        found = await standing(house, "log", state="following", events=2700)
        assert (found["lag"], found["unit"]) == (0, "bytes")
    assert Counter(one["order"] for one in await events(house)) == Counter(f"o-{number}" for number in range(2700))
