"""A version that cannot be loaded, or answers what is no number, is left for the one before it."""

import pytest

from lepton.contracts import names
from lepton.contracts.pb.telemetry_pb2 import Telemetry
from services.watchdog.core.inputs import Answered, Unusable
from services.watchdog.flow import translate
from tests.unit.watchdog.world import RULES, World, model


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(model(2, previous=1))
    return world


def complain(world: World, version: int, *, rows: int = 0, refused: str = "") -> None:
    world.tick(Unusable("predictor-0", "phishing", version, rows, refused))


@pytest.mark.parametrize("how", [{"rows": 12}, {"refused": "the model file was changed since it was signed"}])
def test_it_is_rolled_back_and_verified_once_nobody_complains_any_more(world: World, how: dict[str, object]) -> None:
    complain(world, 2, **how)  # type: ignore[arg-type]
    (command,) = world.commands()
    assert (command.action, command.target, command.cause) == ("roll_back", "model:phishing", "model:phishing")
    assert command.arguments == {"from_version": "2"}
    world.tick(Answered(command.command_id, "done"), model(1, revision=3))
    assert world.last().state == "commanded"
    world.run(3)
    assert (world.last().state, world.last().verdict) == ("verified", "version 1 answers")
    assert len(world.commands()) == 1


def test_a_few_rows_and_versions_that_are_no_champion_are_left_alone(world: World) -> None:
    complain(world, 2, rows=9)
    complain(world, 1, rows=500)
    complain(world, 3, refused="the signature does not hold")
    world.run(70)
    assert world.decisions == []


def test_where_the_one_before_is_no_better_the_model_is_learnt_anew_from_all_that_is_known(world: World) -> None:
    complain(world, 2, rows=12)
    world.tick(model(1, revision=3))
    complain(world, 1, rows=12)
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]
    assert world.commands()[1].arguments == {}


def test_a_refused_roll_back_is_followed_by_a_retraining(world: World) -> None:
    complain(world, 2, refused="the file is not the one that was signed")
    world.tick(Answered(world.commands()[0].command_id, "refused", "no version before"))
    assert [action for action, _ in world.orders()] == ["roll_back", "retrain"]


def test_heartbeats_say_which_version_it_is() -> None:
    message = Telemetry(instance="predictor-0", service="predictor")
    message.measurements.add(name=names.UNSOUND_ROWS, value=3, attributes={"model": "m", "version": "4"})
    message.measurements.add(name=names.REFUSED_VERSION, value=5, attributes={"model": "m", "reason": "damaged"})
    assert list(translate.unusable(message)) == [
        Unusable("predictor-0", "m", 4, rows=3), Unusable("predictor-0", "m", 5, refused="damaged")]
