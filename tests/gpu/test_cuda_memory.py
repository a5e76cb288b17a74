"""On a machine with a GPU: NVML tells of it."""

import pytest

from lepton.runtime.resources.gpus import Gpus

TOLD = {name: value for name, value, _ in Gpus().read(0.0)}
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not TOLD, reason="NVML tells of no GPU here: no driver")]


def test_cuda_memory_in_use_is_a_share() -> None:
    assert 0 <= TOLD["host_gpu_memory_share"] <= 1
