"""Those who obey, as they are: each gets the watchdog's commands as they lie on the topic, and says what it read."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

from deploy.actuator.backups import Backups, Shelf
from deploy.actuator.memory import Memory
from deploy.actuator.once import Once
from deploy.backup.archive.secret import Secret
from lepton.clock import FakeClock
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_READY, Lineage, ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.recovery_pb2 import RECOVERY_OUTCOME_DONE, RecoveryResult
from lepton.contracts.pb.telemetry_pb2 import INSTANCE_STATE_READY, Instance
from lepton.contracts.pb.training_pb2 import TrainingKind
from lepton.contracts.topics import Topic
from lepton.store.memory import MemoryDatabase
from lepton.store.runs import Run
from services.trainer.flow.requests import recovery_command_id
from services.watchdog.core.orders.command import Command
from tests.contract.commands.sending import read, send
from tests.harness.bus import repeated
from tests.harness.wait import apoll_until
from tests.unit.actuator import test_backups as backups
from tests.unit.actuator import test_flow as actuator
from tests.unit.actuator.commands import issuer, trust
from tests.unit.gateway import test_throttling as throttling
from tests.unit.gateway.house import open_house
from tests.unit.ingest import samples
from tests.unit.ingest import test_recovery as ingest
from tests.unit.ingest import test_replaying as replaying
from tests.unit.ingest.house import House, accepted, living
from tests.unit.predictor import test_falling_back as predictor
from tests.unit.predictor.test_shedding import with_levels
from tests.unit.predictor.world import World as Predictor
from tests.unit.predictor.world import world as predicting
from tests.unit.trainer import world as learning
from tests.unit.trainer.door import Door

Obeyed = Callable[[Path, Sequence[Command]], Awaitable[list[RecoveryResult]]]


def _name(orders: Sequence[Command]) -> str:
    """What the last of them is about."""
    return orders[-1].target.partition(":")[2]


async def by_actuator(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
    """Two predictors are known, one runs."""
    bench = actuator.Bench(home)
    commands = await read(bench.watchdog, orders, bench.clock)
    results = [await bench.does(one) for one in commands if bench.actuator.concerns(one)]
    for result in results:
        # What was done to processes is what it read.
        result.evidence += f"; {', '.join(bench.processes.calls)}"
    return results


def from_backup(shelf: Shelf) -> Obeyed:
    """By the actuator, out of these backups; version 2 of the model is the one whose file is lost."""
    async def obey(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
        database, clock = MemoryDatabase(), FakeClock(backups.NOW)
        watchdog, name = issuer(home / "who", "watchdog", "watchdog", backups.NOW), _name(orders)
        once = Once("actuator", trust(home / "who"), Memory(home / "restored.json"), timedelta(seconds=2), clock)
        version = ModelVersion(model=name, version=2)
        version.manifest.sha256 = backups.DIGEST
        state = ModelState(model=name, versions=[version]).SerializeToString()
        await database.collection("models").put({"_id": name, "announcement": state})
        executor = Backups(shelf, database, once, clock)
        return [await executor.execute(one) for one in await read(watchdog, orders, clock) if executor.concerns(one)]
    return obey


def shelf(home: Path, secret: Secret) -> Shelf:
    return Shelf(home, lambda: secret)


async def by_trainer(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
    """Two versions were published, the second answers; of trainings, what was queued is told in the place of an answer.
    """
    world, name = learning.World(home), _name(orders)
    text = learning.SPEC.replace("name: tumours", f"name: {name}")
    world.pipelines = {name: learning.state_of(text)}
    door = Door(world, home / "issuers")
    for number in (1, 2):
        lineage = Lineage(parent_version=number - 1, weights_sha256=f"{number}" * 64)
        manifest = ModelManifest(model=name, version=number, family="logistic_regression", lineage=lineage)
        await world.stores.models.publish(name, ModelVersion(
            model=name, version=number, status=VERSION_STATUS_READY, manifest=manifest), promote=True, fence=1)
    for one in await read(door.keys["watchdog"], orders, world.clock):
        await door.receive(one)
    answered = {one.command_id for one in world.results}
    queued = [_queued(run) for run in reversed(await world.stores.runs.list(name)) if run.command.reason == "recovery"]
    return [*(one for one in queued if one.command_id not in answered), *world.results]


def _queued(run: Run) -> RecoveryResult:
    command = run.command
    searched = json.loads(command.search_json)["seconds"] if command.search_json else 0
    return RecoveryResult(
        command_id=recovery_command_id(command), outcome=RECOVERY_OUTCOME_DONE, incident_id=command.incident_id,
        target=f"model:{command.model}", evidence=(
            f"{TrainingKind.Name(command.kind)} of {command.max_rows} rows, searched for {searched:g} s, "
            f"promote {command.promote}"))


async def by_ingest(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
    """A field `x` is one that rows can do without; a row is refused before a replay."""
    house = House(home, name=_name(orders))
    await house.furnish()
    async with living(house):
        await house.apply(samples.pipeline(("name: shop", f"name: {house.name}"), ("weight:", "x:")))
        await house.send(samples.order("first"))
        await accepted(house, 1)
        if orders[-1].action == "replay_dead_letters":
            await house.send(samples.order(1, price=5000.0))
            await replaying.letters(house, 1)
        results: list[RecoveryResult] = []
        for count, one in enumerate(orders, 1):
            await send(house.broker, house.identities["watchdog"], [one])
            results = await ingest.results(house, count)
        return results


async def by_predictor(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
    """It answers with the second version of a model that has priority levels; another predictor is ready."""
    identity = predictor.watchdog(home)
    async with predicting(home) as here:
        if orders[0].action == "fall_back":
            for number, linear in enumerate((predictor.GOOD, predictor.SLOW), 1):
                await here.registry.publish(_name(orders), linear)
                await here.serving(_name(orders), number)
        elif orders[0].action == "shed":
            await with_levels(here, _name(orders))
        async with repeated(lambda: _beside(here)):
            results: list[RecoveryResult] = []
            for count, one in enumerate(orders, 1):
                await send(here.broker, identity, [one])
                results = await predictor.results(here, count)
            return results


async def _beside(here: Predictor) -> None:
    other = Instance(instance="predictor-1", service="predictor", boot_id="b", state=INSTANCE_STATE_READY)
    await here.registry._producer.send(Topic.INSTANCES, other, key="predictor-1")


async def by_gateway(home: Path, orders: Sequence[Command]) -> list[RecoveryResult]:
    identity = throttling.trusted(home)
    async with open_house(home, trust_dir=home / "trust") as house:
        results: list[RecoveryResult] = []
        for count, one in enumerate(orders, 1):
            await send(house.broker, identity, [one])

            async def answered(least: int = count) -> list[RecoveryResult]:
                found: list[RecoveryResult] = await house.messages(Topic.RECOVERY_RESULTS)
                return found if len(found) >= least else []
            results = await apoll_until(answered, f"{count} answers", 30)
        return results
