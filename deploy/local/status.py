"""What a person sees of a running installation: every process, the lag of every topic, every model."""

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from deploy.local import credentials, ports, processes, programs
from deploy.local.ports import Stack
from deploy.local.programs import Program
from lepton.bus import kafka as broker
from lepton.bus.records import Broker, Place
from lepton.errors import LeptonError, Missing, Unavailable

SERVICES = ("gateway", "ingest", "trainer", "predictor", "watchdog", "actuator")
_TIMEOUT_S = 5.0
_WIDTH = 140


@dataclass(frozen=True)
class Lag:
    """How far a consumer group is behind on one topic, in records over all partitions."""

    group: str
    topic: str
    records: int


def status(home: Path) -> bool:
    """Print the state of the installation under `home`; True when everything that should run is ready.

    Raises Missing when nothing was ever brought up there.
    """
    stack = ports.load(home)
    if stack is None:
        raise Missing("no stack was brought up here", place=str(home), remedy="`lepton up`")
    # Into a file or a pipe nothing is wrapped at a width that nobody has.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    control = processes.manager(home)
    if not control.alive():
        console.print(f"stopped: nothing runs under {home} (`lepton up` starts it; its data is kept)")
        return False
    table, healthy = _process_table(stack)
    console.print(table)
    try:
        console.print(_lag_table(asyncio.run(lags(stack))))
    except LeptonError as error:
        console.print(f"no lag: {error}")
        healthy = False
    console.print(_model_table(stack))
    return healthy


def _process_table(stack: Stack) -> tuple[Table, bool]:
    known = {program.name: program for program in [*programs.servers(stack), *programs.services(stack),
                                                        *programs.backups(stack)]}
    table = Table(title="processes", title_justify="left")
    for heading in ("name", "state", "ready", "pid", "up", "CPU s", "MB", "ports"):
        table.add_column(heading, justify="left" if heading in ("name", "state", "ready", "ports") else "right",
                         no_wrap=heading != "ports",
                         # Names are what a person types next, so a narrow terminal may not cut them.
                         min_width=max(map(len, known)) if heading == "name" else None)
    healthy = True
    for process in processes.manager(stack.home).processes():
        # A unit that this shell's settings do not name was started by another's.
        program = known.get(process.name) or Program(process.name, (), {}, (), lambda: True)
        idle = program.spare and not process.pid
        ready = bool(process.pid) and program.ready()
        healthy = healthy and (ready or idle)
        state = "spare" if idle else process.state.lower()
        told = "" if idle else ("[green]yes[/]" if ready else "[red]no[/]")
        table.add_row(process.name, state, told, *_used(process.pid, process.since),
                      " ".join(map(str, program.ports)))
    return table, healthy


def _used(pid: int, since: int) -> tuple[str, str, str, str]:
    if not pid:
        return "", "", "", ""
    try:
        process = psutil.Process(pid)
        cpu = process.cpu_times()
        return (str(pid), _span(time.time() - since), f"{cpu.user + cpu.system:.1f}",
                f"{process.memory_info().rss / 2**20:.0f}")
    except psutil.NoSuchProcess:
        return "", "", "", ""


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


async def lags(stack: Stack) -> list[Lag]:
    """Of every group that has committed on every topic it reads. Raises Unavailable when the broker is away."""
    cluster = broker.connect(programs.settings(stack, "status").broker_options())
    try:
        async with asyncio.timeout(20):
            await cluster.ping()
            return await _lags(cluster)
    except TimeoutError as error:
        raise Unavailable("the broker did not answer in time", place=stack.kafka) from error
    finally:
        await cluster.close()


async def _lags(cluster: Broker) -> list[Lag]:
    names = await cluster.list_topics()
    pipelines = sorted(name.removeprefix("lepton-events-") for name in names
                       if name.startswith("lepton-events-") and not name.endswith("-dead-letters"))
    groups = [*SERVICES, *(f"{service}.{_group_part(pipeline)}" for service in SERVICES for pipeline in pipelines)]
    committed = {group: await cluster.group_offsets(group) for group in groups}
    places = sorted({place for offsets in committed.values() for place in offsets if place.topic in names})
    ends = await _ends(cluster, places)
    found = []
    for group, offsets in committed.items():
        for topic in sorted({place.topic for place in offsets}):
            behind = sum(max(0, ends[place] - offset) for place, offset in offsets.items()
                         if place.topic == topic and place in ends)
            found.append(Lag(group, topic, behind))
    return found


async def _ends(cluster: Broker, places: list[Place]) -> dict[Place, int]:
    if not places:
        return {}
    reader = cluster.reader(sorted({place.topic for place in places}), group=None, client_id="status", start="latest")
    await reader.start()
    try:
        return dict(await reader.end_offsets(places))
    finally:
        await reader.stop()


def _group_part(pipeline: str) -> str:
    """The pipeline's part of a group name: a later generation's topics end in `-g<n>`, its groups in `.g<n>`."""
    name, mark, generation = pipeline.rpartition("-g")
    return f"{name}.g{generation}" if mark and generation.isdigit() else pipeline


def _lag_table(found: Iterable[Lag]) -> Table:
    table = Table(title="topic lag, records", title_justify="left")
    table.add_column("group")
    table.add_column("topic")
    table.add_column("behind", justify="right")
    for lag in found:
        table.add_row(lag.group, lag.topic, str(lag.records))
    return table


def _model_table(stack: Stack) -> Table | str:
    key = credentials.stored()
    if key is None:
        return "no models shown: no key in the credentials file"
    try:
        answer = httpx.get(f"{stack.rest}/v1/models", headers=key.header,
                           timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        return f"no models shown: the gateway does not answer ({type(error).__name__})"
    if not answer.is_success:
        return f"no models shown: the gateway said {answer.status_code} {answer.text[:200]}"
    body = answer.json()
    models = body["models"] if isinstance(body, dict) else body
    table = Table(title="models", title_justify="left")
    for heading in ("model", "champion", "family", "versions", "metrics"):
        table.add_column(heading)
    for model in models:
        table.add_row(*_model_row(model))
    return table


def _model_row(model: dict[str, Any]) -> tuple[str, str, str, str, str]:
    versions = model.get("versions", [])
    champion = int(model.get("champion") or 0)
    served: dict[str, Any] = next((version for version in versions if int(version["version"]) == champion), {})
    details = served.get("manifest", served)
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in sorted(details.get("metrics", {}).items()))
    return model["model"], str(champion or "none"), details.get("family", ""), str(len(versions)), metrics
