"""What is not done by itself: in a dry run, under maintenance, and what comes back as often as it is cured."""

from msgspec.structs import replace

from lepton.contracts.pipeline import from_json, parse
from services.watchdog.core.inputs import Rules, Thresholds
from services.watchdog.core.safety.policy import under_maintenance
from services.watchdog.flow import translate
from tests.unit.watchdog.world import RULES, WALL_S, World, labels, model, rows


def broken(world: World) -> None:
    """A source turns bad, is shut out, and its rows stop."""
    for _ in range(3):
        world.tick(rows(good=2, broken=95))
        world.run(1.75)
    for _ in range(8):
        world.tick(rows(good=2))
        world.run(1.75)


def test_in_a_dry_run_a_person_is_told_what_would_have_been_done() -> None:
    world = World(Thresholds(own="watchdog", dry_run=True)).healthy()
    del world.beating["ingest"]
    world.run(120)
    assert world.commands() == []
    assert world.last().state == "escalated"
    assert world.last().verdict == "dry run: restart of instance:ingest was not commanded"
    assert len(world.decisions) == 2
    world.beating["ingest"] = "ingest-2"
    world.run(3)
    assert world.last().state == "verified"


def test_a_pipeline_may_forbid_single_actions() -> None:
    world = World().healthy()
    world.tick(replace(RULES, dry_run=("roll_back",)), model(1))
    world.tick(model(2, previous=1))
    world.tick(*labels(2, 0, 80))
    assert world.commands() == []
    assert "roll_back" in world.last().verdict
    world = World().healthy()
    world.tick(replace(RULES, dry_run=("quarantine",)), model(1))
    world.tick(*labels(1, 0, 80))
    assert [action for action, _ in world.orders()] == ["retrain"]


def test_under_maintenance_nothing_is_done_until_its_end() -> None:
    world = World().healthy()
    minute = int((WALL_S + world.now) // 60) % 1440
    world.tick(replace(RULES, maintenance=((minute, (minute + 3) % 1440),)), model(1))
    world.tick(*labels(1, 0, 80))
    world.run(60)
    assert world.last().state == "suspected"
    world.run(150)
    assert [action for action, _ in world.orders()] == ["retrain"]


def test_times_of_maintenance_may_pass_midnight() -> None:
    night = Rules("p", maintenance=((23 * 60, 60),))
    assert [under_maintenance(night, hour * 3600.0) for hour in (22, 23, 0, 1)] == [False, True, True, False]
    assert not under_maintenance(None, 0)


def test_what_comes_back_as_often_as_it_is_cured_is_left_to_a_person() -> None:
    world = World(Thresholds(own="watchdog", flaps=3)).healthy()
    world.tick(RULES)
    for _ in range(3):
        broken(world)
        assert world.last().state == "verified"
    assert len(world.commands()) == 3
    broken(world)
    assert len(world.commands()) == 3
    assert any("cured 3 times" in decision.incident.verdict for decision in world.decisions)


def test_a_pipeline_says_so_in_its_heal_block() -> None:
    spec = parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {partitions: 1, fields: {x: {type: float}}}
heal: {dry_run: [retrain], maintenance: [{from: "22:30", to: "01:00"}]}
""")
    rules = translate.rules(from_json(spec.canonical_json()))
    assert rules.dry_run == ("retrain",)
    assert rules.maintenance == ((1350, 60),)
