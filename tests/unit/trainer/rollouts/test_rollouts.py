"""A Pipeline's candidates are tried before they answer alone: begun, moved on, promoted and left, across restarts."""

import pytest

from lepton.contracts.pb import models_pb2, training_pb2
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.pb.telemetry_pb2 import Instance, ServedArm
from lepton.store.runs import run_id_of
from services.trainer.flow.rollouts import Rollouts
from tests.unit.trainer.world import SPEC, World, command, state_of

CANARY = SPEC + ("serve: {rollout: canary, trial: {shares: [0.1, 0.5], step_s: 60, min_answers: 100, limit_s: 3600}}\n")
SHADOW = SPEC + "serve: {rollout: shadow, trial: {step_s: 60, min_answers: 100}}\n"


TERMS = models_pb2.RolloutTerms(shares=[0.1, 0.5], step_s=60, min_answers=100, max_failures=0.005, max_slower=1.5,
                                min_agreement=0.8, significance=0.05, limit_s=3600)
CANARY_ROLLOUT = models_pb2.Rollout(strategy=models_pb2.ROLLOUT_STRATEGY_CANARY, terms=TERMS)
SHADOW_ROLLOUT = models_pb2.Rollout(strategy=models_pb2.ROLLOUT_STRATEGY_SHADOW, terms=TERMS)


async def trained(world: World, spec: str) -> ModelState:
    """Version 1 answers, version 2 passed its gate."""
    world.pipelines["tumours"] = state_of(spec)
    await world.rows(0, 150)
    await world.train("c1")
    assert await world.champion() == 1
    run = await world.train("c2", parameters_json='{"epochs": 12}')
    assert run.progress.state == training_pb2.RUN_STATE_SUCCEEDED
    return await state(world)


async def tried(world: World, rollout: models_pb2.Rollout = CANARY_ROLLOUT) -> ModelState:
    """The same, as the registry has it, without the training."""
    await publish(world, 1, rollout)
    return await publish(world, 2, rollout)


async def publish(world: World, number: int, rollout: models_pb2.Rollout, inputs: int = 1) -> ModelState:
    version = models_pb2.ModelVersion(model="tumours", version=number, status=models_pb2.VERSION_STATUS_READY)
    version.manifest.MergeFrom(models_pb2.ModelManifest(
        model="tumours", version=number, sha256=f"{number}" * 64, task=models_pb2.MODEL_TASK_CLASSIFICATION,
        inputs=[models_pb2.TensorSpec(name=f"f{place}", datatype="FP64", shape=[-1]) for place in range(inputs)]))
    version.manifest.lineage.run_id = f"run-{number}"
    return await world.stores.models.publish("tumours", version, True, number, rollout=rollout)


async def state(world: World) -> ModelState:
    return await world.stores.models.state("tumours")


def rollouts(world: World) -> Rollouts:
    return Rollouts(world.stores, world.tell, world.clock)


async def tell(to: Rollouts, now: ModelState, *, failed: int = 0, answered: int = 200, boot: str = "a",
               compared: int = 0, refused: str = "") -> None:
    """A predictor tells of both versions: the champion does well."""
    instance = Instance(instance="predictor-0", boot_id=boot)
    since = now.rollout.since
    instance.models.add(model="tumours", version=1, revision=now.revision, arms=[
        ServedArm(version=1, since=since, answered=2000, runs=[2000]),
        ServedArm(version=2, since=since, answered=answered, failed=failed, runs=[answered], compared=compared,
                  agreed=compared, refused=refused)])
    await to.heard("predictor-0", instance)


async def test_a_pipeline_s_candidate_is_tried_step_by_step_and_then_answers_alone(world: World) -> None:
    begun = await trained(world, CANARY)
    assert (begun.champion, begun.rollout.candidate, begun.rollout.share) == (1, 2, 0.1)
    assert begun.rollout.since == begun.revision and begun.reason == "rollout"
    judge = rollouts(world)
    await tell(judge, begun)
    await judge.look()
    assert (await state(world)).revision == begun.revision
    await world.clock.advance(61)
    await judge.look()
    second = await state(world)
    assert (second.champion, second.rollout.step, second.rollout.share) == (1, 1, 0.5)
    await world.clock.advance(61)
    await judge.look()
    assert (await state(world)).rollout.step == 1, "what was told of the step before counts no more"
    await tell(judge, second)
    await judge.look()
    over = await state(world)
    assert (over.champion, over.previous_champion, over.rollout.state) \
        == (2, 1, models_pb2.ROLLOUT_STATE_PROMOTED)
    assert (over.champions[-1].reason, over.champions[-1].by) == ("rolled_out", "trainer")
    assert "0 of 200 of runs failed" in over.champions[-1].note


