"""Which cause is named first, with what evidence; and that nothing is blamed for what hangs on it."""

import pytest

from services.watchdog.core import symptom as kinds
from services.watchdog.core.calling.shipped import DEPENDS, MADE_OF
from services.watchdog.core.diagnosis.ranking import bears, ranked
from services.watchdog.core.diagnosis.tables import LIKELY, PART_OF
from services.watchdog.core.inputs import Announced, Incident
from services.watchdog.core.symptom import BUS, Symptom
from tests.unit.watchdog.world import RULES, World, labels, model

KINDS = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)} - {BUS}
LOSS = Symptom("quality_loss", "shop", "accuracy 0.6 instead of 0.9", "shop", version=2)
DRIFT = Symptom("drift", "shop", "drifted: x0", "shop")
UNUSUAL = Symptom("unusual_rows", "shop", "40% missing x", "shop")


@pytest.fixture
def world() -> World:
    return World().healthy()


def first(world: World, symptom: Symptom, *others: Symptom) -> str:
    return ranked(symptom, [symptom, *others], world.engine.state, world.now)[0].name


def test_every_kind_of_symptom_has_likely_causes_and_every_part_a_name() -> None:
    assert set(LIKELY) == KINDS
    assert set(PART_OF) <= KINDS
    assert all(0 < chance < 1 for classes in LIKELY.values() for chance in classes.values())
    graph = World().engine.state.graph
    assert all(not graph.hangs_on(part, part) and graph.below(part) for part in (*DEPENDS, *MADE_OF))


def test_lost_quality_alone_is_the_model_and_with_drift_of_its_fields_the_data(world: World) -> None:
    assert first(world, LOSS) == "parameters"
    assert first(world, LOSS, DRIFT) == "data"
    assert first(world, LOSS, DRIFT, UNUSUAL) == "data"


def test_a_version_that_came_just_now_is_blamed_before_the_data(world: World) -> None:
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    loss, drift = (Symptom(one.kind, "phishing", one.detail, "phishing", version=2) for one in (LOSS, DRIFT))
    causes = ranked(loss, [loss, drift], world.engine.state, world.now)
    assert causes[0].name == "parameters"
    assert "version 2 answers since" in causes[0].evidence[-1]
    world.run(400)
    assert first(world, loss, drift) == "data"


def test_other_pipelines_and_other_processes_say_nothing_of_it(world: World) -> None:
    assert first(world, LOSS, Symptom("drift", "kiln", "drifted", "kiln")) == "parameters"
    queue = Symptom("queue", "predictor-0", "2000 rows wait")
    assert not bears(Symptom("failures", "trainer", "many"), queue, world.engine.state)
    assert bears(Symptom("failures", "predictor-0", "many"), queue, world.engine.state)


def test_what_hangs_on_a_thing_says_nothing_of_it(world: World) -> None:
    assert not bears(LOSS, DRIFT, world.engine.state)
    assert bears(DRIFT, LOSS, world.engine.state)
    silence = Symptom("silence", "ingest", "no heartbeat")
    assert bears(silence, Symptom("no_rows", "shop", "none", "shop"), world.engine.state)
    assert not bears(Symptom("no_rows", "shop", "none", "shop"), silence, world.engine.state)


def test_a_full_machine_and_the_bus_bear_on_everything(world: World) -> None:
    slow = Symptom("latency", "shop", "slower", "shop")
    assert first(world, slow) == "surge"
    assert first(world, slow, Symptom("cpu", "box", "97% in use")) == "resources"
    assert bears(Symptom("silence", BUS, "nothing comes back"), slow, world.engine.state)


def test_confidences_sum_to_one_and_evidence_is_told(world: World) -> None:
    causes = ranked(LOSS, [LOSS, DRIFT], world.engine.state, world.now)
    assert sum(one.confidence for one in causes) == pytest.approx(1)
    assert causes == sorted(causes, key=lambda one: -one.confidence)
    assert "drifted: x0" in causes[0].evidence[1]


def test_an_incident_says_how_it_was_diagnosed(world: World) -> None:
    world.tick(RULES, model(1))
    world.tick(*labels(1, 0, 80))
    incident: Incident = world.decisions[0].incident
    assert [note.what for note in incident.timeline] == ["opened", "diagnosed"]
    assert incident.timeline[1].detail.startswith("parameters 60%")


def test_a_process_nobody_knows_yet_is_ranked_too(world: World) -> None:
    world.tick(Announced("new-0", "predictor", "ready"))
    assert first(world, Symptom("silence", "new-0", "no heartbeat")) == "process"
