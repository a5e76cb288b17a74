"""By a signed command requests of low priority are turned away for a time, at either door; what matters is answered."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import grpc
import pytest

from lepton.clock import FakeClock
from lepton.contracts import codec, names
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc
from lepton.contracts.pb.recovery_pb2 import (
    RECOVERY_ACTION_FALL_BACK,
    RECOVERY_ACTION_RESTORE,
    RECOVERY_ACTION_SHED,
    RECOVERY_OUTCOME_DONE,
    RECOVERY_OUTCOME_REFUSED,
)
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.contracts.topics import Topic
from lepton.runtime.service import Service
from services.predictor.app import assemble
from services.predictor.core.batching.limits import Limits
from services.predictor.core.batching.shedding import ALL, Cut, Shedding
from services.predictor.core.oip.wishes import Shed
from services.predictor.settings import PredictorSettings
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.test_falling_back import command, results, two_versions, watchdog
from tests.unit.predictor.test_wire import known, raw
from tests.unit.predictor.world import World, world

ONE = {"amount": "float"}
LEVELS = Limits(priority_levels=3, default_level=2)


def let_in(shedding: Shedding, model: str, limits: Limits = LEVELS) -> list[int]:
    """Which priorities are: 0 is a request that names none, 9 one that the model does not have."""
    found = []
    for priority in (1, 2, 3, 0, 9):
        try:
            shedding.enter(model, priority, limits)
            found.append(priority)
        except Shed as shed:
            assert 0 < shed.retry_after_s <= 5
    return found


@pytest.mark.parametrize(("cut", "expected"), [
    (Cut(3, True), [1, 2, 3, 0, 9]), (Cut(2, False), [1, 2, 0, 9]), (Cut(2, True), [1, 2, 0, 9]),
    (Cut(1, False), [1, 0, 9]), (Cut(1, True), [1])])
def test_of_a_level_requests_that_name_none_go_last(cut: Cut, expected: list[int]) -> None:
    shedding = Shedding(FakeClock())
    shedding.begin("tiny", cut, 10)
    assert let_in(shedding, "tiny") == expected
    assert let_in(shedding, "other") == [1, 2, 3, 0, 9]
    assert let_in(shedding, "tiny", Limits()) == [1, 2, 3, 0, 9]
    asked, turned_away = shedding.take()
    assert (sum(asked.values()), asked["tiny", 2, False]) == (10, 2)
    assert sum(turned_away.values()) == 5 - len(expected)
    assert shedding.take() == ({}, {})


async def test_it_ends_by_itself_or_by_a_word_and_of_two_the_stricter_holds() -> None:
    clock = FakeClock()
    shedding = Shedding(clock)
    shedding.begin("tiny", Cut(2, False), 10)
    shedding.begin(ALL, Cut(1, True), 5)
    assert (let_in(shedding, "tiny"), let_in(shedding, "other")) == ([1], [1])
    await clock.advance(5)
    assert (let_in(shedding, "tiny"), let_in(shedding, "other")) == ([1, 2, 0, 9], [1, 2, 3, 0, 9])
    assert (shedding.end("tiny"), shedding.end("tiny"), shedding.end(ALL)) == (True, False, False)
    assert let_in(shedding, "tiny") == [1, 2, 3, 0, 9]


def wanted(model: str, priority: int) -> oip.ModelInferRequest:
    request = raw(model, 1.0)
    if priority:
        request.parameters["priority"].int64_param = priority
    return request


async def answered(here: World, model: str) -> list[int]:
    """Which priorities are answered; who is not is told when to come back."""
    found = []
    for priority in (1, 2, 3, 0):
        try:
            await here.stub.ModelInfer(wanted(model, priority), metadata=here.metadata)
            found.append(priority)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert 0 < float(dict(error.trailing_metadata() or ())["retry-after-s"]) <= 5
            assert "priority" in (error.details() or "")
    return found


async def levels_told(here: World, least: int) -> Counter[tuple[str, str]]:
    """Requests of `tiny` that heartbeats told of, by level and whether it was named; empty until so many were."""
    found = Counter[tuple[str, str]]()
    for record in await read_all(here.broker, Topic.TELEMETRY):
        for one in codec.decode_as(Topic.TELEMETRY, Telemetry, record.value or b"").measurements:
            if one.name == names.LEVEL_REQUESTS and one.attributes["model"] == "tiny":
                found[one.attributes["level"], one.attributes["named"]] += round(one.value)
    return found if found.total() >= least else Counter()


async def with_levels(here: World, model: str) -> None:
    await here.registry.apply(model, ONE, batching={"priority_levels": 3, "default_priority": 2})
    await here.registry.publish(model, Linear(ONE))
    await here.serving(model, 1)


async def test_either_door_turns_away_what_matters_least_until_it_is_ended(tmp_path: Path, door: str) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await with_levels(here, "tiny")
        await here.registry.publish("equal", Linear(ONE))
        await here.serving("equal", 1)
        await known(here, door, raw("equal", 1.0))
        await command(here, identity, RECOVERY_ACTION_SHED, "c-1", keep="1", for_s="600", unnamed="true")
        (done,) = await results(here, 1)
        assert done.outcome == RECOVERY_OUTCOME_DONE
        assert re.fullmatch(r"requests of tiny after priority 1 are turned away here for (5\d\d|600) s", done.evidence)
        assert await answered(here, "tiny") == [1]
        # A model without levels has no requests that matter less; the native door answers them by itself as before.
        assert await answered(here, "equal") == [1, 2, 3, 0]
        await known(here, door, raw("equal", 1.0))
        # Over a stream each request has its own answer.
        stream = here.stub.ModelStreamInfer(metadata=here.metadata)
        for priority in (1, 3):
            await stream.write(wanted("tiny", priority))
        said = [await stream.read() for _ in range(2)]
        assert [one.error_message.partition(":")[0] for one in said] == ["", "RESOURCE_EXHAUSTED"]
        stream.cancel()
        # By named fields no priority can be named.
        by_name = prediction_pb2.PredictRequest(model="tiny")
        by_name.rows.add()["amount"] = 1.0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await prediction_pb2_grpc.PredictionStub(here.channel).Predict(by_name, metadata=here.metadata)
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await here.metric('lepton_predictor_shed_requests_total{level="3",model="tiny"} 2.0')
        await here.metric('nv_inference_request_failure{model="tiny",reason="REJECTED",version="1"} 5')
        await here.metric('lepton_predictor_shedding{model="tiny"} 1.0')
        await here.metric('lepton_predictor_requests_total{model="tiny",outcome="Shed",version=""} 5.0')
        # Of level 2 came `Predict`, one that named it and one that did not; and `serving` asked before.
        came = await apoll_until(lambda: levels_told(here, 8), "heartbeats that tell of all requests", 10)
        assert (came["1", "true"], came["2", "true"], came["3", "true"]) == (2, 1, 2)
        assert set(came) == {("1", "true"), ("2", "true"), ("3", "true"), ("2", "false")}
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-2", what="shed")
        assert (await results(here, 2))[1].evidence == "requests of tiny are shed no more"
        assert await answered(here, "tiny") == [1, 2, 3, 0]


async def test_all_models_at_once_also_in_a_process_that_begins_later(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await with_levels(here, "tiny")
        await command(here, identity, RECOVERY_ACTION_SHED, "c-1", target="model:*", keep="2", for_s="600")
        (done,) = await results(here, 1)
        assert re.fullmatch(r"requests of all models after priority 2 are turned away here for (5\d\d|600) s",
                            done.evidence)
        await with_levels(here, "later")
        assert (await answered(here, "tiny"), await answered(here, "later")) == ([1, 2, 0], [1, 2, 0])
        settings = PredictorSettings(instance="predictor-1", port=0, device="cpu", trust_dir=tmp_path / "trust",
                                     state_dir=tmp_path / "state", heartbeat_interval_s=0.05, drain_s=4.0)
        service = Service("predictor", settings)
        assemble(settings, service, here.broker, here.database)
        running = asyncio.ensure_future(service.run())
        try:
            both = await results(here, 2)
            assert (both[1].executor, both[1].outcome) == ("predictor-1", RECOVERY_OUTCOME_DONE)
        finally:
            service.request_stop()
            assert await asyncio.wait_for(running, 30) == 0
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-2", target="model:*")
        await results(here, 3)
        assert await answered(here, "tiny") == [1, 2, 3, 0]


async def test_the_end_of_a_shed_leaves_a_fall_back_alone(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    async with world(tmp_path) as here:
        await here.registry.apply("tiny", ONE, batching={"priority_levels": 3})
        await two_versions(here)
        await command(here, identity, RECOVERY_ACTION_FALL_BACK, "c-1", from_version="2")
        await command(here, identity, RECOVERY_ACTION_SHED, "c-2", keep="1", for_s="600")
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-3", what="shed")
        await results(here, 3)
        answer = await here.stub.ModelInfer(wanted("tiny", 3), metadata=here.metadata)
        assert answer.model_version == "1"
        await command(here, identity, RECOVERY_ACTION_SHED, "c-4", keep="1", for_s="600")
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-5")
        said = (await results(here, 5))[4].evidence
        assert said == "requests of tiny are shed no more; version 2 of tiny answers"


async def test_what_makes_no_sense_is_refused_with_the_reason(tmp_path: Path) -> None:
    identity = watchdog(tmp_path)
    senseless = [({"keep": "0", "for_s": "60"}, "arguments.keep"), ({"for_s": "60"}, "arguments.keep"),
                 ({"keep": "1", "for_s": "0"}, "arguments.for_s"), ({"keep": "1", "for_s": "1e9"}, "arguments.for_s"),
                 ({"keep": "1", "for_s": "60", "unnamed": "yes"}, "arguments.unnamed"),
                 ({"keep": "1", "for_s": "60", "target": "model:equal"}, "priority_levels")]
    async with world(tmp_path) as here:
        await here.registry.apply("tiny", ONE, batching={"priority_levels": 3})
        for number, (arguments, _) in enumerate(senseless):
            await command(here, identity, RECOVERY_ACTION_SHED, f"c-{number}", **arguments)
        await command(here, identity, RECOVERY_ACTION_RESTORE, "c-what", what="all")
        said = await results(here, len(senseless) + 1)
    assert {one.outcome for one in said} == {RECOVERY_OUTCOME_REFUSED}
    for one, (_, why) in zip(said, [*senseless, ({}, "arguments.what")], strict=True):
        assert why in one.evidence
