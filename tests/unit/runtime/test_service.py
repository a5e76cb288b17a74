import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lepton.contracts.pb import telemetry_pb2
from lepton.errors import Invalid, Unavailable
from lepton.runtime.service import Service, Stage
from lepton.runtime.settings import LeptonSettings
from tests.harness.wait import apoll_until

Diary = list[str]


class Part:
    def __init__(self, diary: Diary, name: str, fails_with: Exception | None = None) -> None:
        self._diary = diary
        self._name = name
        self._fails_with = fails_with

    async def start(self) -> None:
        if self._fails_with:
            raise self._fails_with
        await asyncio.sleep(0)
        self._diary.append(f"+{self._name}")

    async def stop(self) -> None:
        self._diary.append(f"-{self._name}")


def new_service(**settings: Any) -> Service:
    return Service("kiln", LeptonSettings(instance="kiln-0", **settings))


def diarist(diary: Diary, name: str) -> Callable[[asyncio.Event], Any]:
    async def loop(stop: asyncio.Event) -> None:
        diary.append(f"+{name}")
        await stop.wait()
        diary.append(f"-{name}")
    return loop


async def until_open(service: Service, running: "asyncio.Task[int]") -> None:
    async def probe() -> bool:
        return service.health.ready or running.done()
    await apoll_until(probe, "the service to be ready", 5)


async def test_start_and_stop_follow_the_written_order() -> None:
    diary: Diary = []
    service = new_service()
    service.add(Stage.DOOR, "door", Part(diary, "door"))
    service.spawn("flow", diarist(diary, "flow"))
    service.add(Stage.BUS, "writer", Part(diary, "writer"))
    service.add(Stage.STORE, "store", Part(diary, "store"))
    service.add(Stage.BUS, "table", Part(diary, "table"))
    service.spawn("heartbeat", diarist(diary, "heartbeat"), Stage.BUS)
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.spawn("late", diarist(diary, "late"))
    await asyncio.sleep(0)
    service.request_stop()
    assert await running == 0
    assert diary == ["+store", "+writer", "+table", "+heartbeat", "+flow", "+door", "+late",
                     "-door", "-flow", "-late", "-heartbeat", "-table", "-writer", "-store"]


async def test_readiness_ends_before_the_doors_close() -> None:
    states: list[int] = []
    service = new_service()

    class Door:
        async def start(self) -> None:
            states.append(service.health.state)

        async def stop(self) -> None:
            states.append(service.health.state)

    service.add(Stage.DOOR, "door", Door())
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    await running
    assert states == [telemetry_pb2.INSTANCE_STATE_STARTING, telemetry_pb2.INSTANCE_STATE_DRAINING]
    assert service.health.state == telemetry_pb2.INSTANCE_STATE_STOPPED


async def test_a_loop_that_raises_ends_the_process_with_1(caplog: pytest.LogCaptureFixture) -> None:
    diary: Diary = []
    service = new_service()
    service.add(Stage.STORE, "store", Part(diary, "store"))

    async def broken(_: asyncio.Event) -> None:
        raise ValueError("the kiln is cold")

    service.spawn("firing", broken)
    assert await service.run() == 1
    assert "firing failed: ValueError: the kiln is cold" in caplog.text
    assert diary == ["+store", "-store"]


async def test_a_loop_that_returns_unasked_ends_the_process_unless_it_may_end(caplog: pytest.LogCaptureFixture) -> None:
    async def brief(_: asyncio.Event) -> None:
        return

    service = new_service()
    service.spawn("watch", brief)
    assert await service.run() == 1
    assert "it returned although nobody asked" in caplog.text

    service = new_service()
    service.spawn("once", brief, ends=True)
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    assert await running == 0


async def test_an_unreachable_dependency_stops_what_started_and_exits_3_in_one_line(
        caplog: pytest.LogCaptureFixture) -> None:
    diary: Diary = []
    service = new_service()
    service.add(Stage.STORE, "store", Part(diary, "store"))
    away = Unavailable("no broker answers", place="127.0.0.1:1", remedy="start Kafka")
    service.add(Stage.BUS, "bus", Part(diary, "bus", fails_with=away))
    service.add(Stage.DOOR, "door", Part(diary, "door"))
    assert await service.run() == 3
    assert diary == ["+store", "-store"]
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert line.getMessage() == "kiln-0 cannot start: no broker answers; at: 127.0.0.1:1; remedy: start Kafka"
    assert line.exc_info is None


async def test_any_other_failure_at_start_exits_1() -> None:
    service = new_service()
    service.add(Stage.STORE, "store", Part([], "store", fails_with=Invalid("the store is of another world")))
    assert await service.run() == 1


