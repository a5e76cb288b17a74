"""Two symptoms of one cause are one incident where nothing is lost by it: noted once, and well together."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from services.watchdog.core import incident as life
from services.watchdog.core import remedy
from services.watchdog.core.inputs import Announced, Figures, Incident, Leads, Requests, Tick
from services.watchdog.core.journal import replay
from services.watchdog.core.safety import afterwards, also
from services.watchdog.core.safety.policy import Flaps
from services.watchdog.core.state import State
from services.watchdog.core.symptom import Symptom
from services.watchdog.core.thresholds.limits import DriftRule, Ladders, SloRule
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, model

NOW = Tick(5_000.0, 1_800_005_000.0, 0.25)
FAST, SLOW = ((20.0, 500),), ((1e9, 500),)
FAILED = Symptom("availability", "phishing", "failed: 100%", "phishing")
SLOWER = Symptom("latency", "phishing", "slower than 50 ms", "phishing")
ANSWERS = Symptom("answer_drift", "phishing", "answers drifted", "phishing", version=1)
HANDLES, MEMORY = Symptom("files", "ingest", "95% of handles"), Symptom("leak", "ingest", "92% of memory")


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(replace(RULES, slo=SloRule(availability=0.999, latency_ms=50.0)))
    return world


def ask(world: World, seconds: float, *, failed: int = 0, times: tuple[tuple[float, int], ...] = FAST) -> None:
    for _ in range(round(seconds)):
        world.tick(Requests("phishing", 500 - failed, failed, times))
        world.tick(gap_s=0.75)


def opened(world: World) -> list[str]:
    """Symptoms of the incidents, in the order they were opened."""
    first: dict[str, str] = {}
    for decision in world.decisions:
        first.setdefault(decision.incident.id, decision.incident.symptom)
    return list(first.values())


def kinds(incident: Incident) -> list[str]:
    return [note.what for note in incident.timeline if note.what.startswith(life.ALSO)]


def pages(world: World) -> list[str]:
    """Alerts of what was left to a person."""
    return [decision.alert for decision in world.decisions if decision.incident.timeline[-1].what == life.ESCALATED]


def test_failed_and_slow_requests_are_one_incident_and_one_page_and_well_when_both_are(world: World) -> None:
    ask(world, 30, failed=200)
    ask(world, 90, failed=200, times=SLOW)
    assert opened(world) == ["availability"]
    assert kinds(world.last()) == ["also: latency"]
    assert "slower than 50 ms" in world.last().timeline[-1].detail
    assert len(pages(world)) == 1
    assert world.decisions[-1].alert.endswith(f"; also latency: {world.last().timeline[-1].detail}")
    ask(world, 420, times=SLOW)
    assert world.last().state == "escalated", "requests are slow still"
    ask(world, 420)
    assert (opened(world), world.last().state) == (["availability"], "verified")
    assert "latency" in world.last().verdict
    ask(world, 60, times=SLOW)
    assert opened(world) == ["availability", "latency"], "verified is the end: what comes again is opened anew"
    assert list(replay(world.written())) == world.made


def test_what_the_same_action_is_tried_for_waits_for_it(world: World) -> None:
    world.tick(model(1))
    world.tick(model(2, previous=1))
    ask(world, 30, failed=200)
    ask(world, 90, failed=200, times=SLOW)
    assert (opened(world), kinds(world.last())) == (["availability"], ["also: latency"])
    assert [action for action, _ in world.orders()] == ["fall_back"]
    assert pages(world) == []


def test_what_something_else_would_be_done_about_is_an_incident_that_names_the_other(world: World) -> None:
    world.tick(model(1))
    ask(world, 30, failed=200)
    assert world.last().state == "escalated", "no version came lately that could be to blame"
    first = world.last().id
    world.tick(model(2, previous=1))
    ask(world, 90, failed=200, times=SLOW)
    assert opened(world) == ["availability", "latency"]
    assert [action for action, _ in world.orders()] == ["fall_back"]
    (told,) = [note.detail for note in world.last().timeline if note.what == "related"]
    assert told == f"availability of the same cause: {first}"


def test_what_shows_long_after_a_person_was_told_is_told_too(world: World) -> None:
    ask(world, also.SAME_TROUBLE_S + 60, failed=200)
    ask(world, 200, failed=200, times=SLOW)
    assert opened(world) == ["availability", "latency"]
    assert len(pages(world)) == 2


def test_what_comes_back_while_the_other_goes_on_is_told_anew(world: World) -> None:
    ask(world, 30, failed=200)
    ask(world, 90, failed=200, times=SLOW)
    ask(world, 420, times=SLOW)
    assert len(pages(world)) == 1
    ask(world, 60, failed=300, times=SLOW)
    assert opened(world) == ["availability", "availability"]
    ended = next(one.incident for one in world.decisions if one.incident.state == "verified")
    assert ended.verdict == also.ANEW
    assert (kinds(world.last()), len(pages(world))) == (["also: latency"], 2)


def test_what_was_noted_and_comes_back_to_a_person_is_an_incident_of_its_own(world: World) -> None:
    ask(world, 30, failed=200)
    ask(world, 90, failed=200, times=SLOW)
    ask(world, 420, failed=200)
    ask(world, 120, failed=200, times=SLOW)
    assert opened(world) == ["availability", "latency"]
    ask(world, 420, times=SLOW)
    assert (world.last().symptom, world.last().state) == ("availability", "verified"), "it waits for its own alone"


def test_one_that_takes_over_goes_on_with_what_was_noted(world: World) -> None:
    ask(world, 30, failed=200)
    ask(world, 90, failed=200, times=SLOW)
    stored = replace(world.last(), also=(), rung=0, since=0.0)
    world.tick(Leads(0))
    # Later than anything new would be noted on it, and with a version that something could be blamed on.
    ask(world, also.SAME_TROUBLE_S + 60, failed=200, times=SLOW)
    world.tick(model(1))
    world.tick(model(2, previous=1))
    world.tick(Leads(2, (stored,)))
    ask(world, 30, failed=200, times=SLOW)
    assert opened(world) == ["availability"]
    ask(world, 420, times=SLOW)
    assert "verified" not in world.states_seen()


def test_a_process_that_leaks_memory_and_handles_is_begun_anew_once() -> None:
    world = World().healthy()

    def say(memory: Iterable[float], files: float, every_s: float) -> None:
        for share in memory:
            world.tick(Figures("ingest", "ingest", world.beating["ingest"], (
                ("process_memory_share", "", share), ("process_files_share", "", files))))
            world.run(every_s - 0.25)

    say([0.45 + 0.004 * point for point in range(12)], 0.2, 10.0)
    assert world.decisions == []
    say([0.498 + 0.004 * point for point in range(10)], 0.9, 10.0)
    assert len(opened(world)) == 1
    assert len(kinds(world.last())) == 1
    assert world.orders() == [("restart", "instance:ingest")]
    world.beating["ingest"] = "ingest-2"
    say([0.1] * 30, 0.9, 2.0)
    assert world.last().state != "verified", "it has its memory back, and not its handles"
    say([0.1] * 30, 0.1, 2.0)
    assert (len(opened(world)), world.last().state) == (1, "verified")


def rows(kind: str) -> Symptom:
    return Symptom(kind, "phishing", "as it is not usual", "phishing")


def of(kind: str) -> Incident:
    return life.opened(kind, "data:phishing", "pipeline:phishing", "phishing", "it began", NOW)


@pytest.mark.parametrize("first", ["unusual_rows", "drift"])
@pytest.mark.parametrize("then", ["notify", "retrain"])
def test_unusual_rows_and_drift_are_one_where_only_a_person_is_told_of_both(first: str, then: str) -> None:
    state = State(World().thresholds)
    state.fold(replace(RULES, drift=DriftRule(then=then)), NOW)
    state.fold(model(1), NOW)
    second = "drift" if first == "unusual_rows" else "unusual_rows"
    found = also.home(rows(second), {f"{first}:data:phishing": of(first)}, (), state, NOW, remedy.ladder)
    assert (found is not None) == (then == "notify")


@pytest.mark.parametrize(("standing", "shown"), [
    (("unusual_rows", "drift"), ["unusual_rows", "drift"]), (("unusual_rows",), ["unusual_rows"]),
    (("drift",), ["drift"]), ((), ["unusual_rows"])])
def test_what_stands_of_an_incident_explains_and_what_is_quiet_does_not(standing: Iterable[str],
                                                                        shown: list[str]) -> None:
    state = State(World().thresholds)
    state.standing = frozenset((kind, "data:phishing") for kind in standing)
    one = replace(of("unusual_rows"), also=("drift",))
    assert [each.symptom for each in also.spread([one], state)] == shown


def test_answers_that_drift_are_told_once_the_noted_drift_of_fields_is_over(shows: list[Symptom]) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    rejected, drifted = rows("unusual_rows"), rows("drift")
    shows[:] = [rejected]
    world.run(2)
    shows[:] = [rejected, drifted, ANSWERS]
    world.run(5)
    assert (opened(world), kinds(world.last())) == (["unusual_rows"], ["also: drift"])
    shows[:] = [rejected, ANSWERS]
    world.run(2)
    assert opened(world) == ["unusual_rows", "answer_drift"]


def test_dead_letters_go_back_for_what_was_noted_and_cures_are_counted_for_both() -> None:
    state = State(World().thresholds)
    state.fold(replace(RULES, replay_after=("latency",), ladders=Ladders()), NOW)
    one = replace(life.opened("availability", "serving:phishing", "pipeline:phishing", "phishing", "", NOW),
                  command_ids=("one",))
    assert afterwards.due(one, state) is None
    joined = replace(one, also=("latency",))
    assert afterwards.due(joined, state) is not None
    flaps, limits = Flaps(), replace(World().thresholds, flaps=1)
    flaps.ended(joined, 10.0)
    assert flaps.flapping(replace(one, symptom="latency"), limits, 11.0)


def test_a_long_incident_keeps_what_was_noted() -> None:
    incident = of("unusual_rows")
    for number in range(life.FIRST_NOTES):
        incident = life.noted(incident, "helped", str(number), NOW)
    incident = also.noted(incident, rows("drift"), NOW)
    for number in range(2 * life.LAST_NOTES):
        incident = life.noted(incident, "helped", str(number), NOW)
    assert len(incident.timeline) == life.FIRST_NOTES + life.LAST_NOTES
    assert also.remembered(incident, State(World().thresholds)) == ("drift",)
    assert incident.timeline[-1].detail == str(2 * life.LAST_NOTES - 1)


def test_an_outage_while_a_slowness_is_dealt_with_is_told_at_once_where_nothing_would_be_done_about_it(
        world: World) -> None:
    world.tick(model(1))
    world.tick(model(2, previous=1))
    ask(world, 200)
    ask(world, 90, times=SLOW)
    assert (opened(world), world.orders()) == (["latency"], [("fall_back", "model:phishing")])
    ask(world, 30, times=SLOW)
    assert world.now > 1000 + world.thresholds.young_s
    ask(world, 10, failed=500, times=SLOW)
    assert opened(world) == ["latency", "availability"]
    assert [told.startswith("a person is needed: failed") for told in pages(world)] == [True]


@pytest.mark.parametrize("set_back_s", [0.0, 3600.0])
def test_a_version_that_came_since_has_its_own_step(world: World, set_back_s: float) -> None:
    world.tick(model(1))
    world.tick(model(2, previous=1))
    ask(world, 5, failed=200)
    ask(world, 30)
    world.wall_ahead_s = -set_back_s
    world.tick(model(3, previous=2))
    ask(world, 90, times=SLOW)
    assert opened(world) == ["availability", "latency"]
    assert [one.arguments["from_version"] for one in world.commands()] == ["2", "3"]


@pytest.mark.parametrize("back", [FAILED, SLOWER])
def test_what_comes_back_with_a_version_that_came_since_has_its_own_step(shows: list[Symptom], back: Symptom) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    shows[:] = [FAILED]
    world.run(2)
    shows[:] = [FAILED, SLOWER]
    world.run(30)
    assert kinds(world.last()) == ["also: latency"]
    stays = SLOWER if back is FAILED else FAILED
    shows[:] = [stays]
    world.run(2)
    world.tick(model(3, previous=2))
    world.run(2)
    shows[:] = [stays, back]
    world.run(2)
    assert opened(world) == ["availability", back.kind]
    assert [one.arguments["from_version"] for one in world.commands()] == ["2", "3"]


def test_one_that_takes_over_joins_nothing_of_a_version_that_came_after_the_command(shows: list[Symptom]) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    shows[:] = [FAILED]
    world.run(2)
    stored = from_message(to_message(world.last()))
    world.tick(model(3, previous=2))
    world.tick(Leads(2, (stored,)))
    world.run(30)
    shows[:] = [FAILED, SLOWER]
    world.run(2)
    assert opened(world) == ["availability", "latency"]
    assert [one.arguments["from_version"] for one in world.commands()] == ["2", "3"]


def away(world: World, shows: list[Symptom]) -> World:
    """Its process uses up memory and handles, was begun anew for it, and is only starting long after its time."""
    shows[:] = [HANDLES]
    world.run(2)
    shows[:] = [HANDLES, MEMORY]
    world.run(2)
    world.states["ingest"] = "stopped"
    world.run(1)
    del world.beating["ingest"], world.states["ingest"]
    world.tick(Announced("ingest", gone=True))
    shows[:] = []
    world.run(100)
    assert world.last().verdict == "no process is ready since it was told to begin anew"
    world.beating["ingest"], world.states["ingest"] = "another", "starting"
    world.tick(Announced("ingest", "ingest", "starting"))
    world.run(2)
    return world


@pytest.mark.parametrize("first", [HANDLES, MEMORY])
def test_a_process_that_is_on_its_way_back_is_not_begun_anew_for_what_it_shows_meanwhile(
        shows: list[Symptom], first: Symptom) -> None:
    world = away(World().healthy(), shows)
    shows[:] = [first]
    world.run(2)
    shows[:] = [HANDLES, MEMORY]
    world.run(5)
    assert opened(world) == ["files"]
    assert (world.orders(), world.last().state) == ([("restart", "instance:ingest")], "escalated")
    shows[:] = []
    del world.states["ingest"]
    world.run(5)
    assert world.last().state == "verified"


def test_a_process_that_is_back_is_begun_anew_for_what_it_shows_then(shows: list[Symptom]) -> None:
    world = away(World().healthy(), shows)
    shows[:] = [MEMORY]
    del world.states["ingest"]
    world.run(5)
    assert opened(world) == ["files"]
    shows[:] = [MEMORY, HANDLES]
    world.run(5)
    assert opened(world) == ["files", "files"]
    assert world.orders() == [("restart", "instance:ingest")] * 2


def test_one_that_begins_anew_takes_what_it_sees_for_what_it_was_told_of(shows: list[Symptom]) -> None:
    before = World().healthy()
    before.tick(RULES)
    shows[:] = [FAILED, SLOWER]
    before.run(2)
    stored = from_message(to_message(before.last()))
    assert kinds(stored) == ["also: latency"]
    fresh = World(now=before.now + 5)
    shows[:] = []
    fresh.tick(RULES)
    fresh.tick(Leads(2, (stored,)))
    fresh.run(2)
    shows[:] = [FAILED, SLOWER]
    fresh.beating["watchdog"] = "watchdog-2"
    fresh.run(20)
    assert fresh.decisions == []


def test_one_that_leads_again_forgets_what_stood_when_it_led_last(shows: list[Symptom]) -> None:
    world, other = World().healthy(), World().healthy()
    for each in (world, other):
        each.tick(RULES)
    shows[:] = [SLOWER]
    world.run(2)
    world.tick(Leads(0))
    shows[:] = [FAILED, SLOWER]
    other.run(2)
    count = len(world.decisions)
    world.tick(Leads(3, (from_message(to_message(other.last())),)))
    world.run(5)
    assert world.decisions[count:] == [], "all that the other noted stood until now"


@pytest.mark.parametrize(("one", "other"), [("unusual_rows", "drift"), ("drift", "unusual_rows")])
@pytest.mark.parametrize("after", [("unusual_rows",), ("drift",), ("unusual_rows", "drift")])
def test_dead_letters_do_not_wait_for_what_else_shows_of_their_cause(
        shows: list[Symptom], one: str, other: str, after: tuple[str, ...]) -> None:
    world = World().healthy()
    world.tick(replace(RULES, replay_after=after))
    first, second = rows(one), rows(other)
    shows[:] = [first]
    world.run(2)
    shows[:] = [first, second]
    world.run(2)
    shows[:] = [second]
    world.run(2)
    assert opened(world) == [one, other]
    assert [action for action, _ in world.orders()] == [afterwards.REPLAY] * (one in after)