@pytest.mark.parametrize("bad", [{"failed": 40}, {"refused": "the file was changed"}])
async def test_a_bad_candidate_is_left_by_itself(world: World, bad: dict[str, int]) -> None:
    judge = rollouts(world)
    await tell(judge, await tried(world), **bad)  # type: ignore[arg-type]  # by name
    await judge.look()
    over = await state(world)
    assert (over.champion, over.rollout.state, over.rollout.by) == (1, models_pb2.ROLLOUT_STATE_REVERTED, "trainer")
    assert over.versions[1].status == models_pb2.VERSION_STATUS_ROLLED_BACK
    assert over.rollout.note.startswith(("it fails more often", "it cannot be served"))


async def test_a_shadow_is_promoted_when_it_agrees(world: World) -> None:
    begun = await tried(world, SHADOW_ROLLOUT)
    assert (begun.rollout.share, begun.rollout.strategy) == (0.0, models_pb2.ROLLOUT_STRATEGY_SHADOW)
    judge = rollouts(world)
    await tell(judge, begun, compared=150)
    await world.clock.advance(61)
    await judge.look()
    assert await world.champion() == 2


async def test_a_trainer_that_comes_back_goes_on_and_boots_of_a_predictor_add_up(world: World) -> None:
    begun = await tried(world)
    await tell(rollouts(world), begun)
    await world.clock.advance(61)
    later = rollouts(world)
    await later.look()
    assert (await state(world)).rollout.step == 0
    for boot in ("a", "b"):
        await tell(later, begun, answered=60, boot=boot)
    await later.heard("predictor-0", None)
    await later.look()
    assert (await state(world)).rollout.step == 1


async def test_a_step_nobody_asked_anything_in_ends_undecided(world: World) -> None:
    await tried(world)
    await world.clock.advance(3601)
    await rollouts(world).look()
    over = await state(world)
    assert (over.champion, over.rollout.state) == (1, models_pb2.ROLLOUT_STATE_UNDECIDED)
    assert over.versions[1].status == models_pb2.VERSION_STATUS_READY


async def test_while_one_is_tried_the_next_is_only_kept(world: World) -> None:
    begun = await tried(world)
    now = await publish(world, 3, CANARY_ROLLOUT)
    assert (now.champion, now.rollout, len(now.versions)) == (1, begun.rollout, 3)


async def test_a_candidate_that_takes_other_tensors_answers_at_once(world: World) -> None:
    await publish(world, 1, CANARY_ROLLOUT)
    now = await publish(world, 2, CANARY_ROLLOUT, inputs=2)
    assert (now.champion, now.HasField("rollout")) == (2, False)


async def test_what_is_trained_to_heal_answers_at_once(world: World) -> None:
    await trained(world, SHADOW)
    await world.train("c3", parameters_json='{"epochs": 9}', reason="recovery")
    now = await state(world)
    assert (now.champion, now.rollout.state) == (3, models_pb2.ROLLOUT_STATE_ABORTED)


async def test_one_command_ends_it_either_way(world: World) -> None:
    await tried(world)
    abort = command("a1", kind=training_pb2.TRAINING_KIND_ABORT_ROLLOUT, issuer="lk_1", note="sales are nervous")
    await world.requests.receive(abort)
    over = await state(world)
    assert (over.champion, over.rollout.state, over.rollout.by, over.rollout.note) \
        == (1, models_pb2.ROLLOUT_STATE_ABORTED, "lk_1", "sales are nervous")
    abort.command_id = "a2"
    await world.requests.receive(abort)
    refused = (await world.stores.runs.get(run_id_of("a2"))).progress
    assert (refused.state, "no candidate" in refused.failure.message) == (training_pb2.RUN_STATE_FAILED, True)
    await world.requests.receive(command("p1", kind=training_pb2.TRAINING_KIND_PROMOTE, parent_version=2))
    assert await world.champion() == 2


async def test_a_person_s_promotion_ends_it_and_a_roll_back_leaves_the_candidate(world: World) -> None:
    await tried(world)
    await world.requests.roll_back(RecoveryCommand(command_id="x", target="model:tumours", issuer="watchdog-0",
                                                   cause="quality fell", arguments={"from_version": "2"}))
    now = await state(world)
    assert (now.champion, now.rollout.state) == (1, models_pb2.ROLLOUT_STATE_REVERTED)
    assert (await publish(world, 3, CANARY_ROLLOUT)).rollout.candidate == 3
    await world.requests.receive(command("p1", kind=training_pb2.TRAINING_KIND_PROMOTE, parent_version=3))
    now = await state(world)
    assert (now.champion, now.rollout.state) == (3, models_pb2.ROLLOUT_STATE_PROMOTED)


async def test_a_candidate_that_is_tried_cannot_be_retired(world: World) -> None:
    await tried(world)
    await world.requests.receive(command("r1", kind=training_pb2.TRAINING_KIND_RETIRE, parent_version=2))
    assert "is tried" in (await world.stores.runs.get(run_id_of("r1"))).progress.failure.message
