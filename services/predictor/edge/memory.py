"""System shared memory of this machine: regions that clients made and registered, read and written within their bounds.

Only objects of POSIX shared memory are opened. They are read and written by calls rather than mapped: a client that
makes its object smaller then gets an error, where a mapping would end this process.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Invalid, Missing
from services.predictor.edge.errors import Taken

FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
MAX_REGIONS = 1024
_KEY = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class _Region:
    key: str
    offset: int
    size: int
    handle: int


class SharedMemory:
    """Belongs to the event loop. Offsets and sizes are bytes; one tensor may have at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._regions: dict[str, _Region] = {}

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Raises Taken for a name in use, Missing without such an object, Invalid when it is too small or no object."""
        if name in self._regions:
            raise Taken(f"the region `{name}` is registered already", field="name", remedy="unregister it first")
        if not name or not size or not _KEY.fullmatch(key):
            raise Invalid("a region has a name, a size, and as its key the name of a shared memory object",
                          field="name" if not name else "byte_size" if not size else "key")
        if len(self._regions) >= MAX_REGIONS:
            raise Invalid(f"{MAX_REGIONS} regions are registered already", field="name", remedy="unregister some")
        handle = _open(key)
        try:
            _check(handle, key, offset + size)
        except Invalid:
            os.close(handle)
            raise
        self._regions[name] = _Region(key, offset, size, handle)

    def unregister(self, name: str = "") -> None:
        """Every region when none is named; one that is not there changes nothing."""
        for one in [name] if name else list(self._regions):
            region = self._regions.pop(one, None)
            if region is not None:
                os.close(region.handle)

    def status(self, name: str = "") -> oip.SystemSharedMemoryStatusResponse:
        """One region, or every one. Raises Missing."""
        if name:
            self._known(name)
        found = oip.SystemSharedMemoryStatusResponse()
        for one, region in self._regions.items():
            if name in ("", one):
                found.regions[one].CopyFrom(oip.SystemSharedMemoryStatusResponse.RegionStatus(
                    name=one, key=region.key, offset=region.offset, byte_size=region.size))
        return found

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A copy. Raises Missing without such a region, Invalid outside its bounds."""
        region = self._within(name, offset, size)
        found = os.pread(region.handle, size, region.offset + offset)
        if len(found) != size:
            raise _shrunk(region.key)
        return found

    def write(self, name: str, offset: int, data: bytes) -> None:
        region = self._within(name, offset, len(data))
        # A write past its end would make the object larger.
        _check(region.handle, region.key, region.offset + offset + len(data))
        os.pwrite(region.handle, data, region.offset + offset)

    def _known(self, name: str) -> _Region:
        region = self._regions.get(name)
        if region is None:
            raise Missing(f"no shared memory region `{name}` is registered", field="shared_memory_region",
                          remedy="register it first")
        return region

    def _within(self, name: str, offset: int, size: int) -> _Region:
        region = self._known(name)
        if size > self._max_bytes:
            raise Invalid(f"{size} bytes are more than the {self._max_bytes} that a tensor may have",
                          field="shared_memory_byte_size", remedy="raise LEPTON_PREDICTOR_REQUEST_BYTES")
        if offset + size > region.size:
            raise Invalid(f"{size} bytes from {offset} on are outside region `{name}`, which has {region.size}",
                          field="shared_memory_byte_size")
        return region

    async def start(self) -> None:
        """Regions come with `register`."""

    async def stop(self) -> None:
        self.unregister()


def _open(key: str) -> int:
    try:
        return os.open(FOLDER / key.lstrip("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Missing(f"the shared memory object `{key}` cannot be opened: {error.strerror}", field="key",
                      remedy="make it on this machine, for the user that runs the predictor, before registering it",
                      ) from error


def _check(handle: int, key: str, end: int) -> None:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(f"`{key}` is no shared memory object", field="key")
    if found.st_size < end:
        raise _shrunk(key)


def _shrunk(key: str) -> Invalid:
    return Invalid(f"the shared memory object `{key}` is smaller than the region", field="byte_size",
                   remedy="register no more than it has, and keep its size")
