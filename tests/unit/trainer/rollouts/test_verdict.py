"""The verdict on a candidate, from counts alone; and that to look all the time does not make it err more often."""

import numpy as np
import pytest

from lepton.contracts.modelling.serving import PLACES
from lepton.contracts.pb.models_pb2 import (
    ROLLOUT_STRATEGY_AB,
    ROLLOUT_STRATEGY_CANARY,
    ROLLOUT_STRATEGY_SHADOW,
    Rollout,
    RolloutStrategy,
    RolloutTerms,
)
from lepton.contracts.pb.telemetry_pb2 import ServedArm
from services.trainer.core.rollouts.labelled import Labelled, Losses
from services.trainer.core.rollouts.sequential import Share, costlier, larger
from services.trainer.core.rollouts.verdict import Arm, Evidence, Outcome, decide, evidence

TERMS = RolloutTerms(shares=[0.1, 0.5], step_s=60, min_answers=200, max_failures=0.005, max_slower=1.5,
                     min_agreement=0.8, significance=0.05, limit_s=3600)
FAST, SLOW = 30, 50
"""8 ms and 700 ms."""


def rollout(step: int = 0, strategy: RolloutStrategy.ValueType = ROLLOUT_STRATEGY_CANARY) -> Rollout:
    return Rollout(candidate=2, champion=1, strategy=strategy, share=0.1, step=step, since=7, terms=TERMS)


def arm(runs: int, *, at: int = FAST, slow: int = 0, failed: int = 0, compared: int = 0, agreed: int = 0) -> Arm:
    counts = [0] * PLACES
    counts[at], counts[SLOW] = runs, slow
    return Arm(answered=runs + slow, failed=failed, runs=counts, compared=compared,
               agreed=agreed)


def outcome(candidate: Arm, champion: Arm | None = None, elapsed_s: float = 61, step: int = 0) -> Outcome:
    return decide(rollout(step), Evidence(champion or arm(2000), candidate), elapsed_s).outcome


@pytest.mark.parametrize(("candidate", "elapsed_s", "step", "expected"), [
    (arm(300), 61, 0, Outcome.STEP),
    (arm(300), 61, 1, Outcome.PROMOTE),
    (arm(300), 59, 0, Outcome.WAIT),
    (arm(199), 61, 0, Outcome.WAIT),
    (arm(199), 3600, 0, Outcome.UNDECIDED),
    (arm(0, failed=12), 1, 0, Outcome.REVERT),
    (arm(300, failed=60), 1, 0, Outcome.REVERT),
    (arm(0, slow=60), 1, 0, Outcome.REVERT),
    (arm(200, slow=100), 1, 0, Outcome.REVERT),
    (arm(300, failed=3), 61, 0, Outcome.WAIT),
    (arm(300, at=FAST + 1), 61, 0, Outcome.STEP),
    (Arm(refused="it takes other tensors"), 1, 0, Outcome.REVERT),
])
def test_a_candidate_goes_on_waits_or_is_left(candidate: Arm, elapsed_s: float, step: int, expected: Outcome) -> None:
    assert outcome(candidate, None, elapsed_s, step) is expected


def test_a_candidate_that_fails_no_more_than_the_champion_goes_on() -> None:
    assert outcome(arm(270, failed=30), arm(1800, failed=200)) is Outcome.STEP


def test_without_a_champion_s_answers_there_is_no_verdict() -> None:
    assert outcome(arm(300), Arm()) is Outcome.WAIT


def test_microseconds_more_are_not_slower() -> None:
    assert outcome(arm(300, at=10), arm(2000, at=2)) is Outcome.STEP


@pytest.mark.parametrize(("agreed", "expected"), [(290, Outcome.PROMOTE), (200, Outcome.REVERT)])
def test_a_shadow_takes_over_or_is_left_by_how_often_it_agrees(agreed: int, expected: Outcome) -> None:
    found = Evidence(arm(300), arm(300, compared=300, agreed=agreed))
    verdict = decide(rollout(strategy=ROLLOUT_STRATEGY_SHADOW), found, 61)
    assert verdict.outcome is expected
    assert f"{agreed / 300:.1%}" in verdict.reason


