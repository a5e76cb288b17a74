"""Bringing an installation up: the steps in order, and undoing what was begun when one of them fails."""

import asyncio
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from deploy import identities, topics
from deploy.local import credentials, down, ports, processes, programs
from deploy.local.ports import Stack
from deploy.local.programs import Program
from deploy.local.servers import cache, database, java, kafka, toxiproxy
from deploy.local.steps import say, step
from deploy.supervisor import ProcessManager
from lepton.bus import kafka as broker
from lepton.clock import SystemClock
from lepton.errors import LeptonError, Unavailable

SERVER_START_S = 60.0
SERVICE_START_S = 90.0
_HOME_MB = 1024  # room for some hours of events; Kafka keeps a day of them
_DEAD = frozenset({"BACKOFF", "EXITED", "FATAL", "UNKNOWN"})


def up(home: Path, *, fill: Callable[[Stack], None] | None = None, only: Collection[str] = (),
       breakable: bool = False) -> Stack:
    """Everything of the installation under `home` runs and is ready when this returns; what ran is left as it is.

    `fill` is called once broker and database run, before any service is started; `only` names the services that are.
    `breakable`: connections go through a proxy from now on, also after an `up` that does not say so.
    Raises a LeptonError whose text is one line (cause, place, remedy) when that cannot be; then nothing runs that did
    not run before.
    """
    processes.require_plain(home)
    home.mkdir(parents=True, exist_ok=True)
    with processes.exclusively(home), _ended_by_signals():
        _prepare(home)
        if breakable:
            with step("toxiproxy"):
                toxiproxy.binary()
        with step("ports") as told:
            stack = ports.load(home) or ports.create(home)
            stack = ports.made_breakable(stack) if breakable else stack
            told.note = f"REST {stack.ports['rest']}, gRPC {stack.ports['predictor-0']}, Kafka {stack.kafka}"
        kafka.write_console_producer(stack.console_producer)
        run = _Run(stack, fill, only)
        try:
            run.bring_up()
        except BaseException:
            run.undo()
            raise
        return stack


@dataclass
class _Run:
    """One bringing up, and what it has begun."""

    stack: Stack
    fill: Callable[[Stack], None] | None
    only: Collection[str]
    control: ProcessManager = field(init=False)
    began_manager: bool = False
    began: list[str] = field(default_factory=list)
    log_sizes: dict[str, int] = field(default_factory=dict)

    def bring_up(self) -> None:
        servers = programs.servers(self.stack)
        services = [*programs.services(self.stack), *programs.backups(self.stack)]
        self._manage([*servers, *services])
        self._start_all(servers, SERVER_START_S)
        if self.fill is not None:
            self.fill(self.stack)
        with step("topics") as told:
            created = asyncio.run(_create_topics(self.stack))
            told.note = f"{len(created)} created" if created else "as they were"
        self._start_all([program for program in services if program.name in self.only or
                         not (self.only or program.spare)], SERVICE_START_S)
        with step("credentials") as told:
            written = credentials.write(self.stack, _first_key(self.stack))
            told.note = f"written to {credentials.path()}" if written else "as they were"

    def undo(self) -> None:
        if self.began_manager:
            down.down(self.stack.home)
            return
        for name in reversed(self.began):
            with suppress(LeptonError):
                self.control.stop(name)
        if self.began:
            say(f"  stopped again: {', '.join(reversed(self.began))}")

    def _manage(self, wanted: Sequence[Program]) -> None:
        """A process manager with the present configuration, and every port of what does not run yet is free."""
        home, shared = self.stack.home, programs.shared_environment(self.stack)
        with step("process manager") as told:
            changed = processes.write_configuration(home, programs.ROOT, wanted, shared)
            self.control = processes.manager(home)
            alive = self.control.alive()
            if alive and changed:
                say("  settings have changed, so every process is started anew")
                down.down(home)
                alive = False
            running = {process.name for process in self.control.processes() if process.pid} if alive else set()
            if not alive and (left := processes.end_processes(home, grace_s=10)):
                say(f"  left from a crash and ended: {', '.join(left)}")
            for program in wanted:
                for port in () if program.name in running else program.ports:
                    ports.require_free(program.name, port, home / "stack.json")
            if not alive:
                self.began_manager = True
                self.control = processes.start_manager(home, shared)
            told.note = "started" if self.began_manager else "runs already"

    def _start_all(self, wanted: Sequence[Program], timeout_s: float) -> None:
        """Start what does not run, all at once, and wait until each is ready."""
        started = time.monotonic()
        for program in wanted:
            if not self.control.process(program.name).pid:
                self.began.append(program.name)
                log = self._log(program)
                self.log_sizes[program.name] = log.stat().st_size if log.exists() else 0
                self.control.start(program.name)
        for program in wanted:
            with step(program.name) as told:
                self._await_ready(program, started + timeout_s)
                told.note = f"ready (pid {self.control.process(program.name).pid})"

    def _await_ready(self, program: Program, deadline: float) -> None:
        log = self._log(program)
        first_pid = self.control.process(program.name).pid
        while not program.ready():
            now = self.control.process(program.name)
            if now.state in _DEAD or (now.pid and first_pid and now.pid != first_pid):
                said = self._last_words(program) or now.spawn_error or "it said nothing"
                raise Unavailable(f"{program.name} ended while it was starting (exit {now.exit_status}): {said}",
                                  place=str(log), remedy="correct that and run `lepton up` again")
            if time.monotonic() > deadline:
                raise Unavailable(f"{program.name} was not ready in time: {self._last_words(program)}", place=str(log),
                                  remedy="see that file; a machine under heavy load may need a second `lepton up`")
            first_pid = first_pid or now.pid
            time.sleep(0.1)

    def _log(self, program: Program) -> Path:
        return self.stack.logs / f"{program.name}.log"

    def _last_words(self, program: Program) -> str:
        return processes.last_words(self._log(program), self.log_sizes.get(program.name, 0))


def _prepare(home: Path) -> None:
    """Whatever must be there before anything is started, fetched and made where it is not."""
    cache.require_space(home, _HOME_MB, "the stack's data")
    own_kafka, own_database = not ports.external_kafka(), not ports.external_database()
    with step("Java") as told:
        told.note = f"{java.find().release} ({java.find().binary})"
    if own_kafka:
        with step(f"Kafka {kafka.VERSION}"):
            kafka.jars()
            kafka.archive()
    with step("console producer"):
        kafka.console_jars()
    if own_database:
        with step("database"):
            database.environment()
    with step("identities") as told:
        made = identities.ensure(home / "keys", home / "trust", SystemClock())
        told.note = f"made for {', '.join(made)}" if made else "as they were"


async def _create_topics(stack: Stack) -> list[str]:
    settings = programs.settings(stack, "deploy")
    cluster = broker.connect(settings.broker_options())
    try:
        await cluster.ping()
        return await topics.create(cluster, settings.kafka_replication)
    finally:
        await cluster.close()


def _first_key(stack: Stack) -> credentials.Key | None:
    """The key that the gateway made for this installation; None where its database had keys before."""
    return credentials.from_bootstrap(stack) if stack.bootstrap_file.exists() else None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends this command as Ctrl-C does, so that what was begun is stopped again."""
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
