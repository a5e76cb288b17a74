"""A torch module of somebody's own is a family like others, once the trainer may import it, and never before."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from torch import nn

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb.training_pb2 import RUN_STATE_FAILED, RUN_STATE_SUCCEEDED
from lepton.contracts.pipeline import InvalidPipeline, parse
from services.trainer.core.failure import RunFailed
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan, check_module
from services.trainer.settings import TrainerSettings
from tests.unit.trainer import samples
from tests.unit.trainer.families.planned import example
from tests.unit.trainer.world import SPEC, World, state_of

WIDE = "examples.own_module.network:WideAndDeep"
HERE = __name__


class Branching(nn.Module):
    """Answers by what the values are, in Python."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.layer(rows)
        return said if float(rows.abs().sum()) == 0 else -said


class Wary(nn.Module):
    """Turns round at numbers that no ordinary row has, which whoever wrote it down once never saw."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.layer(rows)
        return -said if float(rows.abs().max()) > 15.0 else said


class Narrow(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs + 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.layer(rows)
        return said


class Unsayable(nn.Module):
    """Uses what no ONNX operator says."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = torch.special.bessel_j0(self.layer(rows))
        return said


class Recurrent(nn.Module):
    """A layer of torch that ONNX has as one operator."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, outputs, batch_first=True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.layer(rows[:, None, :])[0][:, 0]
        return said


def number(width: int, outputs: int) -> int:
    return width + outputs


def wine(module: str, epochs: int = 30) -> tuple[Plan, pa.Table]:
    return samples.wine(family="torch_module", parameters=Parameters(module=module, epochs=epochs, learning_rate=0.02))


def test_it_learns_and_answers_the_same_from_the_file_each_time() -> None:
    plan, rows = wine(WIDE)
    first, again = learn(plan, Given(rows), []), learn(plan, Given(rows), [])
    assert first.metrics["accuracy"] > 0.9 > first.metrics["baseline_accuracy"]
    assert first.exported.data == again.exported.data
    assert first.weights == again.weights


def test_the_file_says_nothing_of_this_machine() -> None:
    plan, rows = wine(WIDE, epochs=1)
    data = learn(plan, Given(rows), []).exported.data
    assert str(Path(__file__).parents[4]).encode() not in data
    model = onnx.load_from_string(data)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_a_run_goes_on_from_its_checkpoint_to_the_same_weights() -> None:
    plan, rows = wine(WIDE, epochs=3)
    kept: list[bytes] = []

    class Keep:
        def epoch_done(self, loop: object) -> None:
            kept.append(loop.checkpoint())  # type: ignore[attr-defined]  # the loop's own

    whole = learn(plan, Given(rows), [Keep()])
    assert learn(plan, Given(rows, checkpoint=kept[0]), []).weights == whole.weights


@pytest.mark.parametrize(("path", "said"), [
    ("examples.own_module.network:Missing", "cannot be made"),
    ("examples.no_such_place:Thing", "cannot be made"),
    (f"{HERE}:number", "gives a int"),
    (f"{HERE}:Narrow", r"not \[2, 3\]")])
def test_what_is_no_network_ends_the_run_with_its_name(path: str, said: str) -> None:
    with pytest.raises(RunFailed, match=said) as failure:
        learn(wine(path)[0], Given(wine(path)[1]), [])
    assert (failure.value.failure_class, failure.value.name) == ("parameter", "module_broken")


def test_a_module_that_looks_at_values_in_python_is_found_out() -> None:
    plan, rows = wine(f"{HERE}:Branching", epochs=1)
    with pytest.raises(RunFailed, match="does not answer as the trained one"):
        learn(plan, Given(rows), [])


def test_what_only_hostile_rows_bring_out_is_found_out_too() -> None:
    plan, rows = wine(f"{HERE}:Wary", epochs=1)
    with pytest.raises(RunFailed, match="does not answer as the trained one on adversarial rows"):
        learn(plan, Given(rows), [])


def test_what_no_operator_says_ends_the_run() -> None:
    plan, rows = wine(f"{HERE}:Unsayable", epochs=1)
    with pytest.raises(RunFailed, match="cannot be written as ONNX") as failure:
        learn(plan, Given(rows), [])
    assert failure.value.failure_class == "parameter"


def test_a_recurrent_layer_of_torch_is_exported_too() -> None:
    plan, rows = wine(f"{HERE}:Recurrent", epochs=20)
    assert learn(plan, Given(rows), []).metrics["accuracy"] > 0.5


def test_only_what_the_operator_lists_may_be_imported() -> None:
    check_module(None, ())
    check_module(WIDE, (WIDE,))
    check_module(WIDE, ("examples.own_module.network",))
    for allowed in ((), ("examples",), ("examples.own_module",), ("examples.own_module.network:Other",)):
        with pytest.raises(RunFailed, match="not among the modules") as failure:
            check_module(WIDE, allowed)
        assert failure.value.name == "module_not_allowed"
    assert TrainerSettings(modules=" a.b, c:D ,").allowed_modules == ("a.b", "c:D")
    assert TrainerSettings().allowed_modules == ()


async def test_a_run_of_a_module_that_is_not_listed_starts_no_process_and_imports_nothing(world: World) -> None:
    text = SPEC.replace("family: logistic_regression", "family: torch_module").replace(
        "epochs: 8,", f'module: "{WIDE}", epochs: 8,')
    world.pipelines["tumours"] = state_of(text)
    await world.rows(0, 200)
    sys.modules.pop("examples.own_module.network", None)
    run = await world.train()
    assert run.progress.state == RUN_STATE_FAILED
    assert "not among the modules" in run.progress.failure.message
    assert world.launched == 0
    assert "examples.own_module.network" not in sys.modules


async def test_a_listed_one_is_published(world: World) -> None:
    text = SPEC.replace("family: logistic_regression", "family: torch_module").replace(
        "epochs: 8,", f'module: "{WIDE}", epochs: 8,')
    world.pipelines["tumours"] = state_of(text)
    world.bounds = type(world.bounds)(**{**{name: getattr(world.bounds, name) for name in (
        "lease_s", "row_pause_s", "memory_mb", "limit_s", "grace_s", "processes")},
        "modules": ("examples.own_module.network",)})
    await world.rows(0, 200)
    run = await world.train()
    assert run.progress.state == RUN_STATE_SUCCEEDED
    (version,) = (await world.stores.models.state("tumours")).versions
    assert version.manifest.family == "torch_module"
    assert np.isfinite(version.manifest.metrics["accuracy"])


def test_a_pipeline_must_say_which_module() -> None:
    assert example("own_module").model is not None
    for parameters in ("{epochs: 3}", "{module: os.system}", '{module: "a b:c"}'):
        with pytest.raises(InvalidPipeline, match="module"):
            parse(SPEC.replace("family: logistic_regression", "family: torch_module").replace(
                "{epochs: 8, learning_rate: 0.05}", parameters))
