"""The native gRPC door: it answers plain requests in batches itself, and hands every other call to the Python door.

The Python door listens on a socket of its own in a private folder then, and checks keys, messages and traces as ever.
"""

import asyncio
import importlib
import logging
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lepton.clock import Clock
from lepton.contracts.apikeys import Scope
from lepton.errors import Busy, LeptonError, Unavailable
from lepton.runtime.loops import pause
from services.predictor.edge import errors
from services.predictor.edge.measures import Measures
from services.predictor.edge.rpc.server import GrpcDoor, Socket, taken
from services.predictor.flow.access import Access
from services.predictor.flow.forms import Counted, Forms, Learnt, Logged, Task

if TYPE_CHECKING:
    from services.predictor.wire import native

NATIVE = "services.predictor.wire.native"

FEED_EVERY_S = 0.1
"""How often keys that came or went are carried over to the wire."""

MOST_KEPT = 16
MOST_KEPT_BYTES = 64 * 1024
"""Requests that are kept to read their forms anew, each at most so large: a change of version reads them all."""

Door = Literal["auto", "native", "python"]
Traffic = Callable[[], float]

log = logging.getLogger(__name__)


def is_native(door: Door) -> bool:
    """Whether the native door is to answer; says which does. Raises Unavailable when it is asked for and not built."""
    if door == "python":
        log.info("gRPC door: python, as asked for")
        return False
    try:
        importlib.import_module(NATIVE)
    except ImportError as error:
        if door == "native":
            raise Unavailable("the native gRPC door was asked for, but is not built here",
                              field="LEPTON_PREDICTOR_DOOR",
                              remedy="run tools/wire.sh, which needs Rust, or set auto or python") from error
        log.info("gRPC door: python; the native one is not built here (tools/wire.sh builds it where Rust is)")
        return False
    log.info("gRPC door: native")
    return True


