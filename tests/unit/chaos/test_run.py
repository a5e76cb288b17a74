"""A run from its first fault to its last, before a gateway, a bus and processes of the test's own, in jumping time."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from deploy.chaos import __main__ as command
from deploy.chaos.course import Course, keep, kept
from deploy.chaos.network import Network
from deploy.chaos.plan import Plan
from deploy.chaos.run import run
from deploy.chaos.stack import Moment, Stack
from deploy.supervisor import Process, ProcessManager
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import TopicPlan
from lepton.clock import FakeClock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Missing, Unavailable
from tests.unit.chaos.asked import asking


class Jumping(FakeClock):
    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


class Control:
    """Processes by name, each with when it began."""

    def __init__(self, clock: FakeClock) -> None:
        self.began = {"watchdog": clock.now().timestamp(), "ingest": clock.now().timestamp()}
        self.states: dict[str, str] = {}
        self.is_alive = True

    def alive(self) -> bool:
        return self.is_alive

    def processes(self) -> list[Process]:
        if not self.is_alive:
            raise Unavailable("the process manager does not answer")
        return [self.process(name) for name in self.began]

    def process(self, name: str) -> Process:
        if name not in self.began:
            raise Missing("the process manager has no such program", field=name)
        return Process(name, self.states.get(name, "RUNNING"), 0, 0, int(self.began[name]), "")


class Gateway:
    """Tells of an incident that opens and closes so many seconds after `clock` began; no training ever ends."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.began = clock, clock.now()
        self.opens_s, self.closes_s = 1e9, 1e9

    async def respond(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        passed_s = (self.clock.now() - self.began).total_seconds()
        found = [] if passed_s < self.opens_s else [{
            "pipeline": "", "symptom": "silence", "cause": "process:ingest", "timeline": [],
            "state": "VERIFIED" if passed_s >= self.closes_s else "SUSPECTED",
            "opened_at": (self.began + timedelta(seconds=self.opens_s)).isoformat(),
            "closed_at": (self.began + timedelta(seconds=self.closes_s)).isoformat()}]
        body = {"incidents": found, "run_id": "run-1", "state": "RUNNING"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def plan(path: Path, *faults: dict[str, Any], **more: Any) -> Plan:
    path.joinpath("rows.csv").write_text("a,y\n1,true\n")
    return Plan.model_validate({
        "name": "mine", "pipeline": "shop", "well_s": 4, "settle_s": 1, "faults": faults,
        "flow": {"rows": path / "rows.csv", "label": "y", "events_per_s": 1e-3, "calls_per_s": 0}, **more})


def calm(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "do": "nothing", "for_s": 1, **more}


class World:
    def __init__(self, stack: Stack, gateway: Gateway, control: Control) -> None:
        self.stack, self.gateway, self.control = stack, gateway, control

    async def run(self, one: Plan) -> Course:
        course = Course(one)
        await run(self.stack, course)
        return course


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with _world() as made:
        yield made


@asynccontextmanager
async def _world() -> AsyncIterator[World]:
    async def ready(name: str) -> bool:
        return True

    async def untouched(digest: str) -> None:
        raise AssertionError("no model is struck here")

    clock, broker = Jumping(), MemoryBroker()
    await broker.create_topics([TopicPlan(topics.name(topic, "shop", *at), 1, {}) for topic, *at in (
        (Topic.EVENTS,), (Topic.LABELS,), (Topic.FEATURES, 1), (Topic.PREDICTIONS, 1))])
    gateway, control = Gateway(clock), Control(clock)
    async with asking(gateway.respond) as rest:
        yield World(Stack(cast("ProcessManager", control), broker, rest, ready, clock, Network([], httpx.AsyncClient()),
                          lambda incident: True, untouched), gateway, control)


async def test_what_cannot_be_struck_is_told_and_the_run_goes_on(world: World, tmp_path: Path) -> None:
    course = await world.run(plan(
        tmp_path, {"name": "a", "do": "kill", "target": "nobody", "expect": {"cause": ["process:nobody"]}}, calm("b")))
    first, second = course.outcomes
    assert (first.left_out, second.shortcomings) == ("failed", ())
    assert first.shortcomings[0].startswith("it was not struck: the process manager has no such program")
    assert course.ended() == ""


async def test_a_fault_that_fails_on_its_way_is_told_and_the_run_goes_on(world: World, tmp_path: Path) -> None:
    course = await world.run(plan(tmp_path, {"name": "a", "do": "train", "for_s": 0.3}, calm("b")))
    first, second = course.outcomes
    assert first.left_out == ""
    assert first.shortcomings == ("the fault itself failed: run-1 did not end within 0.3 s; field: a",)
    assert second.fault == "b"


async def test_before_a_stack_that_is_not_well_in_time_a_fault_is_left_out_and_the_next_is_struck(
        world: World, tmp_path: Path) -> None:
    world.gateway.opens_s, world.gateway.closes_s = -1, 8
    first, second = (await world.run(plan(tmp_path, calm("a"), calm("b")))).outcomes
    assert first.left_out == "unwell"
    assert first.shortcomings == (
        "it was not struck: the stack was not well for 1 s within 4: silence of process:ingest, SUSPECTED",)
    assert (second.left_out, second.shortcomings) == ("", ())


async def test_a_stack_without_one_of_its_processes_is_not_well(world: World, tmp_path: Path) -> None:
    world.control.states = {"ingest": "EXITED", "watchdog": "STOPPED"}
    (only,) = (await world.run(plan(tmp_path, calm("a")))).outcomes
    assert only.left_out == "unwell"
    assert only.shortcomings[0].endswith(": ingest is EXITED")


async def test_a_stack_that_stays_unwell_is_given_up(world: World, tmp_path: Path) -> None:
    world.gateway.opens_s = -1
    course = await world.run(plan(tmp_path, *(calm(name) for name in "abc"), budget={"unwell": 1}))
    assert [one.fault for one in course.outcomes] == ["a", "b"]
    assert course.ended() == "the stack was not well before more than 1 faults, one after the other"


async def test_a_stack_that_is_gone_ends_the_run_and_what_was_known_stays(world: World, tmp_path: Path) -> None:
    def gone(_: object) -> None:
        world.control.is_alive = False

    course = Course(plan(tmp_path, calm("a"), calm("b")), told=gone)
    with pytest.raises(Unavailable, match="the stack is gone") as raised:
        await run(world.stack, course)
    assert [one.fault for one in course.outcomes] == ["a"]
    assert course.ended(raised.value).startswith("at b, round 1 of 1: the stack is gone")


async def test_a_second_go_strikes_what_the_first_did_not(world: World, tmp_path: Path) -> None:
    kind = plan(tmp_path, calm("a"), {"name": "b", "do": "kill", "target": "nobody"}, calm("c"), rounds=2,
                pairs={"count": 0, "these": [["a", "c"]]})
    path = tmp_path / "kept" / "outcomes.json"
    first = Course(kind, lambda outcome: keep(path, first))
    await run(world.stack, first)
    assert len(first.outcomes) == 8
    whole = list(first.outcomes)
    for known, left in ((0, whole), (4, [whole[1], *whole[4:]]), (8, [whole[1], whole[4]])):
        first.outcomes[:] = whole[:known]
        keep(path, first)
        second = Course(kind, outcomes=kept(path, kind))
        before = len(second.outcomes)
        await run(world.stack, second)
        assert [(one.fault, one.round) for one in second.outcomes[before:]] == [(one.fault, one.round) for one in left]


async def test_what_the_plan_has_otherwise_now_is_struck_anew(world: World, tmp_path: Path) -> None:
    first, path = await world.run(plan(tmp_path, *(calm(name) for name in "abc"))), tmp_path / "kept.json"
    keep(path, first)
    (tmp_path / "moved").mkdir()
    now = plan(tmp_path / "moved", calm("a"), {**calm("b"), "for_s": 2}, calm("d"))
    assert [one.fault for one in kept(path, now)] == ["a"]
    flow = now.flow.model_copy(update={"events_per_s": 2e-3})
    assert kept(path, now.model_copy(update={"flow": flow})) == []


async def test_outcomes_that_spent_the_budget_are_not_gone_on_from(world: World, tmp_path: Path) -> None:
    world.gateway.opens_s = -1
    first = await world.run(plan(tmp_path, *(calm(name) for name in "abc"), budget={"unwell": 1}))
    second = Course(first.plan, outcomes=first.outcomes[:])
    await run(world.stack, second)
    assert len(second.outcomes) == 2 and second.ended() == first.ended()


@pytest.mark.parametrize(("text", "why"), [
    ('{"plan": "other", "faults": {}, "outcomes": []}', "of the plan other, not mine"),
    ('{"outcomes": 3}', "no outcomes"), ("\0", "no outcomes")])
def test_outcomes_of_something_else_are_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text(text)
    with pytest.raises(Invalid, match=why) as refused:
        kept(path, plan(tmp_path, calm("a")))
    assert (refused.value.field, refused.value.place) == ("--resume", str(path))
    assert kept(tmp_path / "none.json", plan(tmp_path, calm("a"))) == []


def test_a_part_of_a_plan_is_not_gone_on_with(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path)
    (tmp_path / "kept.json").write_text("kept")
    monkeypatch.setattr("sys.argv", ["lepton chaos", "run", str(tmp_path / "plan.yaml"), "--only", "a", "--resume",
                                     str(tmp_path / "kept.json")])
    assert command.main() == 1
    assert "leave out --only" in capsys.readouterr().err
    assert (tmp_path / "kept.json").read_text() == "kept"


async def test_what_is_seen_a_little_after_a_fault_that_should_not_be_is_held_against_it(
        world: World, tmp_path: Path) -> None:
    # Well for 1 s, 2 s before it and 1 s of it: then the incident opens.
    world.gateway.opens_s, world.gateway.closes_s = 4.5, 4.75
    first, second = (await world.run(plan(tmp_path, calm("a"), calm("b")))).outcomes
    assert first.shortcomings == ("nothing was to be seen, and process:ingest (silence) was",)
    assert second.shortcomings == ()


async def test_a_fault_waits_until_the_watchdog_has_lived_and_events_have_flown_so_long(
        world: World, tmp_path: Path) -> None:
    clock, began = world.stack.clock, world.stack.clock.now().timestamp()
    one = plan(tmp_path, calm("a", watchdog_up_s=600))
    moment = Moment(world.stack, one, flows_since=began)
    assert await moment.come(one.faults) == ""
    assert 600 <= clock.now().timestamp() - began < 610
    world.control.began["watchdog"] = began + 500
    assert await moment.come(one.faults) == ""
    assert 1_100 <= clock.now().timestamp() - began < 1_110
    assert await Moment(world.stack, one, flows_since=began + 700).come(one.faults) == ""
    assert 1_300 <= clock.now().timestamp() - began < 1_310


async def test_a_fault_waits_until_its_target_was_left_alone_so_long(world: World, tmp_path: Path) -> None:
    clock, began = world.stack.clock, world.stack.clock.now().timestamp()
    one = plan(tmp_path, {"name": "a", "do": "crash_loop", "target": "ingest", "rest_s": 600},
               {"name": "b", "do": "hang", "target": "ingest"}, calm("c"))
    looped, hung, nothing = one.faults
    moment = Moment(world.stack, one, flows_since=began)
    assert await moment.come([nothing]) == ""
    assert clock.now().timestamp() - began < 10
    assert await moment.come([looped]) == ""
    assert 600 <= clock.now().timestamp() - began < 610
    moment.struck([hung])
    assert await moment.come([looped]) == ""
    assert 1_200 <= clock.now().timestamp() - began < 1_225


async def test_one_that_begins_anew_again_and_again_gets_no_rest(world: World, tmp_path: Path) -> None:
    one = plan(tmp_path, {"name": "a", "do": "kill", "target": "ingest", "rest_s": 600})
    control, clock = world.control, world.stack.clock

    async def ready(name: str) -> bool:
        control.began["ingest"] = clock.now().timestamp()
        return True

    restless = Stack(cast("ProcessManager", control), world.stack.broker, world.stack.rest, ready, clock,
                     world.stack.network, world.stack.concerns, world.stack.corrupt)
    assert "again and again" in await Moment(restless, one, clock.now().timestamp()).come(one.faults)


def written(folder: Path) -> Path:
    """A plan of a and b, as a file."""
    plan(folder, calm("a"))
    path = folder / "plan.yaml"
    path.write_text("apiVersion: lepton/v1\nkind: Chaos\nmetadata: {name: mine}\npipeline: shop\n"
                    "settle_s: 1\nwell_s: 1\nflow: {rows: rows.csv, label: y, events_per_s: 0.001, calls_per_s: 0}\n"
                    "faults: [{name: a, do: nothing, for_s: 1}, {name: b, do: nothing}]\n")
    return path


def test_the_page_is_written_with_what_is_known_when_the_run_fails(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(course: Course, home: Path) -> None:
        async with _world() as world:
            told = course.told

            def gone(outcome: Any) -> None:
                told(outcome)
                world.control.is_alive = False
            course.told = gone
            await run(world.stack, course)

    path = written(tmp_path)
    monkeypatch.setattr(command, "work", work)
    monkeypatch.setattr("sys.argv", ["lepton chaos", "run", str(path), "--out", str(tmp_path / "out.md")])
    assert command.main() == 1
    told = (tmp_path / "out.md").read_text()
    assert "**Not the whole plan: at b, round 1 of 1: the stack is gone" in told
    assert "`--only a`" in told
    said = capsys.readouterr()
    assert "Ended before its time: at b" in said.out
    assert "the stack is gone" in said.err
