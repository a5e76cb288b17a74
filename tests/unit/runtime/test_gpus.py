"""What NVML tells of each GPU is read as it is meant; a machine without it says nothing."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from lepton.runtime.resources.gpus import Gpus

# Signatures and codes as in nvml.h: two GPUs, of which the second is in MIG mode and tells no utilization.
NVML = """
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
static int gpus[2] = {0, 1};
int nvmlInit_v2(void) { return INIT; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = &gpus[index]; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *told) {
    if (*(int *)device == 1) return 3;
    told->gpu = 42; told->memory = 7; return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *told) {
    told->total = 150ULL << 30; told->used = (*(int *)device + 1) * (75ULL << 30) / 2; told->free = 0; return 0;
}
"""


def library(folder: Path, init: int) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for a library of NVML's form")
    built = folder / f"nvml-{init}.so"
    subprocess.run([compiler, "-shared", "-fPIC", f"-DINIT={init}", "-x", "c", "-", "-o", str(built)], input=NVML,
                   text=True, check=True, timeout=120)
    return str(built)


def test_each_gpu_tells_what_it_can_every_two_seconds(tmp_path: Path) -> None:
    gpus, host = Gpus(library(tmp_path, 0)), socket.gethostname()
    assert list(gpus.read(10.0)) == [
        ("host_gpu_share", 0.42, {"gpu": f"{host}/0"}), ("host_gpu_memory_share", 0.25, {"gpu": f"{host}/0"}),
        ("host_gpu_memory_share", 0.5, {"gpu": f"{host}/1"})]
    assert list(gpus.read(11.9)) == []
    assert len(list(gpus.read(12.0))) == 3


@pytest.mark.parametrize(("init", "told"), [(9, False), (999, True)])
def test_a_driver_that_does_not_answer_is_told_unless_there_is_none(
        tmp_path: Path, caplog: pytest.LogCaptureFixture, init: int, told: bool) -> None:
    assert list(Gpus(library(tmp_path, init)).read(0.0)) == []
    assert ("NVML answers 999" in caplog.text) is told


def test_without_the_library_nothing_is_said() -> None:
    assert list(Gpus("libno-such-library.so").read(0.0)) == []