class WireDoor:
    """`inside` makes the Python door for the socket it is given. `log_share` of plain requests' answers are logged."""

    def __init__(self, socket: Socket, inside: Callable[[Socket], GrpcDoor], forms: Forms, access: Access,
                 measures: Measures, clock: Clock, log_share: float) -> None:
        self._socket = socket
        self._home = Path(tempfile.mkdtemp(prefix="lepton-"))
        self._inside = inside(replace(socket, path=str(self._home / "door")))
        self._forms = forms
        self._access = access
        self._measures = measures
        self._clock = clock
        self._log_share = log_share
        self._native: native.Door | None = None
        self._lanes: dict[tuple[str, str], native.Lane] = {}
        self._groups: dict[Task, native.Group] = {}
        self._keys_as_of = -1
        self._kept: dict[bytes, bytes] = {}
        """A request of each form that the wire knows, by what it calls the form; the last ones."""
        self._all_kept = True
        """Whether the wire knows no other form."""

    @property
    def address(self) -> str:
        """host:port, with the port really taken once started."""
        return f"{self._socket.host}:{self._native.port if self._native else self._socket.port}"

    def under_way(self) -> int:
        """Calls that the wire answers now, less the leases that are no calls."""
        return (self._native.under_way() if self._native else 0) - self._forms.leases

    def answering(self) -> int:
        """Requests that have not ended; a stream is one for as long as it is open."""
        return (self._native.under_way() if self._native else 0) + self._inside.answering()

    async def start(self) -> None:
        """Raises Unavailable when the port is taken."""
        await self._inside.start()
        native = importlib.import_module(NATIVE)
        loop = asyncio.get_running_loop()

        def ask(key: bytes, message: bytes) -> None:
            loop.call_soon_threadsafe(self._learn, key, message)

        # Threads of the wire inherit the mask: signals are for the main thread.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._native = native.Door(
                self._socket.host, self._socket.port, str(self._home / "door"), ask, log_share=self._log_share,
                request_bytes=self._socket.request_bytes, timeout_s=self._socket.timeout_s, traced=self._socket.traced)
        except OSError as error:
            await self._inside.stop()
            raise taken(self.address) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    async def stop(self) -> None:
        """Refuse new calls, end streams once they are answered, wait for the rest while drain time is left."""
        door = self._native
        if door is not None:
            await self._inside.close()
            self._kept.clear()
            self._all_kept = False
            self.forget()
            await asyncio.to_thread(door.stop, self._socket.drain_s)
            self.gather()
        await self._inside.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    async def follow(self, stop: asyncio.Event) -> None:
        """A loop for the service: grpc.health says what /readyz says."""
        await self._inside.follow(stop)

    async def feed(self, stop: asyncio.Event) -> None:
        """A loop for the service: the wire knows which keys hold, and the keyring which of them are in use."""
        while not await pause(stop, FEED_EVERY_S, self._clock):
            if self._native is None:
                continue
            for fingerprint in self._native.used():
                self._access.used(fingerprint)
            if self._access.revision != self._keys_as_of:
                self._keys_as_of = self._access.revision
                self._native.keys(self._access.admitted(Scope.PREDICT))

    def forget(self) -> None:
        """Which version answers has changed: what the wire was taught holds no more.

        The forms of late are taught anew at once, in place of what they were: else every request would go to the Python
        door until the first of its form is read there, and a busy one would choke on them.
        """
        self._groups.clear()
        self._lanes.clear()
        self._forms.forget()
        door = self._native
        if door is None:
            return
        anew = [(key, self._read(message)) for key, message in self._kept.items()]
        if not self._all_kept:
            door.forget()
            self._all_kept = True
        for key, learnt in anew:
            self._tell(door, key, learnt)

    def gather(self) -> float:
        """Hand in what the wire counted; the rows that wait there."""
        if self._native is None:
            return 0.0
        for model, version, outcomes, rows, seconds, steps_s, last_ago_s, batches, timed in self._native.take():
            self._measures.requests(model, version, outcomes, timed)
            self._forms.count(Counted(model, version, outcomes, rows, *seconds, steps_s, last_ago_s, batches))
        return float(self._native.waiting_rows())

    def busy(self, model: str) -> bool:
        """Whether requests for a model wait in the wire, or are being run."""
        return self._forms.running(model) or any(
            lane.pending() > 0 for (name, _), lane in self._lanes.items() if name == model)

    def pending(self, model: str, version: int) -> int:
        """Requests for a version that wait in the wire."""
        lane = self._lanes.get((model, str(version)))
        return 0 if lane is None else lane.pending()

    def _learn(self, key: bytes, message: bytes) -> None:
        if self._native is None:
            return
        self._tell(self._native, key, self._read(message))
        if len(message) > MOST_KEPT_BYTES:
            self._all_kept = False
            return
        self._kept[key] = message
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
            self._all_kept = False

    def _read(self, message: bytes) -> Learnt | None:
        try:
            return self._forms.learn(message)
        except Exception:
            log.exception("a form of requests could not be read")
            return None

    def _tell(self, door: "native.Door", key: bytes, learnt: Learnt | None) -> None:
        if learnt is None:
            door.leave(key)
        else:
            door.teach(key, self._group(door, learnt), learnt.form.rows, learnt.form.contents, learnt.form.head)

    def _group(self, door: "native.Door", learnt: Learnt) -> "native.Group":
        group = self._groups.get(learnt.task)
        if group is None:
            lane = self._lanes.get((learnt.model, learnt.version))
            if lane is None:
                limits = learnt.limits
                lane = door.lane(learnt.model, learnt.version, learnt.quick, steady=learnt.steady,
                                 max_rows=limits.max_rows, queue_rows=limits.queue_rows, wait_s=limits.max_wait_s,
                                 pace=learnt.pace)
                self._lanes[learnt.model, learnt.version] = lane
            group = self._groups[learnt.task] = lane.group(_answering(learnt.task), learnt.task.batch.rows_of)
        return group


def _answering(task: Task) -> "native.Run":
    """The task as the wire calls it: what it raises is a status, and concerns its batch alone."""
    def run(rows: int, raw: Sequence[bytes], logged: Sequence[Logged]) -> "list[bytes] | native.Failed":
        try:
            return task(rows, raw, logged)
        except LeptonError as error:
            after_s = error.retry_after_s if isinstance(error, Busy) else None
            return errors.status(error).value[0], errors.details(error), type(error).__name__, after_s
        except Exception as error:
            log.exception("a batch of the wire failed")
            return errors.status(error).value[0], errors.details(error), "bug", None
    return run
