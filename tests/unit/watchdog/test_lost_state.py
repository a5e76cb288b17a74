"""A model's file that is lost comes back from a backup; what else is lost is proposed to a person."""

import asyncio

import pytest

from lepton.clock import FakeClock
from lepton.contracts import names
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from lepton.store.memory import MemoryDatabase
from services.watchdog.core.inputs import Answered, Approval, Figures, Rules, Thresholds, Unusable
from services.watchdog.flow import translate
from services.watchdog.flow.keeping import AGAIN_S, EVERY_S, Keeping
from tests.harness.wait import apoll_until
from tests.unit.watchdog.world import RULES, World, model

DIGEST = "ab" * 32
BACKUP = "shop-20260504T021700Z.lepton-backup"


def kept(world: World, name: str = BACKUP) -> None:
    """An actuator says that there is a backup."""
    world.tick(Figures("actuator", "actuator", "boot", ((names.BACKUP_AGE_HOURS, name, 2.5),)))


def lose(world: World, version: int = 2) -> None:
    """A predictor says that the champion's file is nowhere whole; it does for as long as it lasts."""
    world.tick(Unusable("predictor-0", "phishing", version, refused="the model file is not in the store", lost=DIGEST))


@pytest.fixture
def world() -> World:
    return began(RULES)


def began(rules: Rules, thresholds: Thresholds | None = None, previous: int = 1) -> World:
    world = World(thresholds or Thresholds(own="watchdog")).healthy()
    world.tick(rules, model(2, previous=previous))
    return world


def test_a_lost_file_is_put_back_from_the_backup_and_the_model_stays(world: World) -> None:
    kept(world)
    lose(world)
    (command,) = world.commands()
    assert (command.action, command.target, command.cause) == (
        "restore_backup", "model:phishing", "dependency:store/phishing")
    assert (command.arguments, command.valid_s) == ({"sha256": DIGEST}, 120.0)
    assert "dependency" in next(note.detail for note in world.last().timeline if note.what == "diagnosed")
    world.tick(Answered(command.command_id, "done", f"it is back, from {BACKUP}"))
    world.run(4)
    assert (world.last().state, world.last().verdict) == ("verified", "the signal is quiet")
    assert f"it is back, from {BACKUP}" in {note.detail for note in world.last().timeline}
    assert len(world.commands()) == 1


def test_without_a_backup_the_version_before_takes_over_at_once(world: World) -> None:
    lose(world)
    assert world.orders() == [("roll_back", "model:phishing")]
    world.tick(model(1, revision=3))
    world.run(4)
    assert world.last().state == "verified"


def test_where_no_backup_has_it_and_nothing_went_before_it_is_learnt_anew() -> None:
    world = began(RULES, previous=0)
    kept(world)
    lose(world)
    world.tick(Answered(world.commands()[0].command_id, "refused", "none of 3 backups has the file whole"))
    assert [action for action, _ in world.orders()] == ["restore_backup", "retrain"]
    assert world.commands()[1].arguments == {}


def test_it_waits_for_a_person_where_the_pipeline_says_so() -> None:
    world = began(Rules("phishing", approval=("restore_backup",)))
    kept(world)
    lose(world)
    assert (world.commands(), world.last().awaiting) == ([], "restore_backup")
    world.tick(Approval(world.last().id, True, 0, "ada"))
    assert [action for action, _ in world.orders()] == ["restore_backup"]


def test_a_model_that_fails_its_signature_is_another_incident(world: World) -> None:
    kept(world)
    world.tick(Unusable("predictor-0", "phishing", 2, refused="the signature does not hold"))
    assert (world.last().symptom, world.orders()) == ("unusable_model", [("roll_back", "model:phishing")])


def gone(world: World, count: float, collection: str = "models", for_s: float = 20.0) -> None:
    for _ in range(round(for_s / AGAIN_S)):
        world.tick(Figures("watchdog", "watchdog", "boot", ((names.LOST_DOCUMENTS, collection, count),)))
        world.run(AGAIN_S)


@pytest.mark.parametrize(("backup", "told"), [(BACKUP, f"the newest backup is {BACKUP}, 2.5 h old"),
                                              ("", "no backup is known")])
def test_documents_that_are_gone_are_told_with_the_backup_to_bring_back(
        world: World, backup: str, told: str) -> None:
    if backup:
        kept(world, backup)
    gone(world, 2)
    incident = world.last()
    assert (incident.symptom, incident.cause, incident.state) == (
        "lost_state", "dependency:database/state", "escalated")
    assert "2 of the models are not in the database" in incident.timeline[0].detail
    assert told in incident.timeline[0].detail
    assert told in world.decisions[-1].alert
    assert world.commands() == []
    gone(world, 0)
    assert world.last().state == "verified"


def test_a_document_that_is_late_is_not_lost(world: World) -> None:
    gone(world, 1, for_s=AGAIN_S)
    gone(world, 0)
    assert world.decisions == []


def test_heartbeats_say_which_file_is_lost_and_which_backup_there_is() -> None:
    message = Telemetry(instance="predictor-0", service="predictor")
    message.measurements.add(name=names.REFUSED_VERSION, value=5,
                             attributes={"model": "m", "reason": "gone", "lost": DIGEST})
    message.measurements.add(name=names.BACKUP_AGE_HOURS, value=1.26, attributes={"backup": BACKUP})
    assert list(translate.unusable(message)) == [Unusable("predictor-0", "m", 5, refused="gone", lost=DIGEST)]
    assert translate.readings(message) == {(names.BACKUP_AGE_HOURS, BACKUP): 1.3}


async def test_the_database_is_asked_for_what_was_announced() -> None:
    database, clock, stop, said = MemoryDatabase(), FakeClock(), asyncio.Event(), list[tuple[str, int]]()
    await database.collection("models").put({"_id": "kept"})
    keeping = Keeping(lambda: {"models": {"kept", "lost"}, "pipelines": ()}, database,
                      lambda name, gone: said.append((name, gone)), clock)
    running = asyncio.create_task(keeping.run(stop))

    async def looked() -> bool:
        await clock.advance(EVERY_S)
        return len(said) >= 2
    await apoll_until(looked, "a look at the database")
    stop.set()
    await running
    assert said[:2] == [("models", 1), ("pipelines", 0)]


async def test_what_is_stored_is_looked_for_seldom_and_often_only_while_something_is_gone() -> None:
    database, clock, stop, said = MemoryDatabase(), FakeClock(), asyncio.Event(), list[int]()
    models = database.collection("models")
    await models.put({"_id": "kept"})
    keeping = Keeping(lambda: {"models": {"kept"}}, database, lambda _, gone: said.append(gone), clock)
    running = asyncio.create_task(keeping.run(stop))

    async def time(seconds: float) -> None:
        for _ in range(round(seconds)):
            await clock.advance(1.0)
    await time(AGAIN_S + 5 * EVERY_S)
    assert 2 <= len(said) <= 6
    await models.delete({"_id": "kept"})
    await time(2 * EVERY_S)
    assert said.count(1) >= EVERY_S / AGAIN_S / 2
    await models.put({"_id": "kept"})
    await time(3 * AGAIN_S)
    assert said[-1] == 0
    looks = len(said)
    await time(2 * EVERY_S)
    assert looks + 1 <= len(said) <= looks + 3
    stop.set()
    await running