def test_what_instances_told_of_the_step_is_added_up_and_nothing_else() -> None:
    told = [ServedArm(version=2, since=7, answered=5, failed=1, runs=[0, 5]),
            ServedArm(version=2, since=7, answered=3, runs=[1, 1, 1]),
            ServedArm(version=2, since=6, answered=50, runs=[50]), ServedArm(version=9, since=7, answered=50)]
    found = evidence(rollout(), told).candidate
    assert (found.answered, found.failed, found.runs[:3]) == (8, 1, [1, 6, 1])


def test_watching_all_the_time_leaves_a_good_candidate_no_more_often_than_was_said() -> None:
    chance = np.random.default_rng(5)
    wrong = 0
    for _ in range(200):
        mine, theirs = np.cumsum(chance.random((2, 2000)) < 0.1, axis=1)
        wrong += any(larger(Share(int(mine[n - 1]), n), Share(int(theirs[n - 1]), n), 0.0, 0.05)
                     for n in range(20, 2001, 20))
    assert wrong <= 0.05 * 200


def test_a_worse_candidate_is_found_out() -> None:
    chance = np.random.default_rng(6)
    found = 0
    for _ in range(50):
        mine, theirs = np.cumsum(chance.random((2, 2000)) < [[0.2], [0.1]], axis=1)
        found += any(larger(Share(int(mine[n - 1]), n), Share(int(theirs[n - 1]), n), 0.0, 0.05)
                     for n in range(20, 2001, 20))
    assert found >= 48


def labelled(mine: int, theirs: int, among: int = 400) -> Labelled:
    """So many answers of candidate and champion were wrong."""
    found = Labelled(1, 2)
    for version, wrong in ((1, theirs), (2, mine)):
        for number in range(among):
            found.answered(f"{version}-{number}", version, "true")
            found.turned_out(f"{version}-{number}", "false" if number < wrong else "true")
    return found


def test_answers_and_labels_are_joined_in_either_order_once_and_for_the_two_versions_only() -> None:
    found = Labelled(1, 2)
    found.turned_out("a", 3.0)
    found.answered("a", 1, 2.5)
    found.answered("b", 2, "1")
    found.turned_out("b", 1.0)
    found.turned_out("b", 0.0)
    found.answered("c", 7, "1")
    found.turned_out("c", 0.0)
    assert (found.losses[1].count, found.losses[1].mean) == (1, 0.5)
    assert (found.losses[2].count, found.losses[2].mean) == (1, 0.0)


@pytest.mark.parametrize(("mine", "theirs", "expected"), [
    (40, 120, Outcome.PROMOTE), (120, 40, Outcome.REVERT), (80, 82, Outcome.WAIT)])
def test_two_versions_answer_until_labels_show_which_is_better(mine: int, theirs: int, expected: Outcome) -> None:
    found = Evidence(arm(2000), arm(2000), labelled(mine, theirs))
    one = rollout(strategy=ROLLOUT_STRATEGY_AB)
    del one.terms.shares[1:]
    assert decide(one, found, 61).outcome is expected
    assert decide(one, Evidence(arm(2000), arm(2000)), 61).outcome is Outcome.WAIT
    assert decide(one, Evidence(arm(2000), arm(2000)), 3601).outcome is Outcome.UNDECIDED


def test_a_canary_that_is_wrong_more_often_is_left() -> None:
    assert decide(rollout(), Evidence(arm(2000), arm(300), labelled(120, 40)), 1).outcome is Outcome.REVERT
    assert decide(rollout(), Evidence(arm(2000), arm(300), labelled(40, 120)), 61).outcome is Outcome.STEP


def test_watching_losses_all_the_time_errs_no_more_often_than_was_said() -> None:
    chance = np.random.default_rng(7)
    wrong = found = 0
    for worse in (0.0, 0.5):
        for _ in range(100):
            mine, theirs = Losses(), Losses()
            shown = False
            for one, other in chance.exponential(1.0, (600, 2)).tolist():
                mine.add(one + worse)
                theirs.add(other)
                shown = shown or costlier(mine, theirs, 0.05)
            wrong += shown and not worse
            found += shown and worse > 0
    assert wrong <= 5
    assert found >= 98
