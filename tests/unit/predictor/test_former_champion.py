"""A champion before that cannot be loaded any more is told of, and hinders neither what answers nor what is tried."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import sign_manifest
from tests.harness.onnx_models import Linear
from tests.harness.registry import trainer
from tests.harness.wait import apoll_until
from tests.unit.predictor.held import held
from tests.unit.predictor.world import world

ONE = {"amount": "float"}
LOST = Linear(ONE, bias=1.0)


def lost(state: models_pb2.ModelState, _: Path) -> None:
    state.versions[0].manifest.sha256 = "0" * 64


def by_a_retired_key(state: models_pb2.ModelState, home: Path) -> None:
    sign_manifest(trainer(home, "retired", trusted=False), state.versions[0])


def of_operators_not_allowed(state: models_pb2.ModelState, _: Path) -> None:
    state.versions[0].manifest.operators.remove("ai.onnx::Concat")


@pytest.mark.parametrize("damage", [lost, by_a_retired_key, of_operators_not_allowed])
async def test_the_candidate_is_tried_all_the_same(
        tmp_path: Path, damage: Callable[[models_pb2.ModelState, Path], None]) -> None:
    async with held(tmp_path) as here:
        for version in (1, 2, 3):
            await here.registry.publish("tiny", Linear(ONE, bias=float(version)))
        state = here.tried(champion=2, share=0.5)
        damage(state, tmp_path)
        if damage is not by_a_retired_key:
            sign_manifest(here.registry.identity, state.versions[0])
        await here.library.adopt(await here.registry.announce(state))
        trial = here.library.trial("tiny")
        assert trial is not None and trial.open
        assert (here.library.serving("tiny"), here.library.resident("tiny")) == (2, [2, 3])
        assert here.library.refused() == []
        error = here.library.unkept("tiny")
        # With its frames it would hold the file for as long as the model stands.
        assert error is not None and error.__traceback__ is None and error.__context__ is None


async def test_it_is_told_once_and_kept_when_its_file_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.registry.publish("tiny", LOST, store=False)
        await here.registry.publish("tiny", Linear(ONE, bias=2.0))
        await here.serving("tiny", 2)
        await here.metric('lepton_errors_total{kind="model_not_kept"} 1.0')
        await here.registry.artifacts.put(LOST.build())

        async def kept() -> bool:
            index = await here.stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=here.metadata)
            return [one.version for one in index.models] == ["1", "2"]

        await apoll_until(kept, "the champion before to be in memory")
        assert 'lepton_errors_total{kind="model_not_kept"} 1.0' in here.metrics()
        assert 'kind="model_refused"' not in here.metrics()
