"""Quality without labels: what is estimated comes true, what looks worse is told, everyday life is not."""

import math
import random

import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.isotonic import IsotonicRegression

from lepton.clock import FakeClock
from lepton.contracts.arrow.predictions import Served
from lepton.contracts.pb.models_pb2 import ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.outcomes_pb2 import Outcome
from services.watchdog.core.guessing.calibrated import Calibrated
from services.watchdog.core.guessing.losses import Losses
from services.watchdog.core.inputs import Answered, Judged, ModelSeen, Predicted
from services.watchdog.core.journal import replay
from services.watchdog.core.summaries.counts import Labelled
from services.watchdog.core.thresholds.limits import Ladders, QualityRule
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.house import pipeline
from tests.unit.watchdog.world import RULES, World, rows

PUBLISHED = {"accuracy": 0.95, "calibration_error": 0.02}
NO_LABELS_S = 20.0


def model(champion: int = 1, previous: int = 0, **metrics: float) -> ModelSeen:
    return ModelSeen("phishing", champion, champion, previous, metrics or PUBLISHED, 500)


@pytest.fixture
def world() -> World:
    world = World().healthy()
    world.tick(RULES, model())
    return world


def answer(world: World, seconds: float, *sure: int, version: int = 1, true: float = 0.5, each: int = 100) -> None:
    """As many answers a second, equally often with each percent of `sure`; this share of them `true`."""
    for _ in range(round(seconds)):
        names = (("false", round(each * (1 - true))), ("true", round(each * true)))
        world.tick(Predicted("phishing", version, names, (), tuple((one, each // len(sure)) for one in sure)))
        world.run(0.75)


def label(world: World, right: int, wrong: int, sure: float, version: int = 1, late_s: float = 0.0) -> None:
    told = [*(Judged("phishing", version, "true", "true", sure, sure, sure, late_s) for _ in range(right)),
            *(Judged("phishing", version, "false", "true", 1 - sure, sure, sure, late_s) for _ in range(wrong))]
    random.Random(3).shuffle(told)
    for start in range(0, len(told), 20):
        world.tick(*told[start:start + 20])


# What is estimated.

def test_the_curve_is_scikit_learns_isotonic_regression() -> None:
    chance = random.Random(1)
    known = Calibrated(said=0.3)
    for _ in range(900):
        sure = chance.random()
        known.learn(sure, chance.random() < sure ** 2)
    shares, weights = [0.005 * place for place in range(101)], [0.5] * 101
    for place, right in known.learnt:
        shares[place] += right
        weights[place] += 1
    theirs = IsotonicRegression().fit_transform(
        np.arange(101), np.divide(shares, weights), sample_weight=np.array(weights))
    for place in (0, 20, 50, 77, 100):
        found = known.guess({place: 1})
        assert found is not None
        assert found.value == pytest.approx(theirs[place])


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_comes_true_where_rows_become_harder(seed: int) -> None:
    """An over-confident version: it says 1 - (1 - p) ** 2 where it is right with p."""
    chance = random.Random(seed)
    known = Calibrated()

    def served(low: float) -> tuple[int, bool]:
        right = chance.uniform(low, 1.0)
        return round(100 * (1 - (1 - right) ** 2)), chance.random() < right

    for _ in range(1_000):
        place, well = served(0.5)
        known.learn(place / 100, well)
    harder = [served(0.5) if chance.random() < 0.2 else (75, chance.random() < 0.5) for _ in range(2_000)]
    counts: dict[int, int] = {}
    for place, _ in harder:
        counts[place] = counts.get(place, 0) + 1
    found = known.guess(counts)
    assert found is not None
    truth = sum(well for _, well in harder) / len(harder)
    assert abs(found.value - truth) < 4 * math.hypot(found.error, math.sqrt(truth * (1 - truth) / len(harder)))
    assert abs(sum(place * count for place, count in counts.items()) / 200_000 - truth) > 0.15


def test_nothing_is_estimated_of_probabilities_that_nobody_calibrated() -> None:
    assert Calibrated().guess({60: 500}) is None
    assert Calibrated(said=0.3).guess({60: 500}) is None
    assert Calibrated(said=0.05).guess({}) is None
    assert Calibrated(said=0.05).guess({60: 500}) is not None


def test_errors_are_estimated_of_the_size_of_answers_and_not_outside_of_what_was_labelled() -> None:
    chance = random.Random(2)
    losses = {metric: Losses(metric) for metric in ("mae", "rmse")}
    for _ in range(1_000):
        said = chance.uniform(1, 10)
        for one in losses.values():
            one.learn(said, said + chance.gauss(0, said))
    large = [chance.uniform(8, 9.9) for _ in range(300)]
    mae, rmse = losses["mae"].guess(large), losses["rmse"].guess(large)
    assert mae is not None
    assert rmse is not None
    assert mae.value == pytest.approx(9 * math.sqrt(2 / math.pi), rel=0.15)
    assert rmse.value == pytest.approx(9, rel=0.15)
    assert losses["mae"].guess([50.0] * 300) is None
    assert Losses("mae").guess(large) is None


# What is told.

def test_answers_that_become_unsure_while_no_labels_come_are_told_to_a_person_and_nothing_is_done(world: World) -> None:
    answer(world, 60, 92, 98)
    assert world.decisions == []
    answer(world, 19, 55, 65)
    assert world.decisions == []
    answer(world, 10, 55, 65)
    first = world.decisions[0].incident
    assert (first.symptom, first.cause, first.target) == ("estimated_loss", "model:phishing", "model:phishing")
    assert "accuracy is estimated as 0.6" in first.timeline[0].detail
    assert "0.950 when published" in first.timeline[0].detail
    assert (world.last().state, world.commands()) == ("escalated", [])
    answer(world, 10, 92, 98)
    assert world.last().state == "verified"
    assert list(replay(world.written())) == world.made


def test_labels_calibrate_where_nothing_was_said_at_publication_and_their_reference_is_kept() -> None:
    world = World().healthy()
    world.tick(RULES, model(accuracy=0.9))
    answer(world, 40, 60)
    assert world.decisions == []
    for _ in range(6):
        label(world, 75, 8, 0.99)
        label(world, 10, 7, 0.7)
    answer(world, 40, 99)
    assert world.decisions == []
    answer(world, 40, 70)
    assert [decision.incident.symptom for decision in world.decisions] == ["estimated_loss"] * 2
    assert "calibrated by 600 labelled ones" in world.last().timeline[0].detail


def test_labels_that_say_it_is_well_end_it_and_it_stays_so(world: World) -> None:
    answer(world, 40, 60)
    assert world.last().state == "escalated"
    label(world, 300, 15, 0.6)
    assert world.last().state == "verified"
    assert "labels came and decide: accuracy 0.9" in world.last().verdict
    answer(world, 60, 60)
    assert len({decision.incident.id for decision in world.decisions}) == 1


def test_labels_that_say_it_is_lost_take_over(world: World) -> None:
    world.tick(model(2, 1))
    answer(world, 40, 60, version=2)
    assert world.last().symptom == "estimated_loss"
    label(world, 40, 60, 0.6, version=2)
    states = {decision.incident.symptom: decision.incident.state for decision in world.decisions}
    assert states == {"estimated_loss": "verified", "quality_loss": "commanded"}
    assert world.orders() == [("roll_back", "model:phishing")]


def test_labels_of_an_hour_ago_do_not_decide_about_now(world: World) -> None:
    for _ in range(8):
        answer(world, 5, 60)
        label(world, 95, 5, 0.95, late_s=3_600.0)
    assert world.last().symptom == "estimated_loss"


def test_labels_that_come_in_time_decide_and_nothing_is_estimated(world: World) -> None:
    for _ in range(20):
        answer(world, 4, 60)
        label(world, 19, 1, 0.6, late_s=2.0)
    assert world.decisions == []


def test_a_retraining_is_commanded_where_the_pipeline_wants_it_and_proven_by_the_new_versions_answers() -> None:
    world = World().healthy()
    world.tick(replace(RULES, ladders=Ladders(estimated_loss=("retrain",))), model())
    answer(world, 40, 60)
    (command,) = world.commands()
    assert (command.action, command.target, command.arguments) == ("retrain", "model:phishing", {})
    world.tick(Answered(command.command_id, "done"), model(2, 1))
    answer(world, 1, 95, version=2)
    assert world.last().state == "commanded"
    answer(world, 3, 95, version=2)
    assert world.last().state == "verified"
    assert "version 2: accuracy is estimated as 0.9" in world.last().verdict


def test_a_retrained_version_that_cannot_be_estimated_is_proven_by_held_out_rows() -> None:
    world = World().healthy()
    world.tick(replace(RULES, ladders=Ladders(estimated_loss=("retrain",))), model())
    answer(world, 40, 60)
    world.tick(model(2, 1, accuracy=0.93))
    world.run(NO_LABELS_S + 2)
    assert world.last().state == "verified"
    assert "held-out rows" in world.last().verdict


def test_broken_data_that_is_dealt_with_explains_it(world: World) -> None:
    for _ in range(12):
        world.tick(rows(good=2, broken=95))
        answer(world, 2, 60)
    assert {decision.incident.symptom for decision in world.decisions} == {"broken_data"}


def test_numbers_of_a_size_that_errors_grow_with_are_told_too() -> None:
    chance = random.Random(4)
    world = World().healthy()
    world.tick(replace(RULES, quality=QualityRule("mae", 100, 60, 0.15)), model(mae=0.8))

    def say(low: float, high: float, labelled: bool) -> None:
        for _ in range(50):
            said = [chance.uniform(low, high) for _ in range(10)]
            told = [Judged("phishing", 1, one + chance.gauss(0, one / 5), one) for one in said] if labelled else []
            world.tick(Predicted("phishing", 1, (), tuple(said)), *told)
            world.run(0.75)

    say(1, 9, labelled=True)
    say(1, 9, labelled=False)
    assert world.decisions == []
    say(7, 9, labelled=False)
    assert world.last().symptom == "estimated_loss"
    assert "mae is estimated as 1." in world.last().timeline[0].detail


# Everyday life.

def test_two_days_in_waves_are_no_symptom(world: World) -> None:
    chance = random.Random(5)
    for number in range(400):
        wave = 88 + 7 * math.sin(number / 200 * 2 * math.pi)
        answer(world, 1, round(wave + chance.uniform(-4, 4)), min(99, round(wave + 5)), true=0.5 + wave / 1000)
    assert world.decisions == []


def test_what_waves_that_labels_have_called_well_look_like_is_usual_when_labels_stop() -> None:
    world = World().healthy()
    world.tick(replace(RULES, quality=QualityRule("accuracy", 100, 60, 0.05)), model(accuracy=0.9))
    for number in range(40):
        low = number % 20 > 12
        answer(world, 2, 83 if low else 92)
        label(world, 89 if not low else 86, 11 if not low else 14, 0.83 if low else 0.92)
    answer(world, 40, 83)
    assert world.decisions == []


def test_classes_that_shift_without_a_loss_are_no_symptom(world: World) -> None:
    answer(world, 40, 94, true=0.5)
    answer(world, 40, 93, 95, true=0.95)
    assert {decision.incident.symptom for decision in world.decisions} == {"answer_drift"}


def test_few_answers_say_nothing(world: World) -> None:
    answer(world, 19, 60, each=10)
    world.run(120)
    assert world.decisions == []


def test_a_moment_of_hard_rows_is_no_symptom(world: World) -> None:
    for _ in range(5):
        answer(world, 20, 95)
        answer(world, 3, 55)
    assert world.decisions == []


def test_a_version_that_says_of_itself_how_far_off_it_is_gets_that_much_more() -> None:
    world = World().healthy()
    world.tick(RULES, model(accuracy=0.95, calibration_error=0.09))
    answer(world, 60, 75)
    assert world.decisions == []


# How it comes in.

async def test_answers_are_counted_by_how_sure_they_are_and_labels_tell_how_late_they_came() -> None:
    clock = FakeClock()
    observing = Observing("watchdog", clock)
    observing.pipeline("shop", pipeline("shop"))
    observing.model(ModelState(model="shop", revision=1, champion=3, versions=[
        ModelVersion(version=3, manifest=ModelManifest(version=3, classes=["false", "true"]))]))
    observing.take()
    observing.predicted("shop", [Served("a", 3, "true", (0.2, 0.8)), Served("b", 3, "false", (0.6, 0.4)),
                                 Served("c", 3, "true", (0.2, 0.801)), Served("d", 3, "true")])
    await clock.advance(7.0)
    observing.turned_out("shop", Outcome(event_id="a", flag=True))
    observing.turned_out("shop", Outcome(event_id="d", flag=False))
    judged, unsure, counted, labelled = observing.take()
    assert judged == Judged("shop", 3, "true", "true", 0.8, 0.8, 0.8, 7.0)
    assert unsure == Judged("shop", 3, "false", "true", late_s=7.0)
    assert counted == Predicted("shop", 3, (("false", 1), ("true", 3)), (), ((60, 1), (80, 2)))
    assert labelled == Labelled("shop", 2)
