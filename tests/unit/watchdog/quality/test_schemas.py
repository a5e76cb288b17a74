"""A field that goes under another name is told by both names; other changes of a schema stay what they were called."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Figures, Leads
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import MemberRows, RowsSeen, SchemaRows, SourceRows
from services.watchdog.flow.translate import from_message, to_message
from tests.unit.watchdog.safety.test_broken_fields import BROKEN, seen, show
from tests.unit.watchdog.world import RULES, World, model

Form = dict[str, tuple[MemberRows, ...]]
EXTRA, LACKS = MemberRows("extra", 20, "text"), MemberRows("y", 10, "number")
USUAL: Form = {"undeclared": (EXTRA,), "absent": (LACKS,)}
PIPELINE = "pipeline:phishing"
GONE: dict[str, Any] = {"missing": 195}


def form(came: tuple[MemberRows, ...] = (), absent: str = "x", kind: str = "number") -> Form:
    """Of 40 sampled events all lack that field; and these came."""
    return {"undeclared": (EXTRA, *came), "absent": (LACKS, MemberRows(absent, 40, kind))}


RENAMED = form((MemberRows("x_v2", 40, "number"),))


def told(summary: RowsSeen, said: Form = USUAL, of: tuple[str, ...] = ("s0", "s1")) -> RowsSeen:
    """The same with what 40 sampled events of each source say; of others than these, what is usual."""
    return replace(summary, schemas=tuple(
        SchemaRows(one.source, 40, **(said if one.source in of else USUAL)) for one in summary.sources))


def begun() -> World:
    world = World().healthy()
    world.tick(replace(RULES, broken=BROKEN), model(1))
    show(world, 10, told(seen()))
    assert world.decisions == []
    return world


def alone(world: World, symptom: str, cause: str) -> bool:
    """Whether nothing else was ever told of, in one incident."""
    return ({(one.incident.symptom, one.incident.cause) for one in world.decisions} == {(symptom, cause)}
            and len({one.incident.id for one in world.decisions}) == 1)


def test_a_field_under_another_name_is_kept_out_and_a_person_is_told_both_names_and_what_to_do() -> None:
    world = begun()
    show(world, 4, told(seen(x=GONE), RENAMED))
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("quarantine", PIPELINE, {"field": "x"})
    world.tick(Answered(command.command_id, "done"))
    out = {"out": world.last().id}
    show(world, 10, told(seen(x=GONE | out), RENAMED))
    assert world.last().state == "escalated"
    (page,) = (one.alert for one in world.decisions if one.alert.startswith("a person is needed"))
    assert "field x went, x_v2 came in its place (of 80 sampled events)" in page
    assert "declare x_v2 in events.fields" in page
    assert "rows are taken in without x" in page
    show(world, 20, told(seen(x=GONE | out), RENAMED))
    assert len(world.commands()) == 1
    show(world, 9, told(seen(x=out)))
    assert (world.last().state, world.orders()[-1]) == ("verified", ("restore", PIPELINE))
    show(world, 20, told(seen()))
    assert alone(world, "schema_change", "data:phishing/x") and len(world.commands()) == 2
    assert list(replay(world.written())) == world.made


def test_a_watchdog_that_takes_over_goes_on_with_the_one_incident() -> None:
    world = begun()
    show(world, 4, told(seen(x=GONE), RENAMED))
    out = {"out": world.last().id}
    show(world, 6, told(seen(x=GONE | out), RENAMED))
    heir = begun()
    heir.tick(Leads(2, (from_message(to_message(world.last())),)))
    show(heir, 20, told(seen(x=GONE | out), RENAMED))
    show(heir, 8, told(seen(x=out)))
    assert [(one.action, one.arguments) for one in heir.commands()] == [("restore", {"field": "x"})]
    assert {one.incident.id for one in heir.decisions} == {world.last().id}


def test_where_rows_need_the_field_the_pipeline_is_paused_and_tried_again() -> None:
    world = begun()
    refused = told(seen(turned_away=200, must={"invalid": 200}), form((MemberRows("shall", 40, "number"),), "must"))
    show(world, 4, refused)
    assert world.orders() == [("pause", PIPELINE)]
    world.tick(Answered(world.commands()[0].command_id, "done"))

    def says(paused: bool) -> None:
        world.tick(Figures("ingest", "ingest", "ingest-1", (("lepton_ingest_paused", "phishing", float(paused)),)))

    for _ in range(25):
        says(True)
        world.run(4.75)
    assert any("must went, shall came" in one.alert and "tried again in 120 s" in one.alert for one in world.decisions)
    assert world.orders() == [("pause", PIPELINE), ("resume", PIPELINE)]
    says(False)
    show(world, 3, refused)
    show(world, 10, told(seen()))
    assert (world.last().state, len(world.commands())) == ("verified", 2)
    assert alone(world, "schema_change", "data:phishing/must")
    assert list(replay(world.written())) == world.made


@pytest.mark.parametrize("said", [
    form(), form((MemberRows("x_v2", 40, "text"),)), form((MemberRows("x_v2", 15, "number"),)),
    form((MemberRows("x_v2", 40, "number"),), "z")], ids=["alone", "of another kind", "less often", "of another field"])
def test_a_field_that_went_with_nothing_in_its_place_stays_a_broken_field(said: Form) -> None:
    world = begun()
    show(world, 4, told(seen(x=GONE), said))
    assert [one.arguments for one in world.commands()] == [{"field": "x"}]
    show(world, 8, told(seen(x=GONE | {"out": world.last().id}), said))
    assert alone(world, "broken_field", "data:phishing/x")
    assert (world.last().state, world.last().timeline[-1].what) == ("commanded", "helped")


def test_one_that_came_long_before_is_not_in_its_place() -> None:
    world = begun()
    show(world, 100, told(seen(), {"undeclared": (EXTRA, *RENAMED["undeclared"]), "absent": (LACKS,)}))
    assert world.decisions == []
    show(world, 4, told(seen(x=GONE), RENAMED))
    assert alone(world, "broken_field", "data:phishing/x")


def test_a_kind_that_changed_is_told_with_the_broken_field() -> None:
    world = begun()
    texts = {"mistyped": (MemberRows("x", 40, "text"),)} | USUAL
    show(world, 4, told(seen(turned_away=180, x={"invalid": 180}), texts))
    assert [one.arguments for one in world.commands()] == [{"field": "x"}]
    assert alone(world, "broken_field", "data:phishing/x")
    assert "x is text now (of 80 sampled events)" in world.last().timeline[0].detail


def test_what_came_in_its_place_later_is_the_same_trouble() -> None:
    world = begun()
    show(world, 4, told(seen(x=GONE), form()))
    out = {"out": world.last().id}
    show(world, 20, told(seen(x=GONE | out), RENAMED))
    show(world, 9, told(seen(x=out)))
    assert alone(world, "broken_field", "data:phishing/x")
    assert world.last().state == "verified"


def test_new_members_beside_all_that_are_declared_are_no_symptom() -> None:
    world = begun()
    show(world, 30, told(seen(), {"undeclared": (EXTRA, MemberRows("new", 40, "number")), "absent": (LACKS,)}))
    assert world.decisions == []


def test_two_that_came_as_often_are_both_named_and_of_few_events_nothing_is_said() -> None:
    world = begun()
    both = form((MemberRows("a", 40, "number"), MemberRows("b", 40, "number"), MemberRows("seldom", 9, "number")))
    show(world, 3, told(seen(x=GONE), both))
    assert "x went, a or b came" in world.last().timeline[0].detail
    few = begun()
    show(few, 3, replace(seen(x=GONE), schemas=(SchemaRows("s0", 1, (MemberRows("a", 1, "number"),),
                                                           (MemberRows("x", 1, "number"),)),)))
    assert alone(few, "broken_field", "data:phishing/x")


def test_a_source_that_alone_has_another_form_is_quarantined_and_its_form_told() -> None:
    world = begun()
    bad = replace(seen(x={"missing": 95}), sources=(SourceRows("s0", 100, 0, 0, 0), SourceRows("s1", 100, 0, 0, 95)))
    show(world, 3, told(bad, RENAMED, of=("s1",)))
    assert [one.arguments for one in world.commands()] == [{"source": "s1"}]
    assert world.decisions[0].incident.symptom == "broken_data"
    assert "their form changed: x went, x_v2 came" in world.decisions[0].incident.timeline[0].detail


def test_with_another_declaration_what_is_usual_begins_anew() -> None:
    world = begun()
    world.tick(replace(RULES, broken=replace(BROKEN, meant=BROKEN.meant | {"y": "two"})))
    show(world, 4, told(seen(x=GONE), RENAMED))
    assert alone(world, "broken_field", "data:phishing/x")
