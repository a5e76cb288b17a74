"""What the watchdog's core orders, made by the core itself: from signals to commands, nothing written by hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from services.watchdog.core.inputs import Answered, Unusable
from services.watchdog.core.load.levels import CALM_S
from services.watchdog.core.orders.command import Command
from services.watchdog.core.thresholds.limits import Ladders
from tests.unit.watchdog import test_lost_state as lost_state
from tests.unit.watchdog.capacity.crowd import SHOP, crowd
from tests.unit.watchdog.load import test_clients as clients
from tests.unit.watchdog.load import test_levels as levels
from tests.unit.watchdog.quality import test_stopped as stopped
from tests.unit.watchdog.quality.shop import inverted
from tests.unit.watchdog.safety import test_afterwards as afterwards
from tests.unit.watchdog.safety import test_broken_fields as fields
from tests.unit.watchdog.safety import test_draining as draining
from tests.unit.watchdog.safety import test_falling_back as falling_back
from tests.unit.watchdog.safety import test_pausing as pausing
from tests.unit.watchdog.safety import test_policy as policy
from tests.unit.watchdog.safety import test_training_ladders as trainings
from tests.unit.watchdog.world import RULES, SERVICES, WALL_S, World, labels, model

Made = Callable[[], Sequence[Command]]


@contextmanager
def two_predictors() -> Iterator[None]:
    SERVICES["predictor-1"] = "predictor"
    try:
        yield
    finally:
        del SERVICES["predictor-1"]


def killed() -> Sequence[Command]:
    world = World().healthy()
    del world.beating["predictor-0"]
    world.run(5)
    return world.commands()


def renewed() -> Sequence[Command]:
    """The only predictor runs out of file handles."""
    world = World().healthy()
    draining.files(world, 0.9, 20)
    return world.commands()


def drained() -> Sequence[Command]:
    with two_predictors():
        world = World().healthy()
        draining.files(world, 0.9, 20)
    return world.commands()


def scaled() -> Sequence[Command]:
    world = crowd(SHOP)
    world.ask(40, 150)
    world.ask(90, 40)
    return world.commands()


def file_lost(sha256: str) -> Sequence[Command]:
    world = lost_state.began(RULES)
    lost_state.kept(world)
    world.tick(Unusable("predictor-0", "phishing", 2, refused="the model file is not in the store", lost=sha256))
    return world.commands()


def rolled_back() -> Sequence[Command]:
    return trainings.lost(previous=1).commands()


def retrained() -> Sequence[Command]:
    world = World().healthy()
    world.tick(RULES, model(1))
    world.tick(*labels(1, 0, 80))
    return world.commands()


def tuned() -> Sequence[Command]:
    return trainings.lost(Ladders(quality_loss=("tune",))).commands()


def fine_tuned() -> Sequence[Command]:
    return trainings.lost(Ladders(quality_loss=("fine_tune",))).commands()


def cancelled() -> Sequence[Command]:
    shop = stopped.lost_then_inverted()
    shop.feed(2, 200, inverted)
    return shop.world.commands()


def source_broken() -> Sequence[Command]:
    world = World().healthy()
    world.tick(RULES)
    policy.broken(world)
    return world.commands()


def field_broken() -> Sequence[Command]:
    """And well again."""
    world = fields.begun()
    fields.show(world, 4, fields.seen(x={"times": 100.0}))
    (command,) = world.commands()
    world.tick(Answered(command.command_id, "done"))
    out = {"out": world.last().id}
    fields.show(world, 3, fields.seen(x={"times": 100.0} | out))
    fields.show(world, 10, fields.seen(x=out))
    return world.commands()


def paused() -> Sequence[Command]:
    """And tried again."""
    world = pausing.paused()
    pausing.still(world, 65)
    return world.commands()


def line_stopped() -> Sequence[Command]:
    """Of a pipeline that wants its dead letters back, now: they are chosen by time."""
    world = World()
    # So that the line stopped some seconds ago, and goes on late enough for a letter that is still to be made.
    world.wall_ahead_s = datetime.now(UTC).timestamp() - WALL_S - world.now + 45
    world.healthy()
    world.tick(afterwards.SHOP)
    afterwards.stop(world)
    world.stopped.clear()
    world.run(1)
    return world.commands()


def slow_since_promotion() -> Sequence[Command]:
    return falling_back.slow_since_promotion().commands()


def asked_for_too_much() -> Sequence[Command]:
    """By one client, until it stops."""
    world = clients.shop()
    clients.asked(world, 90, a=10, b=40)
    clients.asked(world, 60, a=300, b=40)
    clients.asked(world, 30, a=10, b=40)
    return world.commands()


def overloaded() -> Sequence[Command]:
    """By nobody in particular, until load falls."""
    world, usual = levels.shop(), {(1, True): 30, (2, False): 20, (3, True): 20}
    world.asked(30, usual)
    world.asked(60, levels.SURGE)
    world.asked(int(CALM_S) + 15, usual)
    return world.commands()
