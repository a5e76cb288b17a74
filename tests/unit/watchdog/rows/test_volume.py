"""What is usual is known again after a restart, whatever moment the watchdog looks at."""

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Leads
from services.watchdog.core.journal import replay
from services.watchdog.core.rows.volume import FEWEST, Volume
from services.watchdog.core.summaries.counts import RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import VolumeRule
from services.watchdog.edge.quality import COUNTED, SUMMARIES
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, model

EVERY_S, BACK_S = 2.0, 600


@pytest.fixture
def world() -> World:
    """One that was begun anew, and reads back."""
    world = World().healthy()
    world.tick(RULES, model(1))
    return world


def summary(age_s: float, rows: int = 100) -> RowsSeen:
    return RowsSeen("phishing", (SourceRows("a", rows, 0, 0, 0),), age_s)


def before(oldest_s: float, newest_s: float, rows: int = 100) -> list[RowsSeen]:
    """Summaries that came every two seconds, as they are read back."""
    return [summary(age_s, rows) for age_s in range(int(oldest_s), int(newest_s), -int(EVERY_S))]


def show(world: World, times: int, rows: int = 100) -> None:
    for _ in range(times):
        world.tick(summary(0.0, rows))
        world.run(EVERY_S - 0.25)


def kinds(world: World) -> list[str]:
    return list(dict.fromkeys(one.incident.symptom for one in world.decisions))


@pytest.mark.parametrize("newest_s", [300, 50])
@pytest.mark.parametrize("ticks", [1, 40])
def test_a_look_between_two_reads_of_what_came_before_finds_nothing(world: World, newest_s: int, ticks: int) -> None:
    world.tick(*before(BACK_S, newest_s))
    world.run(ticks * 0.25)
    world.tick(*before(newest_s + ticks * 0.25, 0))
    show(world, 100)
    assert world.decisions == []
    assert list(replay(world.written())) == world.made


def test_what_is_five_times_what_it_was_before_the_restart_is_a_surge_at_once(world: World) -> None:
    world.tick(*before(BACK_S, 300))
    world.run(1)
    world.tick(*before(300, 0))
    show(world, 60, 800)
    assert kinds(world) == ["surge"]
    show(world, 60)
    assert world.last().state == "verified"


def test_a_surge_that_began_before_the_restart_is_found_again(world: World) -> None:
    # Two processes of ingest halve the time that is read back.
    world.tick(*before((COUNTED + SUMMARIES) * EVERY_S / 2, 100), *before(100, 0, 800))
    show(world, 5, 800)
    assert kinds(world) == ["surge"]


@pytest.mark.parametrize("newest_s", [12, 30, 90, 300])
def test_rows_that_ceased_before_the_restart_are_missed(world: World, newest_s: int) -> None:
    world.tick(*before(newest_s + 1.5 * BACK_S, newest_s))
    world.run(62)
    assert kinds(world) == ["no_rows"]
    assert world.last().state == "escalated"
    show(world, 60)
    assert world.last().state == "verified"
    assert list(replay(world.written())) == world.made


@pytest.mark.parametrize("read_back", [True, False])
def test_rows_that_a_person_knows_are_missing_are_not_well_by_a_restart(read_back: bool) -> None:
    known = World().healthy()
    known.tick(RULES, model(1))
    show(known, 340)
    known.run(90)
    assert known.last().state == "escalated"
    stored = from_message(to_message(known.last()))
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(Leads(2, (stored,)))
    if read_back:
        world.tick(*before(90 + 1.5 * BACK_S, 90))
    world.run(300)
    assert world.decisions == []
    # Where nothing was read back, the first rows do not tell that there are as many as usual.
    show(world, 10)
    assert bool(world.decisions) == read_back
    show(world, 60)
    assert [one.incident.state for one in world.decisions] == ["verified"]


def test_of_a_surge_a_restart_knows_nothing_until_rows_are_read_back(world: World) -> None:
    world.tick(*before(1.5 * BACK_S, 100), *before(100, 0, 800))
    show(world, 5, 800)
    stored = from_message(to_message(world.last()))
    again = World().healthy()
    again.tick(RULES, model(1), Leads(2, (stored,)))
    again.run(20)
    assert "verified" not in [one.incident.state for one in again.decisions]
    again.tick(*before(1.5 * BACK_S, 0))
    show(again, 5)
    assert again.last().state == "verified"


def test_of_long_ago_only_the_number_of_rows_counts(world: World) -> None:
    first = (COUNTED + SUMMARIES) * EVERY_S
    world.tick(*(replace(one, brief=True) for one in before(first, SUMMARIES * EVERY_S)))
    state = world.engine.state
    assert "phishing" not in state.sources
    world.tick(*before(SUMMARIES * EVERY_S, 100), *before(100, 0, 800))
    show(world, 5, 800)
    assert kinds(world) == ["surge"]
    assert list(replay(world.written())) == world.made


def test_one_that_waited_for_long_leads_with_what_is_usual_known() -> None:
    world = World().healthy()
    world.tick(RULES, model(1), Leads(0))
    show(world, 400)
    parts = world.engine.state.patterns.by_pipeline["phishing"].volume.parts
    assert len(parts) <= 13
    show(world, 40, 800)
    world.tick(Leads(2))
    show(world, 2, 800)
    assert kinds(world) == ["surge"]


def test_rows_that_come_again_after_the_restart_are_neither_a_surge_nor_too_few(world: World) -> None:
    world.tick(*before(90 + BACK_S, 90))
    world.run(5)
    show(world, 320)
    assert world.decisions == []


def test_summaries_that_are_always_late_are_judged_too(world: World) -> None:
    for number in range(340):
        world.tick(summary(30.0, 100 if number < 310 else 800))
        world.run(EVERY_S - 0.25)
    assert kinds(world) == ["surge"]


def test_what_was_hardly_used_and_is_now_ends_being_a_surge() -> None:
    """Of nothing usual there is no multiple: what it does for long enough is how it is."""
    volume, rule, now, told = Volume(), VolumeRule(), 0.0, []
    for number in range(4_000):
        now += EVERY_S
        volume.see(0.01 if number < 1_000 else 100.0, now, now, rule)
        told.append(volume.look(now, rule))
    assert "surge" in told[1_000:1_060]
    assert set(told[1_000 + 400:]) == {""}
    assert volume.usual is not None
    assert volume.usual > FEWEST


def test_what_is_older_than_all_that_is_counted_is_not_taken_for_new() -> None:
    volume, rule = Volume(), VolumeRule()
    for _ in range(2):
        for at in range(0, 600, 2):
            volume.see(100.0, float(at), 600.0, rule)
    assert volume.rows <= 2 * 3_100
