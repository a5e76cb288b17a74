"""The compose files, checked by compose's own loader and against the Settings, without a container engine."""

import importlib
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lepton.runtime.settings import LeptonSettings

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "ingest", "trainer", "predictor", "watchdog")


@cache
def project() -> dict[str, Any]:
    """The whole project, resolved by the loader that `docker compose config` uses."""
    loader = ROOT / ".local" / "tools" / "compose-config"
    loader.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-mod=readonly", "-o", str(loader), "github.com/compose-spec/compose-go/v2/cmd"],
                   cwd=ROOT / "tools" / "compose", check=True, timeout=300)
    shown = subprocess.run([str(loader), "-format", "json", "docker-compose.yml"], cwd=ROOT, check=True, timeout=60,
                           capture_output=True, text=True)
    loaded: dict[str, Any] = json.loads(shown.stdout)
    return loaded


def variables(service: str) -> set[str]:
    """Every environment variable the service's Settings class reads."""
    module = importlib.import_module(f"services.{service}.settings")
    found = [item for item in vars(module).values()
             if isinstance(item, type) and issubclass(item, LeptonSettings) and item.__module__ == module.__name__]
    own = set(found[0].model_fields) - set(LeptonSettings.model_fields)
    return ({f"LEPTON_{name.upper()}" for name in LeptonSettings.model_fields}
            | {f"LEPTON_{service.upper()}_{name.upper()}" for name in own})


@pytest.mark.process
def test_every_service_of_the_platform_is_there_and_its_dependencies() -> None:
    assert set(project()["services"]) >= {*SERVICES, "kafka", "mongo", "jaeger", "prometheus", "grafana", "topics"}


@pytest.mark.process
@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_one_that_the_service_reads(service: str) -> None:
    given = {name for name in project()["services"][service]["environment"] if name.startswith("LEPTON_")}
    assert given - variables(service) == set()


@pytest.mark.process
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_built_from_the_one_dockerfile_and_asks_its_own_readiness(service: str) -> None:
    described = project()["services"][service]
    assert described["build"]["args"] == {"SERVICE": service}
    assert described["build"]["target"] in dockerfile_targets()
    assert described["healthcheck"]["test"][-1] == f"http://127.0.0.1:{described['environment']['LEPTON_ADMIN_PORT']}/readyz"


@pytest.mark.process
@pytest.mark.parametrize(("service", "variable"), [("gateway", "LEPTON_GATEWAY_PORT"),
                                                   ("predictor", "LEPTON_PREDICTOR_PORT")])
def test_the_published_port_is_the_one_the_service_listens_on(service: str, variable: str) -> None:
    described = project()["services"][service]
    assert [str(port["target"]) for port in described["ports"]] == [described["environment"][variable]]


@pytest.mark.process
def test_every_image_names_its_version() -> None:
    images = [service["image"] for service in project()["services"].values() if "build" not in service]
    assert images
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), f"{image} floats"


def dockerfile_targets() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE))


def test_the_gpu_target_locks_onnxruntime_with_its_cuda_libraries() -> None:
    assert "gpu" in dockerfile_targets()
    lock = (ROOT / "requirements" / "predictor-gpu.lock").read_text()
    for package in ("onnxruntime-gpu==", "nvidia-cudnn", "nvidia-cublas"):
        assert package in lock


@pytest.mark.parametrize("service", SERVICES)
def test_the_dockerfile_finds_a_lock_with_hashes_for_every_service(service: str) -> None:
    lock = (ROOT / "requirements" / f"{service}.lock").read_text()
    assert "--hash=sha256:" in lock
