"""A pipeline whose data is broken as a whole is paused, a person is told, and it is tried again ever more slowly."""

import pytest
from msgspec.structs import replace

from lepton.contracts.pipeline import InvalidPipeline, parse
from services.watchdog.core.inputs import Answered, Approval, Figures, Leads, Rules
from services.watchdog.core.journal import replay
from services.watchdog.core.thresholds.limits import BrokenRule, Ladders
from services.watchdog.flow import translate
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.ingest.samples import TEXT
from tests.unit.watchdog.house import pipeline
from tests.unit.watchdog.world import RULES, World, model, rows

BROKEN = BrokenRule(resume_after_s=60.0, resume_longest_s=100.0)
PAUSED = "pipeline:phishing"


def says(world: World, paused: bool) -> None:
    world.tick(Figures("ingest", "ingest", "ingest-1", (("lepton_ingest_paused", "phishing", float(paused)),)))


def come(world: World, seconds: float, bad: int) -> None:
    """Rows of two sources, so many of a hundred refused, a summary every two seconds."""
    for _ in range(round(seconds / 2)):
        world.tick(rows(one=bad, two=bad))
        world.run(1.75)


def still(world: World, seconds: float) -> None:
    """No rows; ingest says that it is paused."""
    for _ in range(round(seconds / 5)):
        says(world, True)
        world.run(4.75)


def broken(rules: Rules = RULES, rule: BrokenRule = BROKEN) -> World:
    world = World().healthy()
    world.tick(replace(rules, broken=rule), model(1))
    come(world, 10, 0)
    come(world, 16, 90)
    return world


def paused(rules: Rules = RULES, rule: BrokenRule = BROKEN) -> World:
    world = broken(rules, rule)
    assert world.orders() == [("pause", PAUSED)]
    world.tick(Answered(world.commands()[0].command_id, "done"))
    says(world, True)
    return world


def test_when_most_rows_of_every_source_are_turned_away_it_is_paused_and_a_person_is_told() -> None:
    world = paused()
    assert (world.last().symptom, world.last().cause, world.last().state) == (
        "broken_data", "data:phishing", "escalated")
    assert any("lepton pipelines resume phishing" in one.alert and "tried again in 60 s" in one.alert
               for one in world.decisions)
    still(world, 50)
    assert len(world.commands()) == 1
    assert len({one.incident.id for one in world.decisions}) == 1
    assert list(replay(world.written())) == world.made


def test_it_is_tried_after_a_while_and_goes_on_when_the_newest_rows_are_good() -> None:
    world = paused()
    still(world, 65)
    assert [action for action, _ in world.orders()] == ["pause", "resume"]
    says(world, False)
    # What waited since it broke is read first.
    come(world, 10, 90)
    come(world, 10, 2)
    assert world.last().state == "verified"
    assert "bad since it goes on" in world.last().verdict
    come(world, 60, 2)
    assert len(world.commands()) == 2 and len({one.incident.id for one in world.decisions}) == 1


def test_a_try_that_fails_is_ended_and_each_pause_is_longer_up_to_a_limit() -> None:
    world = paused(replace(RULES, budget_actions=20))
    for wait_s in (60, 100, 100):
        began = world.now
        while world.orders()[-1][0] != "resume":
            still(world, 5)
        assert wait_s - 10 < world.now - began < wait_s + 10
        says(world, False)
        while world.orders()[-1][0] != "pause":
            come(world, 2, 90)
        says(world, True)
        assert world.last().state == "escalated"
    assert "tried again in 100 s" in world.last().verdict


def test_a_try_without_rows_says_nothing() -> None:
    world = paused()
    still(world, 65)
    says(world, False)
    world.run(120)
    assert [action for action, _ in world.orders()] == ["pause", "resume"]
    come(world, 10, 0)
    assert world.last().state == "verified"


def test_a_person_s_resume_is_the_last_word() -> None:
    world = paused()
    still(world, 20)
    says(world, False)
    come(world, 60, 90)
    assert len(world.commands()) == 1 and world.last().state == "escalated"
    come(world, 10, 0)
    assert world.last().state == "verified"


def test_only_what_is_turned_away_is_tried_and_nothing_where_a_pause_needs_a_word() -> None:
    for rules, rule in ((RULES, replace(BROKEN, resume_after_s=0.0)),
                        (replace(RULES, approval=("pause",)), BROKEN)):
        world = broken(rules, rule)
        if rules.approval:
            assert (world.commands(), world.last().awaiting) == ([], "pause")
            world.tick(Approval(world.last().id, True, 0, "operator:lk_1"))
        still(world, 150)
        assert (len(world.commands()), world.last().state) == (1, "escalated")
        assert "tried again" not in world.last().verdict


