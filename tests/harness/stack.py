"""The whole platform for a test: brought up by its own command, broken from outside, taken down."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from deploy.local import credentials, processes
from deploy.local.ports import SERVICE_INSTANCES
from lepton.contracts import apikeys
from lepton.contracts.features import decode_table
from lepton.store.mongo import Database
from lepton.store.segments import Segments
from tests.harness.wait import apoll_until, poll_until

ROOT = Path(__file__).parents[2]
_UP_S = 600.0
_DOWN_S = 120.0


class LocalStack:
    """`python -m deploy.local up --home HOME`, with credentials in a configuration folder of its own."""

    services = tuple(name for name in SERVICE_INSTANCES if name != "predictor-1")
    """Instances that run after `up`."""

    def __init__(self, home: Path, config_home: Path, environment: dict[str, str] | None = None,
                 jaeger: str = "") -> None:
        self.home = home
        self.jaeger = jaeger
        self._config_home = config_home
        self._environment = environment or {}
        self._marks: dict[str, int] = {}

    @property
    def client_env(self) -> dict[str, str]:
        """Environment of a program that uses the platform as its user would, from anywhere."""
        return {**os.environ, **self._environment, "XDG_CONFIG_HOME": str(self._config_home),
                "PYTHONPATH": str(ROOT)}

    def up(self) -> str:
        """Bring it up; what the command printed. Fails the test with that output when it does not exit 0."""
        done = self.command("up", timeout_s=_UP_S)
        assert done.returncode == 0, done.stdout + done.stderr
        self.attach()
        return done.stdout

    def attach(self) -> None:
        """Learn where it is, when something else than `up` brought it up."""
        self._addresses = json.loads((self.home / "stack.json").read_text())

    def down(self) -> None:
        """Take it down; nothing of it is left afterwards."""
        done = self.command("down", timeout_s=_DOWN_S)
        left = processes.find_processes(self.home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not left, left

    def command(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "deploy.local", *arguments, "--home", str(self.home)], cwd=ROOT,
                              env=self.client_env, capture_output=True, text=True, timeout=timeout_s, check=False)

    async def lepton(self, *arguments: str, expect: int = 0, timeout_s: float = 120) -> str:
        """What a command of the CLI printed; the test fails unless it exits as expected."""
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", "from lepton_ai.cli import main; main()", *arguments],
            env=self.client_env, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr if expect else done.stdout

    # Where it is.

    @property
    def rest(self) -> str:
        return str(self._addresses["rest"])

    @property
    def grpc(self) -> str:
        return str(self._addresses["grpc"])

    @property
    def kafka(self) -> str:
        return str(self._addresses["kafka"])

    @property
    def mongo(self) -> str:
        return str(self._addresses["mongo"])

    def admin(self, instance: str) -> str:
        return str(self._addresses["admin"][instance])

    @property
    def key(self) -> str:
        """The admin key, as a person is shown it."""
        return self._key().text

    @property
    def grpc_metadata(self) -> list[tuple[str, str]]:
        return list(self._key().header.items())

    @property
    def console_producer(self) -> list[str]:
        """Kafka's own console producer, on this stack's broker; the topic is to be added."""
        return [str(self.home / "bin" / "kafka-console-producer"), "--bootstrap-server", self.kafka]

    def _key(self) -> credentials.Key:
        key_id, secret = apikeys.parse_bearer(f"Bearer {(self.home / 'admin-key').read_text().strip()}")
        return credentials.Key(key_id, secret)

    # Talking to it.

    def rest_client(self, key: str | None = None) -> httpx.AsyncClient:
        """A client of the gateway; with the admin key unless another, or "" for none, is given."""
        headers = self._key().header if key is None else {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.rest, headers=headers, timeout=30)

    async def get(self, path: str) -> Any:
        async with self.rest_client() as client:
            answer = await client.get(path)
        assert answer.is_success, f"GET {path}: {answer.status_code} {answer.text}"
        body = answer.json()
        return _only_list(body)

    async def post(self, path: str, body: Any) -> Any:
        async with self.rest_client() as client:
            answer = await client.post(path, json=body)
        assert answer.is_success, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def post_text(self, path: str, text: str, content_type: str = "application/yaml") -> Any:
        async with self.rest_client() as client:
            answer = await client.post(path, content=text, headers={"content-type": content_type})
        assert answer.is_success, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def is_ready(self, instance: str) -> bool:
        async with httpx.AsyncClient(timeout=2) as client:
            with contextlib.suppress(httpx.HTTPError):
                return (await client.get(f"{self.admin(instance)}/readyz")).status_code == 200
        return False

    async def unready(self) -> dict[str, str]:
        """What every instance that is not ready says of itself."""
        found = {}
        async with httpx.AsyncClient(timeout=5) as client:
            for name in self.services:
                try:
                    answer = await client.get(f"{self.admin(name)}/readyz")
                except httpx.HTTPError as error:
                    found[name] = repr(error)
                else:
                    if answer.status_code != 200:
                        found[name] = answer.text
        return found

    @staticmethod
    def seconds(text: str) -> float:
        """Seconds since the epoch of an RFC 3339 time."""
        return datetime.fromisoformat(text).timestamp()

    # Looking into it.

    def pid(self, instance: str) -> int | None:
        """None while it does not run."""
        return processes.manager(self.home).process(instance).pid or None

    def mark_log(self, instance: str) -> None:
        """Have `log_tail` begin here."""
        self._marks[instance] = self._log(instance).stat().st_size

    def log_tail(self, instance: str) -> str:
        """What the process wrote since `mark_log`, or since it first started."""
        return self._log(instance).read_bytes()[self._marks.get(instance, 0):].decode(errors="replace")

    def _log(self, instance: str) -> Path:
        return self.home / "logs" / f"{instance}.log"

    async def segment_counts(self, pipeline: str, prefix: str, expected: int) -> dict[str, int]:
        """How often each event id with that prefix is in the stored rows, once there are `expected` of them."""
        database = Database.connect(self.mongo, "lepton")
        found: Counter[str] = Counter()

        async def all_stored() -> bool:
            found.clear()
            async for segment in Segments(database).read("features", pipeline, 1):
                ids = decode_table(segment.data).column("_event_id").to_pylist()
                found.update(event_id for event_id in ids if event_id.startswith(prefix))
            return len(found) >= expected

        try:
            await apoll_until(all_stored, f"{expected} rows of {prefix} in the store", 60, every_s=0.5)
        finally:
            await database.close()
        return dict(found)

    # Breaking it.

    def kill(self, instance: str, with_signal: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of an instance; its pid."""
        pid = self.pid(instance)
        assert pid is not None, f"{instance} does not run"
        self.signal_pid(pid, with_signal)
        return pid

    def signal_pid(self, pid: int, with_signal: signal.Signals) -> None:
        """Nothing happens when that process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, with_signal)

    def restart_broker(self) -> None:
        """Stop the broker in order and start it again over its data; returns once another process runs."""
        control = processes.manager(self.home)
        before = control.process("kafka").pid
        control.stop("kafka", wait=False)
        poll_until(lambda: not psutil.pid_exists(before), "the broker to end", 40)
        poll_until(lambda: control.process("kafka").state == "STOPPED", "the broker to be stopped", 10)
        control.start("kafka")
        poll_until(lambda: control.process("kafka").state == "RUNNING", "the broker to run", 30)


def _only_list(body: Any) -> Any:
    """The list in an answer that holds nothing else: `{"incidents": [...]}`."""
    if isinstance(body, dict) and len(body) == 1:
        (inner,) = body.values()
        return inner if isinstance(inner, list) else body
    return body
