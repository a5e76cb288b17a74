"""One field that breaks while all else is well is taken out of the rows, and comes back once it is well itself."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Approval, Judged, Leads, Rules
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import FieldRows, RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import BrokenRule, Ladders
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.world import RULES, World, labels, model

FIELDS = {"x": True, "y": True, "must": False}
BROKEN = BrokenRule(FIELDS, dict.fromkeys(FIELDS, "one"), restore_after_s=10.0)
WELL: dict[str, dict[str, Any]] = {"x": {}, "y": {}, "must": {}}
EDGES = (0.0, 1.0, 5.0, 9.0, 10.0)


def numbers(name: str, present: int, missing: int = 0, times: float = 1.0, stuck: bool = False) -> FieldRows:
    """A number that usually lies between 0 and 10."""
    if not present:
        return FieldRows(name, missing)
    if stuck:
        return FieldRows(name, missing, 0, 7.0, 0.0, ((7.0, 7.0), (present,)), (), present, present, 0, 1.0)
    edges = tuple(times * one for one in EDGES)
    return FieldRows(name, missing, 0, 5.0 * times, 2.5 * times, (edges, (0.01, present / 2, present / 2, 0.01)), (),
                     present, present, 0, 60.0)


def seen(turned_away: int = 0, sources: int = 2, **fields: dict[str, Any]) -> RowsSeen:
    """A summary of 100 rows of each source. Of each field: `missing`, `invalid` (of all rows), `times`, `stuck`, and
    the incident it is `out` for."""
    told = []
    for name, how in (WELL | fields).items():
        invalid = how.get("invalid", 0)
        came = 100 * sources - (invalid if "out" in how else turned_away)
        missing = how.get("missing", 0)
        one = numbers(name, came - missing, missing, how.get("times", 1.0), how.get("stuck", False))
        told.append(replace(one, invalid=invalid, quarantined="out" in how, incident_id=how.get("out", "")))
    away = turned_away // sources
    gaps = max((how.get("missing", 0) for how in fields.values() if "out" not in how), default=0) // sources
    return RowsSeen("phishing", tuple(SourceRows(f"s{place}", 100 - away, away, 0, gaps) for place in range(sources)),
                    0.0, tuple(told))


def show(world: World, times: int, summary: RowsSeen) -> None:
    for _ in range(times):
        world.tick(summary)
        world.run(1.75)


def means(rule: BrokenRule, **meant: str) -> BrokenRule:
    """The same with another meaning of these fields."""
    return replace(rule, meant=rule.meant | meant)


def begun(rules: Rules = RULES, broken: BrokenRule = BROKEN, sources: int = 2) -> World:
    """Enough good rows came to know what is usual."""
    world = World().healthy()
    world.tick(replace(rules, broken=broken), model(1))
    show(world, 10, seen(sources=sources))
    assert world.decisions == []
    return world


@pytest.mark.parametrize(("sources", "broken"), [(1, {"missing": 98}), (2, {"missing": 195}), (2, {"times": 100.0}),
                                                 (2, {"stuck": True})])
def test_a_field_that_breaks_in_rows_of_every_source_is_quarantined_and_restored_once_it_is_well(
        sources: int, broken: dict[str, Any]) -> None:
    world = begun(sources=sources)
    show(world, 4, seen(sources=sources, x=broken))
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("quarantine", "pipeline:phishing", {"field": "x"})
    assert (world.last().symptom, world.last().cause) == ("broken_field", "data:phishing/x")
    world.tick(Answered(command.command_id, "done"))
    out = {"out": world.last().id}
    show(world, 10, seen(sources=sources, x=broken | out))
    assert world.last().state == "commanded"
    assert any(note.what == "helped" for note in world.last().timeline)
    show(world, 4, seen(sources=sources, x=out))
    assert len(world.commands()) == 1
    show(world, 5, seen(sources=sources, x=out))
    lift = world.commands()[-1]
    assert (lift.action, lift.target, lift.arguments) == ("restore", "pipeline:phishing", {"field": "x"})
    assert world.last().state == "verified"
    show(world, 20, seen(sources=sources))
    assert len(world.commands()) == 2 and len({one.incident.id for one in world.decisions}) == 1
    bodies = world.written()
    assert list(replay(bodies)) == world.made


def test_few_rows_of_another_place_at_a_time_do_not_become_usual_before_they_are_enough_to_judge() -> None:
    def few(times: float = 1.0) -> RowsSeen:
        return RowsSeen("phishing", (SourceRows("s0", 20, 0, 0, 0),), 0.0,
                        (numbers("x", 20, times=times), numbers("y", 20), numbers("must", 20)))

    world = begun(sources=1)
    show(world, 10, few())
    show(world, 8, few(times=100.0))
    assert [(one.action, one.arguments) for one in world.commands()] == [("quarantine", {"field": "x"})]


def test_a_field_that_rows_are_refused_for_is_quarantined_and_then_they_come() -> None:
    world = begun()
    show(world, 3, seen(turned_away=180, x={"invalid": 180}))
    assert world.orders() == [("quarantine", "pipeline:phishing")]
    assert world.commands()[0].arguments == {"field": "x"}
    show(world, 8, seen(x={"invalid": 180, "out": world.last().id}))
    assert any(note.what == "helped" for note in world.last().timeline)
    show(world, 5, seen(x={"invalid": 180, "out": world.last().id}))
    assert (len(world.commands()), len({one.incident.id for one in world.decisions})) == (1, 1)


def test_a_source_that_alone_is_to_blame_is_quarantined_and_not_the_field() -> None:
    world = begun()
    bad = RowsSeen("phishing", (SourceRows("s0", 100, 0, 0, 0), SourceRows("s1", 5, 95, 0, 0)), 0.0, (
        replace(numbers("x", 105), invalid=95), numbers("y", 105), numbers("must", 105)))
    show(world, 3, bad)
    assert [one.arguments for one in world.commands()] == [{"source": "s1"}]


def test_two_fields_that_break_at_once_are_nobody_s_to_quarantine() -> None:
    world = begun()
    show(world, 10, seen(x={"times": 100.0}, y={"times": 100.0}))
    assert world.commands() == []
    assert {one.incident.symptom for one in world.decisions} == {"drift"}


def test_what_is_less_than_broken_or_was_always_so_is_left_alone() -> None:
    world = begun()
    show(world, 20, seen(x={"missing": 60}))
    show(world, 5, seen(x={"times": 1.4}))
    assert world.commands() == []
    always = World().healthy()
    always.tick(replace(RULES, broken=BROKEN), model(1))
    show(always, 40, seen(x={"missing": 195}, y={"stuck": True}))
    assert always.decisions == []


def test_what_came_in_another_time_is_not_what_is_usual() -> None:
    world = begun()
    world.run(1)
    for _ in range(25):
        world.tick(gap_s=28.0)
    world.run(15)
    show(world, 15, seen(x={"times": 100.0}))
    assert world.commands() == []


def test_what_the_values_mean_may_change_with_the_pipeline() -> None:
    world = begun()
    world.tick(replace(RULES, broken=means(BROKEN, x="two")))
    show(world, 15, seen(x={"times": 100.0}))
    assert world.commands() == []


def test_a_quarantine_outlives_a_change_of_another_field_and_ends_once_its_values_are_as_usual() -> None:
    world = begun()
    show(world, 4, seen(x={"times": 100.0}))
    out = {"out": world.last().id}
    world.tick(replace(RULES, broken=means(BROKEN, y="two")))
    show(world, 6, seen(x={"times": 100.0} | out))
    assert len(world.commands()) == 1
    show(world, 8, seen(x=out))
    assert (world.orders()[-1], world.last().state) == (("restore", "pipeline:phishing"), "verified")
    assert len(world.commands()) == 2


@pytest.mark.parametrize("before", [0, 4])
def test_a_field_that_is_out_and_comes_to_mean_something_else_is_put_back_and_judged_anew(before: int) -> None:
    world = begun()
    show(world, 4, seen(x={"times": 100.0}))
    out = {"times": 100.0, "out": world.last().id}
    show(world, before, seen(x=out))
    world.tick(replace(RULES, broken=means(BROKEN, x="two")))
    show(world, 4, seen(x=out))
    assert [one.arguments for one in world.commands()] == [{"field": "x"}] * 2
    assert (world.orders()[-1][0], world.last().state) == ("restore", "verified")
    assert "x means something else now" in world.last().verdict
    show(world, 20, seen(x={"times": 100.0}))
    assert len(world.commands()) == 2
    show(world, 30, seen(x={"missing": 195}))
    assert world.orders()[-1] == ("quarantine", "pipeline:phishing")
    person = begun()
    show(person, 4, seen(x={"out": ""}))
    person.tick(replace(RULES, broken=means(BROKEN, x="two")))
    show(person, 30, seen(x={"out": ""}))
    assert person.decisions == []


def test_no_more_fields_than_allowed_are_out_at_once_and_never_the_only_one() -> None:
    for broken, out in ((BROKEN, {"out": ""}), (replace(BROKEN, quarantined_fields=0), {}),
                        (replace(BROKEN, fields={"x": True}), {})):
        world = begun(broken=broken)
        show(world, 5, seen(y=out, x={"times": 100.0}))
        assert world.commands() == []
        assert (world.last().symptom, world.last().state) == ("broken_field", "escalated")


def test_a_field_that_rows_need_cannot_be_quarantined_and_the_pipeline_is_paused() -> None:
    world = begun()
    show(world, 4, seen(must={"times": 100.0}))
    assert world.orders() == [("pause", "pipeline:phishing")]
    assert world.last().cause == "data:phishing/must"


def test_a_field_that_rows_need_and_that_stands_still_is_a_person_s() -> None:
    world = begun()
    show(world, 4, seen(must={"stuck": True}))
    assert (world.commands(), world.last().state) == ([], "escalated")


def test_a_person_s_word_dry_run_budget_and_ladder_bind_it() -> None:
    for rules, why in ((replace(RULES, dry_run=("quarantine",)), "dry run"),
                       (replace(RULES, budget_actions=0), "budget"),
                       (replace(RULES, ladders=Ladders(broken_field=())), "no command")):
        world = begun(rules)
        show(world, 4, seen(x={"times": 100.0}))
        assert (world.commands(), world.last().state) == ([], "escalated")
        assert why in world.last().verdict
    world = begun(replace(RULES, approval=("quarantine",)))
    show(world, 4, seen(x={"times": 100.0}))
    assert (world.commands(), world.last().awaiting) == ([], "quarantine")
    world.tick(Approval(world.last().id, True, 0, "operator:lk_1"))
    assert world.commands()[0].arguments == {"field": "x"}


def lost(world: World, right: int, wrong: int) -> None:
    judged: list[Judged] = labels(1, right, wrong)
    for start in range(0, len(judged), 10):
        world.tick(*judged[start:start + 10])


def test_quality_that_is_lost_before_the_quarantine_shows_is_told_and_one_after_is_its_own() -> None:
    world = begun()
    show(world, 4, seen(x={"times": 100.0}))
    out = {"times": 100.0, "out": world.last().id}
    lost(world, 10, 70)
    show(world, 20, seen(x=out))
    assert {one.incident.symptom for one in world.decisions} == {"broken_field", "quality_loss"}
    assert any("quality_loss without x" in one.alert for one in world.decisions)
    later = begun()
    show(later, 4, seen(x={"times": 100.0}))
    show(later, 8, seen(x=out | {"out": later.last().id}))
    lost(later, 10, 70)
    assert [action for action, _ in later.orders()] == ["quarantine", "retrain"]


def test_what_a_person_took_out_is_theirs() -> None:
    world = begun()
    show(world, 30, seen(x={"times": 100.0, "out": ""}))
    show(world, 30, seen(x={"out": ""}))
    assert world.decisions == []
    late = begun()
    show(late, 4, seen(x={"times": 100.0}))
    show(late, 4, seen(x={"out": ""}))
    show(late, 10, seen(x={"out": ""}))
    assert (late.last().state, [action for action, _ in late.orders()]) == ("verified", ["quarantine"])


def test_a_field_that_is_out_for_long_is_told_again_and_still_comes_back() -> None:
    world = begun(broken=replace(BROKEN, restore_after_s=5.0))
    show(world, 4, seen(x={"times": 100.0}))
    out = {"times": 100.0, "out": world.last().id}
    show(world, 6, seen(x=out))
    for _ in range(130):
        world.tick(seen(x=out), gap_s=28.0)
        world.run(0.5)
    assert (world.last().state, len(world.commands())) == ("escalated", 1)
    show(world, 6, seen(x={"out": world.last().id}))
    assert [action for action, _ in world.orders()] == ["quarantine", "restore"]


def test_a_watchdog_that_takes_over_restores_what_the_one_before_took_out() -> None:
    world = begun()
    show(world, 4, seen(x={"times": 100.0}))
    out = {"out": world.last().id}
    show(world, 6, seen(x={"times": 100.0} | out))
    stored = from_message(to_message(world.last()))
    heir = begun()
    heir.tick(Leads(2, (stored,)))
    show(heir, 4, seen(x={"times": 100.0} | out))
    show(heir, 8, seen(x=out))
    assert [(one.action, one.arguments) for one in heir.commands()] == [("restore", {"field": "x"})]
    assert heir.last().id == stored.id


def test_a_field_that_is_left_to_a_person_hides_no_data_that_breaks_as_a_whole() -> None:
    world = begun(replace(RULES, dry_run=("quarantine",)))
    show(world, 4, seen(x={"times": 100.0}))
    assert (world.commands(), world.last().state) == ([], "escalated")
    # Neither field has values in what is left: no longer one that is to blame.
    show(world, 20, seen(turned_away=180, x={"missing": 20}, y={"missing": 20}))
    assert world.orders() == [("pause", "pipeline:phishing")]
    assert (world.last().symptom, world.last().cause) == ("broken_data", "data:phishing")


def test_a_quarantine_that_nobody_ended_is_ended_once_the_field_is_well() -> None:
    world = begun()
    show(world, 30, seen(x={"out": "inc-gone"}))
    assert [(one.action, one.arguments) for one in world.commands()] == [("restore", {"field": "x"})]
