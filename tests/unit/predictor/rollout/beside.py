"""How a test has a candidate tried: the state that the registry would announce, and what the predictor tells of it."""

from datetime import UTC, datetime

from lepton.contracts import codec
from lepton.contracts.pb import models_pb2, telemetry_pb2
from lepton.contracts.signing import sign_manifest
from lepton.contracts.topics import Topic
from tests.harness.bus import read_all
from tests.harness.onnx_models import Linear
from tests.harness.wait import apoll_until
from tests.unit.predictor.world import World

CANARY, SHADOW = models_pb2.ROLLOUT_STRATEGY_CANARY, models_pb2.ROLLOUT_STRATEGY_SHADOW
ONE = {"amount": "float"}
CHAMPION = Linear(ONE, bias=1.0)


async def try_beside(here: World, candidate: Linear, share: float = 0.3, model: str = "tiny") -> models_pb2.ModelState:
    """Have version 2 tried beside version 1, in the shadow when `share` is 0; returns once the predictor does."""
    data, state = candidate.build(), here.registry.state(model)
    version = models_pb2.ModelVersion(model=model, version=2, status=models_pb2.VERSION_STATUS_READY,
                                      manifest=candidate.manifest(data, model, 2))
    version.manifest.created_at.FromDatetime(datetime.now(UTC))
    sign_manifest(here.registry.identity, version)
    await here.registry.artifacts.put(data)
    state.versions.append(version)
    state.rollout.CopyFrom(models_pb2.Rollout(
        candidate=2, champion=1, strategy=CANARY if share else SHADOW, state=models_pb2.ROLLOUT_STATE_RUNNING,
        share=share, since=state.revision + 1))
    announced = await here.registry.announce(state)
    await arms(here, announced.rollout.since, model)
    return announced


async def end(here: World, verdict: models_pb2.RolloutState.ValueType, model: str = "tiny") -> None:
    """The registry ends the rollout; the candidate is champion when it is promoted."""
    state = here.registry.state(model)
    state.rollout.state = verdict
    if verdict == models_pb2.ROLLOUT_STATE_PROMOTED:
        state.previous_champion, state.champion = state.champion, state.rollout.candidate
    await here.registry.announce(state)


async def arms(here: World, since: int, model: str = "tiny", answered: int = 0,
               compared: int = 0) -> tuple[telemetry_pb2.ServedArm, telemetry_pb2.ServedArm]:
    """What the predictor last told of both versions in the step, once it is so much; the champion's first."""
    told: list[telemetry_pb2.ServedArm] = []

    async def probe() -> bool:
        for record in await read_all(here.broker, Topic.INSTANCES):
            instance = codec.decode_as(Topic.INSTANCES, telemetry_pb2.Instance, record.value or b"")
            told[:] = [arm for one in instance.models if one.model == model for arm in one.arms if arm.since == since]
        return (len(told) == 2 and told[0].answered + told[1].answered >= answered
                and told[1].compared >= compared)

    await apoll_until(probe, f"what is told of {model}: {told}", 20)
    return told[0], told[1]