def test_it_is_not_tried_where_another_pause_would_only_be_told() -> None:
    world = paused()
    world.tick(replace(RULES, broken=BROKEN, dry_run=("pause",)))
    still(world, 150)
    assert (len(world.commands()), world.last().state) == (1, "escalated")


def test_a_pause_that_comes_when_the_rows_are_good_again_does_not_outlive_its_incident() -> None:
    world = broken()
    # The command waits for the database, and until then rows go on as they are.
    come(world, 16, 0)
    assert world.last().state == "verified"
    assert [(one.action, one.target, one.arguments) for one in world.commands()] == [
        ("pause", PAUSED, {}), ("resume", PAUSED, {})]
    assert world.commands()[1].command_id == f"{world.last().id}-lift"
    gone = broken()
    gone.tick(replace(RULES, deleted=True))
    gone.run(1)
    assert (gone.last().state, len(gone.commands())) == ("verified", 1)


def test_a_ladder_dry_run_budget_or_maintenance_leaves_it_to_a_person() -> None:
    for rules, why in ((replace(RULES, dry_run=("pause",)), "dry run"), (replace(RULES, budget_actions=0), "budget"),
                       (replace(RULES, ladders=Ladders(broken_data=("quarantine",))), "no command")):
        world = broken(rules)
        assert (world.commands(), world.last().state) == ([], "escalated")
        assert why in world.last().verdict
    assert broken(replace(RULES, maintenance=((0, 24 * 60),))).commands() == []


def test_no_try_is_begun_that_could_not_be_ended() -> None:
    world = paused(replace(RULES, budget_actions=2))
    still(world, 150)
    assert len(world.commands()) == 1
    still(world, 450)
    assert [action for action, _ in world.orders()] == ["pause", "resume"]


def test_few_rows_turned_away_or_for_a_moment_pause_nothing() -> None:
    world = World().healthy()
    world.tick(replace(RULES, broken=BROKEN), model(1))
    come(world, 20, 0)
    come(world, 6, 95)
    come(world, 40, 20)
    assert world.commands() == []


def test_a_watchdog_that_takes_over_goes_on_with_a_pause_and_its_tries() -> None:
    world = paused()
    still(world, 10)
    stored = from_message(to_message(world.last()))
    heir = World().healthy()
    heir.tick(replace(RULES, broken=BROKEN), model(1))
    heir.tick(Leads(2, (stored,)))
    still(heir, 50)
    assert heir.decisions == []
    still(heir, 15)
    assert heir.orders() == [("resume", PAUSED)]
    assert heir.commands()[0].command_id == f"{stored.id}-2"


def test_a_command_that_is_refused_or_not_obeyed_is_told() -> None:
    refused = broken()
    refused.tick(Answered(refused.commands()[0].command_id, "refused"))
    unheard = broken()
    come(unheard, 40, 90)
    for world in (refused, unheard):
        assert (len(world.commands()), world.last().state) == (1, "escalated")


def test_a_line_that_a_limit_stopped_is_paused_only_where_the_pipeline_says_so_and_a_person_ends_it() -> None:
    for ladder, orders in (((), []), (("pause",), [("pause", PAUSED)])):
        world = World().healthy()
        world.tick(replace(RULES, ladders=Ladders(line_stopped=ladder)), model(1))
        world.stopped["ingest"] = {"accept phishing": "more than 5 records were refused within 60 s"}
        world.run(3)
        assert world.orders() == orders
        if not orders:
            continue
        says(world, True)
        world.stopped.clear()
        still(world, 300)
        assert (len(world.commands()), world.last().state) == (1, "escalated")
        says(world, False)
        world.run(2)
        assert (world.last().state, world.last().verdict) == ("verified", "the line moves again")


def test_a_pipeline_says_from_where_on_and_the_defaults_are_the_same_on_both_sides() -> None:
    told = translate.rules(pipeline("shop")).broken
    assert replace(told, fields={}, meant={}) == BrokenRule()
    assert told.fields == {"x": True}
    text = TEXT + "watch: {data: {turned_away: 0.8, after_s: 60}}\nheal: {resume_after_s: 0, quarantined_fields: 2}\n"
    spec = parse(text)
    found = translate.rules(spec).broken
    assert (found.turned_away, found.after_s, found.resume_after_s, found.quarantined_fields) == (0.8, 60, 0, 2)
    assert found.fields == {name: name in spec.optional_fields for name in found.fields}
    assert found.meant != translate.rules(parse(text.replace("float", "int"))).broken.meant
    dropped = translate.rules(parse(TEXT + "clean: {missing: {default: drop}}\n")).broken
    assert set(dropped.fields.values()) == {False} and dropped.meant != found.meant
    with pytest.raises(InvalidPipeline):
        parse(TEXT + "heal: {ladders: {line_stopped: [quarantine]}}\n")
