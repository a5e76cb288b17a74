"""A training under way is ended where labels are found wrong meanwhile: it would learn from them."""

import pytest
from msgspec.structs import replace

from services.watchdog.core.inputs import Answered, Leads
from services.watchdog.core.journal import replay
from tests.unit.watchdog.quality.shop import LABELS, MODEL, NAMES, Shop, inverted


def lost_then_inverted() -> Shop:
    """Labels at random, which nothing but a world that changed explains, so that it is trained; then inverted ones."""
    shop = Shop()
    shop.feed(2, 200)
    shop.feed(2, 60, lambda truth: shop.random.choice(NAMES), gap_s=6)
    return shop


def test_a_training_under_way_is_ended_where_labels_are_found_wrong_meanwhile() -> None:
    shop = lost_then_inverted()
    assert shop.world.orders() == [("retrain", "model:phishing")]
    ordered = shop.world.commands()[0].command_id
    shop.feed(2, 200, inverted)
    assert shop.kinds() == [MODEL, LABELS]
    assert shop.world.orders() == [("retrain", "model:phishing"), ("cancel", "model:phishing")]
    stop = shop.world.commands()[1]
    assert (stop.command_id, stop.arguments) == (f"{ordered}-cancel", {"command_id": ordered})
    shop.feed(2, 100, inverted)
    assert len(shop.world.commands()) == 2
    assert list(replay(shop.world.written())) == shop.world.made


def test_each_training_that_is_not_answered_is_ended_not_the_latest_alone() -> None:
    shop = lost_then_inverted()
    shop.world.run(310)
    assert shop.world.orders() == [("retrain", "model:phishing")] * 2
    trained = [one.command_id for one in shop.world.commands()]
    shop.feed(2, 200, inverted)
    stops = shop.world.commands()[2:]
    assert [(one.action, one.arguments) for one in stops] == [("cancel", {"command_id": one}) for one in trained]
    assert list(replay(shop.world.written())) == shop.world.made


@pytest.mark.parametrize("stopped", [False, True])
def test_another_watchdog_ends_it_where_the_one_before_did_not(stopped: bool) -> None:
    shop = lost_then_inverted()
    lost = shop.world.last()
    shop.feed(2, 200, inverted)
    (wrong,) = {one.incident.key: one.incident for one in shop.world.decisions
                if (one.incident.symptom, one.incident.cause) == LABELS}.values()
    if stopped:
        lost = next(one.incident for one in shop.world.decisions if one.command and one.command.action == "cancel")
    other = Shop()
    # As the store has it: without what it was about to do.
    other.world.tick(Leads(2, (replace(lost, action="", rung=0), wrong)))
    other.world.run(1)
    assert other.world.orders() == ([] if stopped else [("cancel", "model:phishing")])


def test_a_training_that_was_answered_is_not_ended() -> None:
    shop = lost_then_inverted()
    shop.world.tick(Answered(shop.world.commands()[0].command_id, "failed", "it was refused"))
    shop.feed(2, 200, inverted)
    assert LABELS in shop.kinds()
    assert shop.world.orders()[0] == ("retrain", "model:phishing")
    assert "cancel" not in [action for action, _ in shop.world.orders()]
