"""How much of each GPU of this machine is in use, asked of NVML, the library that comes with NVIDIA's driver."""

import ctypes
import logging
import socket
from collections.abc import Iterator
from typing import Final

from lepton.contracts import names
from lepton.runtime.resources.reading import HOST_EVERY_S, Reading

LIBRARY: Final = "libnvidia-ml.so.1"
_DONE: Final = 0
# A driver that did not load while its library is there: a machine without a GPU that runs an image made for one.
_NO_DRIVER: Final = (9, 12)

log = logging.getLogger(__name__)


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent of the time since the driver looked last."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Gpus:
    """Says nothing where there is no such library, or no GPU.

    What a GPU does not tell is left out: in MIG mode it has no utilization.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._host = socket.gethostname()
        self._nvml, self._handles = _opened(library)
        self._read_at: float | None = None

    def read(self, now: float) -> Iterator[Reading]:
        """Names, values and attributes of what is to be said at `now`, in monotonic seconds."""
        if self._nvml is None or (self._read_at is not None and now - self._read_at < HOST_EVERY_S):
            return
        self._read_at = now
        for index, handle in enumerate(self._handles):
            which = {"gpu": f"{self._host}/{index}"}
            busy, memory = _Utilization(), _Memory()
            if self._nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == _DONE:
                yield names.HOST_GPU_SHARE, busy.gpu / 100, which
            if self._nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == _DONE and memory.total:
                yield names.HOST_GPU_MEMORY_SHARE, memory.used / memory.total, which


def _opened(library: str) -> tuple[ctypes.CDLL | None, list[ctypes.c_void_p]]:
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None, []
    code = nvml.nvmlInit_v2()
    if code != _DONE:
        if code not in _NO_DRIVER:
            log.warning("the GPUs of this machine cannot be watched: NVML answers %d", code)
        return None, []
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    handles = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        # A GPU that another user has to himself is not ours to watch.
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == _DONE:
            handles.append(handle)
    return nvml, handles
