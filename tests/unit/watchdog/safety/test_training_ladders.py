"""When parameters are blamed for what a model or its runs do wrong, and which training is tried then."""

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from lepton.contracts.modelling.healing import Training
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryAction
from lepton.contracts.pb.training_pb2 import RunFailure, TrainingProgress
from lepton.contracts.pipeline import InvalidPipeline, from_json, parse
from services.gateway.edge.recovery import EXECUTORS
from services.watchdog.core.diagnosis.training import at_fault
from services.watchdog.core.inputs import Answered, RunEnded
from services.watchdog.core.journal import replay
from services.watchdog.core.thresholds.limits import Ladders
from services.watchdog.edge.recovery import ACTIONS
from services.watchdog.flow import translate
from tests.unit.watchdog.world import RULES, World, labels, model

DIVERGED = "training diverged in epoch 2: the loss is nan"


def lost(ladders: Ladders | None = None, previous: int = 0) -> World:
    """The champion, version 2, answers worse than at its publication."""
    world = World().healthy()
    world.tick(replace(RULES, ladders=ladders or Ladders()), model(1))
    world.tick(model(2, previous=previous))
    world.tick(*labels(2, 0, 80))
    return world


def actions(world: World) -> list[str]:
    return [action for action, _ in world.orders()]


def end(world: World, state: str, learnt: int = 0, **failure: str) -> None:
    """The run that was commanded last ends, and the cool-down passes."""
    why = failure.pop("why", "accuracy 0.5 is below 0.7")
    world.tick(RunEnded("phishing", f"run-{len(world.commands())}", state, why,
                        f"recovery-{world.commands()[-1].command_id}", rows=learnt, reason="recovery", **failure))
    world.run(RULES.cool_down_s + 2)


def diverged(world: World, reason: str = "rows") -> None:
    world.tick(RunEnded("phishing", "run-0", "failed", DIVERGED, "rows-phishing-1-3", "parameter",
                        "exploding_gradients", reason=reason))
    world.run(1)


def notes(world: World, what: str) -> list[str]:
    return [note.detail for note in world.last().timeline if note.what == what]


def test_a_candidate_kept_out_with_fresh_rows_is_the_parameters_fault_and_a_tune_follows_at_once() -> None:
    world = lost()
    end(world, "rejected", learnt=200)
    assert actions(world) == ["retrain", "tune"]
    tune = world.commands()[-1]
    assert (tune.target, tune.arguments["seconds"], tune.valid_s) == ("model:phishing", "240", 600)
    assert int(tune.arguments["max_rows"]) >= 50
    assert "parameters: run run-1 was rejected" in notes(world, "diagnosed")[-1]
    world.tick(Answered(tune.command_id, "done"), model(3, previous=2, revision=4))
    world.tick(*labels(3, 75, 5))
    assert world.last().state == "verified"
    assert list(replay(world.written())) == world.made


def test_few_rows_say_nothing_of_parameters_and_the_retraining_is_repeated_with_more() -> None:
    world = lost()
    end(world, "rejected", learnt=199)
    assert actions(world) == ["retrain", "retrain"]


def test_while_the_data_is_not_as_usual_no_parameter_is_blamed_for_a_candidate_that_was_kept_out() -> None:
    world = lost()
    incident, state = world.last(), world.engine.state
    world.tick(RunEnded("phishing", "run-1", "rejected", "why", f"recovery-{incident.command_ids[0]}", rows=500))
    assert at_fault(incident, state)
    for cause in ("data:phishing", "data:phishing/sensor"):
        state.standing = frozenset({("drift", cause)})
        assert at_fault(incident, state) == ""
    state.standing = frozenset({("drift", "data:other")})
    assert at_fault(incident, state)


def test_every_training_of_a_ladder_has_its_command_and_its_executor() -> None:
    for action in get_args(Training):
        assert RecoveryAction.Name(ACTIONS[action]) == f"RECOVERY_ACTION_{action.upper()}"
        assert EXECUTORS[action.upper()] == "trainer"


def test_after_retrainings_that_learnt_nothing_better_the_tune_is_the_last() -> None:
    world = lost(previous=1)
    world.tick(Answered(world.commands()[0].command_id, "refused"))
    for _ in range(3):
        end(world, "rejected", learnt=100)
    assert actions(world) == ["roll_back", "retrain", "retrain", "tune"]
    assert notes(world, "diagnosed")[1:] == []
    end(world, "rejected", learnt=1000)
    assert (actions(world)[4:], world.last().state) == ([], "escalated")


