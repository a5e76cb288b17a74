"""What is not done by itself: in a dry run, under maintenance, and what comes back as often as it is cured."""

from typing import get_args

import pytest
from msgspec.structs import replace

from lepton.contracts.modelling.healing import Action
from lepton.contracts.pipeline import from_json, parse
from lepton.runtime.settings import load
from services.watchdog.app import _thresholds
from services.watchdog.core.incident import opened
from services.watchdog.core.inputs import Approval, Rules, Thresholds, Tick
from services.watchdog.core.journal import replay
from services.watchdog.core.safety.policy import under_maintenance
from services.watchdog.flow import translate
from services.watchdog.settings import WatchdogSettings
from tests.unit.watchdog.world import RULES, WALL_S, World, labels, model, rows

MINUTE = int((WALL_S + World.now) // 60) % 1440
"""Of the day in which a world begins, twenty seconds before its end."""


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


def test_the_installation_may_forbid_single_actions_of_processes_and_of_every_pipeline() -> None:
    world = World(Thresholds(own="watchdog", dry_run=("restart", "roll_back"))).healthy()
    del world.beating["ingest"]
    world.run(120)
    assert (world.commands(), world.last().verdict) == ([], "dry run: restart of instance:ingest was not commanded")
    world = World(world.thresholds).healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    world.tick(*labels(2, 0, 80))
    assert (world.commands(), world.last().verdict) == ([], "dry run: roll_back of model:phishing was not commanded")
    # What is not named is done.
    world = World(world.thresholds).healthy()
    world.tick(RULES, model(1))
    world.tick(*labels(1, 0, 80))
    assert [action for action, _ in world.orders()] == ["retrain"]
    assert list(replay(world.written())) == world.made


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
    tick, limits = Tick(0.0, 0.0, 0.25), Thresholds(own="watchdog")
    shop = opened("drift", "data:p", "pipeline:p", "p", "", tick)
    process = opened("silence", "process:ingest", "instance:ingest", "", "", tick)
    night = ((23 * 60, 60),)
    pipeline, installation = Rules("p", maintenance=night), Thresholds(own="watchdog", maintenance=night)
    for incident, rules, thresholds in ((shop, pipeline, limits), (process, None, installation)):
        assert [under_maintenance(incident, rules, thresholds, hour * 3600.0) for hour in (22, 23, 0, 1)] == [
            False, True, True, False]
    # The windows of one are not those of the other.
    assert not under_maintenance(shop, Rules("p"), installation, 0)
    assert not under_maintenance(shop, None, installation, 0)
    assert not under_maintenance(process, None, limits, 0)


def during(first: int, end: int, approval: tuple[str, ...] = ()) -> World:
    """All are well, and maintenance of the installation is from minute `first` to `end` after the one it is in."""
    window = (MINUTE + first, MINUTE + end)
    return World(Thresholds(own="watchdog", maintenance=(window,), approval=approval)).healthy()


def test_under_maintenance_of_the_installation_no_process_is_restarted_and_pipelines_are_healed() -> None:
    world = during(0, 5)
    world.tick(RULES, model(1))
    del world.beating["ingest"]
    world.run(60)
    assert (world.commands(), world.last().state) == ([], "suspected")
    world.tick(*labels(1, 0, 80))
    assert world.orders() == [("retrain", "model:phishing")]
    world.run(250)
    assert world.orders()[1] == ("restart", "instance:ingest")
    assert list(replay(world.written())) == world.made


def test_a_process_that_stays_silent_is_not_tried_again_before_the_end() -> None:
    world = during(2, 6)
    del world.beating["ingest"]
    world.run(World.now + 82 - world.now)
    before = len(world.commands())
    assert before >= 2
    assert world.last().state == "escalated"
    world.run(World.now + 318 - world.now)
    assert len(world.commands()) == before
    world.run(60)
    assert len(world.commands()) > before


def test_a_word_that_was_asked_for_before_is_obeyed_within_the_window() -> None:
    world = during(1, 6, approval=("restart",))
    del world.beating["ingest"]
    world.run(30)
    assert (world.commands(), world.last().awaiting) == ([], "restart")
    world.tick(Approval(world.last().id, True, 0, "operator:lk_1"))
    assert world.orders() == [("restart", "instance:ingest")]


@pytest.mark.parametrize(("name", "value", "field", "read"), [
    ("DRY_RUN", "true", "dry_run", True), ("DRY_RUN", "False", "dry_run", False), ("DRY_RUN", "1", "dry_run", True),
    ("DRY_RUN", '["restart", "drain"]', "dry_run", ("restart", "drain")), ("DRY_RUN", "[]", "dry_run", ()),
    ("MAINTENANCE", '[{"from": "22:30", "to": "01:00"}]', "maintenance", ((1350, 60),)),
    ("MAINTENANCE", "[]", "maintenance", ())])
def test_the_installation_says_so_in_its_settings(
        monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, read: object) -> None:
    monkeypatch.setenv(f"LEPTON_WATCHDOG_{name}", value)
    assert getattr(_thresholds(load(WatchdogSettings)), field) == read


@pytest.mark.parametrize(("name", "value", "why"), [
    ("DRY_RUN", '["restrat"]', f"there are drain, restart, scale_in, {', '.join(get_args(Action)[:2])}"),
    ("DRY_RUN", "restart", "neither true nor false nor JSON"), ("DRY_RUN", '["restart"', "neither true nor false"),
    ("DRY_RUN", '["cancel"]', "there are drain"), ("DRY_RUN", '{"restart": true}', "neither true nor false"),
    ("MAINTENANCE", "22:30-01:00", "should be a valid list"), ("MAINTENANCE", '[{"from": "22:30"}]', "Field required"),
    ("MAINTENANCE", '[{"from": "22:30", "to": "24:00"}]', "should match pattern"),
    ("MAINTENANCE", '[{"from": "22:30", "to": "01:00", "days": 2}]', "Extra inputs"),
    ("MAINTENANCE", '[{"from": "22:30", "to": "22:30"}]', "has no length; of a whole day are two")])
def test_what_makes_no_sense_there_is_refused_at_start_with_the_remedy(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, why: str) -> None:
    monkeypatch.setenv(f"LEPTON_WATCHDOG_{name}", value)
    with pytest.raises(SystemExit) as stopped:
        load(WatchdogSettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert line.startswith(f"watchdog: LEPTON_WATCHDOG_{name}: ")
    assert why in line
    assert f"remedy: set LEPTON_WATCHDOG_{name} to a fitting value or unset it (" in line


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
