"""An incident says when the first sign of it was, where its detector knows; stored, taken over, and lived again."""

import pytest

from lepton.contracts import names
from services.gateway.core.incidents import report
from services.gateway.core.incidents.course import actions, times
from services.watchdog.core.inputs import Answered, Figures, Incident
from services.watchdog.core.journal import replay
from services.watchdog.flow import translate
from tests.unit.watchdog.world import WALL_S, World


@pytest.fixture
def world() -> World:
    return World().healthy()


def test_silence_began_with_the_last_heartbeat_and_that_is_kept_and_replayed(world: World) -> None:
    heard = world.now - world.now % 0.5
    del world.beating["ingest"]
    world.run(4)
    incident = world.last()
    began = incident.began_s - WALL_S
    assert heard - 0.5 <= began <= heard + 0.5
    assert incident.opened_s - incident.began_s >= world.thresholds.silence_s
    back = translate.from_message(translate.to_message(incident))
    assert back.began_s == pytest.approx(incident.began_s, abs=0.001)
    assert list(replay(world.written())) == world.made


def test_a_level_began_when_it_came_to_its_limit(world: World) -> None:
    def say(value: float) -> Figures:
        return Figures("ingest", "ingest", "ingest-1", ((names.HOST_CPU_SHARE, "host-1", value),))

    began = None
    for _ in range(2000):
        made = world.tick(say(0.99))
        began = began if began is not None else world.now
        if made:
            break
    assert world.last().symptom == "cpu"
    assert world.last().began_s - WALL_S == pytest.approx(began)


def test_where_nobody_knows_nothing_is_said() -> None:
    assert not translate.to_message(Incident("inc-1", "drift", "data:shop", "pipeline:shop", "shop", "suspected",
                                             WALL_S)).HasField("began_at")


def test_the_gateway_reads_times_causes_and_actions_out_of_what_was_really_noted(world: World) -> None:
    del world.beating["ingest"]
    world.run(3.0)
    (command,) = world.commands()
    world.tick(Answered(command.command_id, "done", "started"))
    world.beating["ingest"] = "ingest-2"
    world.run(2)
    message = translate.to_message(world.last())
    took = times(message)
    assert None not in (took.detect_s, took.decide_s, took.heal_s)
    ((name, command_id, answered, outcome),) = [
        (one.name, one.command_id, one.answered, one.outcome) for one in actions(message)]
    assert (name, command_id, answered) == ("restart", command.command_id, "done: started; it hung")
    assert outcome.startswith("well again: ")
    text = report.written(message)
    assert "| process | " in text, "the ranking of causes became a table"
    assert "nothing was commanded" not in text and "not known" not in text
