"""What every test may use: one real broker and one real database a run, started when the first test asks."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.servers import start_database, start_jaeger, start_kafka
from tests.harness.stack import LocalStack

# On a loaded machine an example is slow without anything being wrong.
settings.register_profile("lepton", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lepton")
# A shell's background job, and so what it starts, ignores interrupts; commands under test are to be interruptible.
signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS = {"kafka_bootstrap": "kafka", "mongo_url": "mongo", "stack": "process", "trained_stack": "process"}
"""Fixture -> the marker a test that uses it must carry, so that `-m` can choose by what is there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a run in which a test uses a server without saying so."""
    unmarked = [f"{item.nodeid} uses {fixture} and lacks pytest.mark.{marker}"
                for item in items for fixture, marker in NEEDS.items()
                if fixture in getattr(item, "fixturenames", ()) and item.get_closest_marker(marker) is None]
    if unmarked:
        raise pytest.UsageError("\n".join(unmarked))


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that reaches for another machine fails, even where the code under test swallows the refusal."""
    reached: list[object] = []
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            reached.append(address)
            raise ConnectionRefusedError(f"a test may only reach this machine, not {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield
    assert not reached, f"reached for another machine: {reached}"


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker, shared by the run: use topic names of your own.

    `LEPTON_TEST_KAFKA` names one that already runs, for quick turns while writing a test.
    """
    running = os.environ.get("LEPTON_TEST_KAFKA")
    if running:
        yield running
        return
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real database process, shared by the run: use database names of your own.

    `LEPTON_TEST_MONGO` names one that already runs.
    """
    running = os.environ.get("LEPTON_TEST_MONGO")
    if running:
        yield running
        return
    server = start_database(tmp_path_factory.mktemp("database"))
    yield f"mongodb://{server.address}"
    server.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The whole platform, brought up by its own command with traces going to a real Jaeger.

    `LEPTON_TEST_STACK` names the home of one that is left running, for quick turns while writing a test.
    """
    kept = os.environ.get("LEPTON_TEST_STACK")
    home = Path(kept) if kept else tmp_path_factory.mktemp("stack")
    server, otlp = start_jaeger(tmp_path_factory.mktemp("jaeger"))
    environment = {"LEPTON_OTLP_ENDPOINT": otlp, "LEPTON_TRACE_RATIO": "0.01",
                   # Of the example `diabetes`, as its page sets it before the stack is brought up.
                   "LEPTON_SOURCE_CLINIC_URL": f"sqlite:///{home}/clinic.db"}
    running = LocalStack(home / "home", home / "config", environment, f"http://{server.address}")
    running.up()
    yield running
    if not kept:
        running.down()
    server.stop()


@pytest.fixture(scope="session")
def trained_stack(stack: LocalStack) -> LocalStack:
    """The stack after the example's first events: `phishing` has a champion, and a predictor serves it."""
    done = subprocess.run([sys.executable, "-m", "examples.phishing.replay", "--limit", "60", "--rate", "60"],
                          env=stack.client_env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return stack