def test_a_tune_that_found_nothing_is_not_repeated_though_parameters_are_to_blame() -> None:
    world = lost(Ladders(quality_loss=("retrain", "fine_tune", "tune", "retrain")))
    end(world, "rejected", learnt=300)
    end(world, "failed", why="none", failure="parameter", name="search_without_result")
    assert actions(world) == ["retrain", "tune", "retrain"]
    end(world, "rejected", learnt=300)
    assert world.last().state == "escalated"


def test_a_retraining_that_diverged_is_followed_by_a_tune_and_is_no_incident_of_its_own() -> None:
    world = lost()
    end(world, "failed", why=DIVERGED, failure="parameter", name="nan_loss")
    assert actions(world) == ["retrain", "tune"]
    assert {decision.incident.symptom for decision in world.decisions} == {"quality_loss"}


def test_a_fine_tune_that_is_refused_gives_way_to_the_next_step_at_once() -> None:
    world = World().healthy()
    told = Ladders(quality_loss=("fine_tune", "retrain"))
    world.tick(replace(RULES, ladders=told), model(1))
    world.tick(*labels(1, 0, 80))
    world.tick(Answered(world.commands()[0].command_id, "refused", "no champion to fine-tune"))
    world.run(1)
    assert actions(world) == ["fine_tune", "retrain"]


def test_a_run_that_diverged_is_tuned_and_the_version_proves_it() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    diverged(world)
    assert world.orders() == [("tune", "model:phishing")]
    (tune,) = world.commands()
    assert tune.arguments == {"seconds": "240"}
    first = notes(world, "diagnosed")[0]
    assert first.startswith("parameters") and "the trainer says parameter: exploding_gradients" in first
    world.tick(RunEnded("phishing", "run-9", "succeeded", command_id=f"recovery-{tune.command_id}"))
    assert (world.last().state, world.last().verdict) == ("verified", "run run-9 succeeded")


def test_a_tune_whose_candidate_is_kept_out_is_left_to_a_person_until_a_run_succeeds() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    diverged(world)
    end(world, "rejected", learnt=500)
    assert (actions(world), world.last().state) == (["tune"], "escalated")
    world.tick(RunEnded("phishing", "run-9", "rejected", "no better", "rows-phishing-1-4"))
    assert world.last().state == "verified"


@pytest.mark.parametrize(("failure", "name"), [("data", "one_class"), ("resource", "out_of_memory"),
                                               ("parameter", "unfit_parameter"), ("internal", "internal_error"),
                                               ("parameter", "exploding_gradients")])
def test_what_no_other_parameter_mends_and_what_a_person_asked_for_is_a_persons(failure: str, name: str) -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(RunEnded("phishing", "run-0", "failed", "why", "r", failure, name,
                        reason="command" if name == "exploding_gradients" else "rows"))
    world.run(1)
    assert (world.commands(), world.last().state) == ([], "escalated")


def test_a_person_may_forbid_a_tune_or_have_a_word_in_it() -> None:
    for rules, told in ((replace(RULES, dry_run=("tune",)), "dry run: tune of model:phishing was not commanded"),
                        (replace(RULES, approval=("tune",)), "tune waits for a person's word")):
        world = World().healthy()
        world.tick(rules, model(1))
        diverged(world)
        assert (world.commands(), world.last().state, world.last().verdict) == ([], "escalated", told)


def test_why_a_run_ended_reaches_the_watchdog() -> None:
    ended = TrainingProgress(model="m", run_id="r", state=training_pb2.RUN_STATE_FAILED, command_id="c", rows=7,
                             reason="rows", failure=RunFailure(
                                 failure_class=training_pb2.FAILURE_CLASS_PARAMETER, message="why", name="nan_loss"))
    assert translate.run_ended(ended) == RunEnded("m", "r", "failed", "why", "c", "parameter", "nan_loss", 7,
                                                   "rows")
    ended.failure.failure_class = training_pb2.FAILURE_CLASS_UNSPECIFIED
    found = translate.run_ended(ended)
    assert found is not None and found.failure == ""


PIPELINE = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {fields: {x: {type: float}}}
heal:
  dry_run: [tune]
  approval: [fine_tune]
  ladders: {LADDER}
"""


@pytest.mark.parametrize("symptom", ["quality_loss", "estimated_loss", "poor_feedback", "drift", "lost_file",
                                     "training_failure"])
def test_every_ladder_that_takes_a_training_takes_each(symptom: str) -> None:
    spec = parse(PIPELINE.replace("LADDER", f"{symptom}: [fine_tune, tune, retrain]"))
    told: Any = translate.rules(from_json(spec.canonical_json()))
    assert getattr(told.ladders, symptom) == ("fine_tune", "tune", "retrain")
    assert (told.dry_run, told.approval) == (("tune",), ("fine_tune",))
    with pytest.raises(InvalidPipeline):
        parse(PIPELINE.replace("LADDER", f"{symptom}: [tuning]"))
