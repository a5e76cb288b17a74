"""What the flow needs of wires it may not know: run folders with their processes, and where to tell what happened."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.recovery_pb2 import RecoveryResult
from lepton.contracts.pb.training_pb2 import TrainingProgress
from lepton.store.artifacts import Artifacts
from lepton.store.datasets.snapshots import Snapshots
from lepton.store.models import Models
from lepton.store.runs import Runs
from lepton.store.segments import Segments

RECOVERY = "recovery"
"""Reason of a run that is to heal something."""


class Process(Protocol):
    """A run's process. `exit_code` is None while it lives, negative when a signal ended it."""

    @property
    def exit_code(self) -> int | None: ...

    async def kill(self) -> None:
        """End it and all it started; returns when it is gone."""


class Folder(Protocol):
    """A run's folder, which outlives the processes that work in it."""

    async def read(self, name: str) -> bytes | None:
        """None when there is no such file."""

    async def write(self, name: str, data: bytes) -> None:
        """Whole or not at all."""

    async def launch(self) -> Process: ...

    async def log_tail(self) -> str:
        """The last lines the run's processes wrote."""

    async def remove(self) -> None: ...


class Folders(Protocol):
    def of(self, run_id: str) -> Folder:
        """The run's folder, made when it does not exist."""

    async def names(self) -> list[str]:
        """Runs that have a folder."""


@dataclass(frozen=True, slots=True)
class Stores:
    segments: Segments
    models: Models
    runs: Runs
    artifacts: Artifacts
    snapshots: Snapshots


@dataclass(frozen=True, slots=True)
class Tell:
    """Where the trainer is heard. Each raises Unavailable when it is not."""

    progress: Callable[[TrainingProgress], Awaitable[None]]
    result: Callable[[RecoveryResult], Awaitable[None]]
    announce: Callable[[], None]
    """A registry state changed: have it announced now."""
    trouble: Callable[[str, str, str], None]
    """Kind, message and place of something that was survived."""
    ended: Callable[[str, str, float], None]
    """Model, state and seconds of a run that ended."""
    span: Callable[[str, str, str], AbstractContextManager[object]]
    """Traceparent, model and run id: the trace the run continues."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What runs may take, from the settings."""

    lease_s: float
    row_pause_s: float
    memory_mb: int
    limit_s: float
    grace_s: float
    """Beyond `limit_s`, before a process that does not end by itself is ended."""
    processes: int
    modules: tuple[str, ...] = ()
    """What a run may import beside the trainer's own: `package.module`, or `package.module:name`."""
    device: Literal["cpu", "cuda"] = "cpu"
    """What runs learn on."""


Pipelines = Callable[[], Mapping[str, PipelineState]]
"""Every pipeline announced so far, by name."""
