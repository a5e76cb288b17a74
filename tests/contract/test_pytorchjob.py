"""The manifest of further machines for a run, against the command and the settings it goes by."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.training_blocks import Scale
from services.trainer import worker
from tests.unit.trainer import samples
from tests.unit.trainer.folders import furnish

ROOT = Path(__file__).parents[2]
JOB: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "k8s" / "pytorchjob.yaml").read_text())
SPEC = JOB["spec"]
POD = SPEC["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def handed_on() -> dict[str, str]:
    """What the training operator makes of an elasticPolicy, and what the manifest says itself."""
    policy = SPEC["elasticPolicy"]
    return {"PET_RDZV_BACKEND": policy["rdzvBackend"],
            "PET_RDZV_ENDPOINT": f"{policy['rdzvHost']}:{policy['rdzvPort']}",
            "PET_RDZV_CONF": ",".join(f"{one['key']}={one['value']}" for one in policy["rdzvConf"]),
            "PET_NNODES": f"{policy['minReplicas']}:{policy['maxReplicas']}",
            "PET_MAX_RESTARTS": str(policy["maxRestarts"]), **{one["name"]: one["value"] for one in CONTAINER["env"]}}


def test_it_is_a_pytorchjob_whose_container_the_operator_finds() -> None:
    assert (JOB["apiVersion"], JOB["kind"], CONTAINER["name"]) == ("kubeflow.org/v1", "PyTorchJob", "pytorch")
    # The trainer itself is one of the machines.
    assert SPEC["pytorchReplicaSpecs"]["Worker"]["replicas"] == SPEC["elasticPolicy"]["maxReplicas"] - 1


def test_its_command_is_the_one_the_trainer_starts_a_run_with() -> None:
    started = (ROOT / "services" / "trainer" / "edge" / "workers.py").read_text()
    *command, folder, parent = CONTAINER["command"]
    assert command == ["python", "-m", "services.trainer.worker", "launch"]
    assert '"-m", "services.trainer.worker", "launch", str(self._path), str(os.getpid())' in started
    assert parent == "0"
    compose = (ROOT / "deploy" / "compose" / "services.yaml").read_text()
    state, _, run = folder.partition("/trainer/runs/")
    assert f"LEPTON_STATE_DIR: {state}\n" in compose
    assert run == "RUN_ID"
    assert [one["mountPath"] for one in CONTAINER["volumeMounts"]] == [state]
    assert [one["name"] for one in POD["volumes"]] == [one["name"] for one in CONTAINER["volumeMounts"]]


def test_torch_elastic_understands_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run-7"
    furnish(folder, *samples.wine(family="mlp", scale=Scale(processes=3), parameters=Parameters(epochs=1)))
    for name, value in handed_on().items():
        monkeypatch.setenv(name, value)
    asked = get_args_parser().parse_args([*worker.elastic(folder, handed_on()), "--module", "services.trainer.worker"])
    assert (asked.nnodes, asked.nproc_per_node, asked.max_restarts) == ("1:3", "1", 10)
    assert (asked.rdzv_backend, asked.rdzv_endpoint, asked.rdzv_id) == ("c10d", "lepton-trainer:29400", "run-7")
    assert asked.rdzv_conf == "is_host=false"


@pytest.mark.parametrize(("shares", "restarts"), [(1, 0), (4, worker.RESTARTS)])
def test_one_machine_alone_needs_no_port(tmp_path: Path, shares: int, restarts: int) -> None:
    folder = tmp_path / "run-8"
    furnish(folder, *samples.wine(family="mlp", scale=Scale(processes=shares), parameters=Parameters(epochs=1)))
    asked = get_args_parser().parse_args([*worker.elastic(folder, {}), "--module", "services.trainer.worker"])
    assert (asked.nnodes, asked.nproc_per_node, asked.max_restarts) == ("1", str(shares), restarts)
    assert asked.rdzv_endpoint.startswith(str(folder))
    assert asked.rdzv_conf == "store_type=file"