async def test_a_loop_that_ignores_the_flag_is_cancelled_at_the_drain_deadline() -> None:
    ended: list[str] = []

    async def stubborn(_: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    service = new_service(drain_s=0.1)
    service.spawn("stubborn", stubborn)
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    assert await asyncio.wait_for(running, 3) == 0
    assert ended == ["cancelled"]


async def test_work_in_progress_may_finish_within_the_drain_time() -> None:
    done: list[str] = []
    release = asyncio.Event()

    async def worker(stop: asyncio.Event) -> None:
        await stop.wait()
        await release.wait()
        done.append("finished")

    service = new_service(drain_s=5)
    service.spawn("worker", worker)
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    release.set()
    assert await running == 0
    assert done == ["finished"]


async def test_a_part_that_cannot_close_keeps_no_other_from_closing(caplog: pytest.LogCaptureFixture) -> None:
    diary: Diary = []
    service = new_service()
    service.add(Stage.STORE, "store", Part(diary, "store"))

    class Stuck:
        async def start(self) -> None:
            diary.append("+stuck")

        async def stop(self) -> None:
            raise OSError("it is stuck")

    service.add(Stage.BUS, "stuck", Stuck())
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    assert await running == 1
    assert diary == ["+store", "+stuck", "-store"]
    assert "stuck did not stop cleanly" in caplog.text


async def test_stopping_during_a_slow_start_gives_up_the_start() -> None:
    diary: Diary = []
    began = asyncio.Event()

    class Slow:
        async def start(self) -> None:
            began.set()
            await asyncio.Event().wait()

        async def stop(self) -> None:
            diary.append("-slow")

    service = new_service()
    service.add(Stage.STORE, "store", Part(diary, "store"))
    service.add(Stage.BUS, "slow", Slow())
    running = asyncio.ensure_future(service.run())
    await began.wait()
    service.request_stop()
    assert await running == 0
    assert diary == ["+store", "-store"]


async def test_one_loop_can_be_ended_while_the_service_lives_on() -> None:
    diary: Diary = []
    service = new_service()
    service.spawn("first", diarist(diary, "first"))
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    second = service.spawn("second", diarist(diary, "second"))
    await asyncio.sleep(0)
    await second.stop()
    assert not second.running
    assert "-second" in diary and service.health.ready
    service.request_stop()
    assert await running == 0
    assert diary.count("-second") == 1


async def test_the_admin_door_tells_life_readiness_and_metrics() -> None:
    service = new_service()
    check = service.health.check("firing", deadline_s=60)
    service.telemetry.counter("lepton_kiln_pots", "Pots fired").add(3, {"glaze": "blue"})
    service.telemetry.gauge("lepton_kiln_heat", lambda: [(1200.0, {"zone": "top"})])
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    async with httpx.AsyncClient(base_url=f"http://{service.admin.address}", trust_env=False) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).json()["ready"] is True
        metrics = (await client.get("/metrics")).text
        assert 'lepton_kiln_pots_total{glaze="blue"} 3.0' in metrics
        assert 'lepton_kiln_heat{zone="top"} 1200.0' in metrics
        check.fail("the door of the kiln is open")
        readyz = await client.get("/readyz")
        assert readyz.status_code == 503
        assert readyz.json()["failing"] == {"firing": "the door of the kiln is open"}
        assert (await client.get("/elsewhere")).status_code == 404
    service.request_stop()
    assert await running == 0


async def test_a_taken_port_is_named_and_exits_3(caplog: pytest.LogCaptureFixture) -> None:
    first = new_service()
    running = asyncio.ensure_future(first.run())
    await until_open(first, running)
    port = int(first.admin.address.rsplit(":", 1)[1])
    assert await new_service(admin_port=port).run() == 3
    assert f"cannot listen on 127.0.0.1:{port}" in caplog.text
    first.request_stop()
    assert await running == 0


async def test_a_loop_spawned_while_the_rest_still_starts_runs_too() -> None:
    diary: Diary = []
    service = new_service()
    spawned = asyncio.Event()

    async def parent(stop: asyncio.Event) -> None:
        service.spawn("child", diarist(diary, "child"))
        spawned.set()
        await stop.wait()

    class Door(Part):
        async def start(self) -> None:
            await spawned.wait()
            await super().start()

    service.spawn("parent", parent)
    service.add(Stage.DOOR, "door", Door(diary, "door"))
    running = asyncio.ensure_future(service.run())
    await until_open(service, running)
    service.request_stop()
    assert await running == 0
    assert diary.count("+child") == 1
    assert diary.index("-door") < diary.index("-child")
