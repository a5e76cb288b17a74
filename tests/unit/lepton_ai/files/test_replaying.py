"""A recorded file is lived again: at its tempo or a rate, from a moment, several times, resumed where it stopped."""

import asyncio
import json
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lepton.clock import SystemClock
from lepton.errors import Invalid, Missing
from lepton_ai._files.replaying import Played, Replaying, Tempo
from tests.harness.wait import apoll_until
from tests.unit.gateway.house import House
from tests.unit.lepton_ai.files.desk import client, events, lepton, start

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def recorded(path: Path, count: int, every_s: float = 1.0) -> Path:
    path.write_text("event_id,customer,occurred_at,price,bought\n" + "".join(
        f"e-{n},c-{n % 3},{(BEGIN + timedelta(seconds=n * every_s)).isoformat()},{n},{'true' if n % 2 else 'false'}\n"
        for n in range(count)), "utf-8")
    return path


async def play(house: House, path: Path, tempo: Tempo, played: Played | None = None,
               told: list[Played] | None = None) -> Played:
    seen = told if told is not None else []
    async with client(house) as sdk:
        return await Replaying(sdk.transport, "shop", path, tempo).play(played or Played("r1"), seen.append)


async def test_a_rate_sends_every_row_once_with_its_own_id_and_time(house: House, tmp_path: Path) -> None:
    await house.apply()
    path = recorded(tmp_path / "r.csv", 50)
    done = await play(house, path, Tempo(rate=1000))
    assert (done.sent, done.labels, done.row, done.share) == (50, 50, 50, 1.0)
    sent = dict(await events(house))
    assert sent["e-7"] == {"event_id": "e-7", "customer": "c-1", "price": 7,
                           "occurred_at": "2026-01-01T00:00:07+00:00"}
    labels = dict(await events(house, kind="labels"))
    assert len(labels) == 50 and labels["e-7"]["label"] is True


async def test_the_recorded_tempo_is_kept_and_sped_up(house: House, tmp_path: Path) -> None:
    await house.apply()
    clock = SystemClock()
    began = clock.monotonic()
    done = await play(house, recorded(tmp_path / "r.csv", 11, every_s=10), Tempo(speed=100))
    assert clock.monotonic() - began >= 1.0, "a hundred recorded seconds, a hundred times as fast"
    assert done.sent == 11
    records = await house.records("lepton-events-shop")
    spread = max(record.timestamp_ms for record in records) - min(record.timestamp_ms for record in records)
    assert spread >= 900


async def test_now_makes_the_time_of_sending_the_events_time(house: House, tmp_path: Path) -> None:
    await house.apply()
    before = datetime.now(UTC)
    await play(house, recorded(tmp_path / "r.csv", 5), Tempo(rate=1000, now=True))
    times = [datetime.fromisoformat(value["occurred_at"]) for _, value in await events(house)]
    assert all(before <= time <= datetime.now(UTC) for time in times)


async def test_rows_before_a_moment_are_passed_over_and_loops_have_ids_of_their_own(
        house: House, tmp_path: Path) -> None:
    await house.apply()
    done = await play(house, recorded(tmp_path / "r.csv", 10), Tempo(
        rate=1000, since=BEGIN + timedelta(seconds=6), loops=3))
    assert (done.sent, done.skipped, done.loop) == (12, 18, 3)
    ids = {event_id for event_id, _ in await events(house)}
    assert ids == {f"e-{n}{loop}" for n in range(6, 10) for loop in ("", "~2", "~3")}


async def test_new_ids_make_events_that_were_never_seen(house: House, tmp_path: Path) -> None:
    await house.apply()
    path = recorded(tmp_path / "r.csv", 3)
    await play(house, path, Tempo(rate=1000, new_ids=True), Played("aa"))
    await play(house, path, Tempo(rate=1000, new_ids=True), Played("bb"))
    ids = {event_id for event_id, _ in await events(house)}
    assert ids == {f"e-{n}~{run}" for n in range(3) for run in ("aa", "bb")}


@pytest.mark.parametrize("stop_after", [1, 2, 4])
async def test_a_stopped_replay_goes_on_without_skipping_or_repeating(house: House, tmp_path: Path,
                                                                     stop_after: int) -> None:
    await house.apply()
    path = recorded(tmp_path / "r.csv", 60)
    told: list[Played] = []

    class Enough(Exception):
        """Somebody pressed Ctrl-C."""

    class Told(list[Played]):
        def append(self, one: Played) -> None:
            told.append(one)
            if len(told) == stop_after:
                raise Enough

    tempo = Tempo(rate=150, loops=2, label_after_s=0.2)
    with pytest.raises(Enough):
        await play(house, path, tempo, told=Told())
    done = await play(house, path, tempo, told[-1])
    assert (done.sent, done.labels) == (120, 120)
    for kind in ("events", "labels"):
        seen = Counter(event_id for event_id, _ in await events(house, kind=kind))
        assert len(seen) == 120 and max(seen.values()) == 1


async def test_lines_that_are_no_events_are_counted_and_the_rest_goes_on(house: House, tmp_path: Path) -> None:
    await house.apply()
    (tmp_path / "r.jsonl").write_text('{"customer": "c"}\nnonsense\n{"price": 1}\n{"customer": "d"}\n', "utf-8")
    done = await play(house, tmp_path / "r.jsonl", Tempo(rate=1000))
    assert (done.sent, done.refused) == (2, 2)
    assert str(done) == "2 events sent, 2 unreadable"


async def test_without_event_times_there_is_no_tempo(house: House, tmp_path: Path) -> None:
    await house.apply()
    (tmp_path / "r.csv").write_text("customer,price\nc,1\n", "utf-8")
    with pytest.raises(Invalid, match="no tempo"):
        await play(house, tmp_path / "r.csv", Tempo())


def test_a_note_that_is_not_there_or_no_note_says_so(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text(json.dumps({"what": 1}), "utf-8")
    for name in ("none.json", "n.json"):
        with pytest.raises(Missing, match="no replay"):
            Played.load(tmp_path / name)
    played = Played("r", 2, 7, 7, 8)
    played.save(tmp_path / "deep" / "n.json")
    assert Played.load(tmp_path / "deep" / "n.json") == played


async def test_an_interrupted_command_is_resumed(house: House, tmp_path: Path) -> None:
    await house.apply()
    path = recorded(tmp_path / "r.csv", 400)
    process = await start(house, "replay", str(path), "-p", "shop", "--rate", "100")

    async def begun() -> Any:
        return len(await events(house)) > 20

    await apoll_until(begun, "events", 60)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert "add --resume to go on" in err.decode()
    before = len(await events(house))
    assert before < 400
    done = await lepton(house, "replay", str(path), "-p", "shop", "--rate", "1000", "--resume")
    assert done.code == 0, done.err
    assert "r.csv into shop: 400 events sent, 400 labels" in done.out
    seen = Counter(event_id for event_id, _ in await events(house))
    assert len(seen) == 400
    again = await lepton(house, "replay", str(path), "-p", "shop", "--resume")
    assert (again.code, "no replay of this file" in again.err) == (1, True)
