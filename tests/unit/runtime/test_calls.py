"""Whom a process calls is told in heartbeats: news and failures at once, the rest now and then, nothing twice."""

import asyncio

import pytest

from lepton.bus.calls import counted as bus_calls
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, TopicPlan
from lepton.clock import FakeClock
from lepton.contracts.pb.telemetry_pb2 import (
    CALL_WAY_DATABASE,
    CALL_WAY_READ,
    CALL_WAY_REQUEST,
    CALL_WAY_WRITE,
)
from lepton.errors import Invalid, Unavailable
from lepton.runtime.calls import sums
from lepton.runtime.calls.sums import MAX_TOLD, TELL_EVERY_S, Calls
from lepton.store.calls import counted as store_calls
from lepton.store.documents import Document
from lepton.store.memory import MemoryDatabase
from tests.unit.runtime.test_pulse import Bus, finish, observed

REQUEST = CALL_WAY_REQUEST


def told(calls: Calls) -> list[tuple[str, int, int, float]]:
    return [(one.callee, one.count, one.failed, one.seconds) for one in calls.take()]


async def test_new_callees_and_failures_are_told_at_once_and_the_rest_now_and_then() -> None:
    clock = FakeClock()
    calls = Calls(clock)
    calls.add(REQUEST, "a:1", 0.5)
    assert told(calls) == [("a:1", 1, 0, 0.5)]
    assert told(calls) == []
    calls.add(REQUEST, "a:1", 0.25)
    calls.add(REQUEST, "a:1", 0.25)
    assert told(calls) == []
    calls.add(REQUEST, "a:1", 1.0, failed=True)
    assert told(calls) == [("a:1", 3, 1, 1.5)]
    calls.add(REQUEST, "a:1")
    await clock.advance(TELL_EVERY_S)
    assert told(calls) == [("a:1", 1, 0, 0)]


async def test_a_heartbeat_tells_of_twenty_and_the_next_of_the_others() -> None:
    calls = Calls(FakeClock())
    for number in range(MAX_TOLD + 5):
        calls.add(REQUEST, f"a:{number:02}")
    first, second = told(calls), told(calls)
    assert (len(first), len(second)) == (MAX_TOLD, 5)
    assert not {one[0] for one in first} & {one[0] for one in second}


async def test_only_no_answer_is_a_failure_of_the_callee() -> None:
    clock = FakeClock()
    calls = Calls(clock)
    for error in (Unavailable("away"), Invalid("no such field")):
        with pytest.raises(type(error)), calls.timed(REQUEST, "a:1"):
            await clock.advance(2)
            raise error
    assert told(calls) == [("a:1", 2, 1, 4)]


async def test_who_calls_more_than_there_is_room_for_forgets_whom_it_told_of(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sums, "MAX_CALLEES", 2)
    calls = Calls(FakeClock())
    for callee in ("a:1", "a:2", "a:3", "a:4"):
        calls.add(REQUEST, callee)
    assert [one[0] for one in told(calls)] == ["a:1", "a:2"]
    assert caplog.text.count("further ones are not told") == 1
    calls.add(REQUEST, "a:3")
    assert [one[0] for one in told(calls)] == ["a:3"]


async def test_what_a_lost_heartbeat_told_is_told_by_the_next() -> None:
    clock, bus, stop = FakeClock(), Bus(), asyncio.Event()
    telemetry, _ = observed(clock)
    telemetry.calls.add(REQUEST, "a:1", 0.5, failed=True)
    bus.away = True
    loop = asyncio.ensure_future(telemetry.heartbeat_loop(stop, bus.send))
    await clock.advance(0)
    await clock.advance(0.5)
    telemetry.calls.add(REQUEST, "a:1", 0.5)
    bus.away = False
    await clock.advance(1.0)
    assert [[(one.callee, one.count, one.failed) for one in beat.calls] for beat in bus.beats] == [[("a:1", 2, 1)], []]
    await finish(stop, loop)


async def test_batches_are_counted_by_topic_and_what_is_the_platforms_own_as_the_brokers() -> None:
    calls, broker = Calls(FakeClock()), MemoryBroker()
    await broker.create_topics([TopicPlan(name, 1, {}) for name in (
        "lepton-features-shop", "lepton-features-shop-dead-letters", "lepton-telemetry")])
    seen = bus_calls.counted(broker, calls)
    writer = seen.writer("test")
    await writer.start()
    await writer.send_all([Outgoing("lepton-features-shop", b"1"), Outgoing("lepton-features-shop", b"2"),
                           Outgoing("lepton-telemetry", b"3")])
    await writer.send(Outgoing("lepton-features-shop-dead-letters", b"4"))
    committer = seen.transactional_writer("t")
    await committer.start()
    await committer.commit([Outgoing("lepton-features-shop", b"5")], {}, "group")
    reader = seen.reader(["lepton-features-shop", "lepton-telemetry"], group=None, client_id="test")
    await reader.start()
    while any(reader.behind(place) or not reader.position(place) for place in reader.assignment()):
        await reader.poll(max_records=10, timeout_s=0.01)
    found = {(one.way, one.callee): one.count for one in calls.take()}
    written = {callee: count for (way, callee), count in found.items() if way == CALL_WAY_WRITE}
    assert written == {"lepton-features-shop": 2, "broker": 2}
    assert {key[1] for key in found if key[0] == CALL_WAY_READ} == {"lepton-features-shop", "broker"}


class Away:
    """A broker's writer and reader that get no answer."""

    async def send(self, record: Outgoing) -> None:
        raise Unavailable("no broker answers")

    async def poll(self, **_: object) -> None:
        raise Unavailable("no broker answers")


async def test_a_bus_that_does_not_answer_is_counted_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, broker = Calls(FakeClock()), MemoryBroker()
    monkeypatch.setattr(broker, "writer", lambda _: Away())
    monkeypatch.setattr(broker, "reader", lambda *_, **__: Away())
    seen = bus_calls.counted(broker, calls)
    with pytest.raises(Unavailable):
        await seen.writer("test").send(Outgoing("lepton-telemetry", b"1"))
    with pytest.raises(Unavailable):
        await seen.reader([], group=None, client_id="test").poll(max_records=1, timeout_s=0)
    assert {(one.way, one.callee, one.failed) for one in calls.take()} == {
        (CALL_WAY_WRITE, "broker", 1), (CALL_WAY_READ, "broker", 1)}


async def test_every_operation_on_a_collection_is_counted_and_does_what_it_did() -> None:
    calls = Calls(FakeClock())
    things = store_calls.counted(MemoryDatabase(), calls).collection("things")
    one: Document = {"_id": "a", "x": 1}
    assert things.name == "things"
    assert await things.insert(one)
    await things.put({**one, "x": 2})
    assert await things.swap("a", {"x": 2}, {"x": 3})
    assert await things.get("a") == {"_id": "a", "x": 3}
    assert await things.find({}) == [{"_id": "a", "x": 3}]
    assert await things.delete({}) == 1
    assert [(each.way, each.callee, each.count) for each in calls.take()] == [(CALL_WAY_DATABASE, "database", 6)]
