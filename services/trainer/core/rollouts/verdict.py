"""The verdict on a candidate: goes a step on, takes over, is left, or waits; from counts alone."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lepton.contracts.modelling.serving import FASTEST_S, PLACES, SLOWER
from lepton.contracts.pb.models_pb2 import ROLLOUT_STRATEGY_AB, ROLLOUT_STRATEGY_SHADOW, Rollout
from lepton.contracts.pb.telemetry_pb2 import ServedArm
from services.trainer.core.rollouts.labelled import Labelled, Losses
from services.trainer.core.rollouts.sequential import Share, costlier, larger

QUANTILE, MORE_SLOW = 0.95, 0.05
"""The champion's 95th percentile says what is slow; of the candidate's runs as many again may be slower."""
UNNOTICED_S = 0.001
"""What takes this much longer is not slower: a run of microseconds is easily doubled, and nobody sees it."""
TESTS = 3
"""Failures, slowness and labels; the chance to err is shared between them, and between the steps."""


class Outcome(Enum):
    WAIT = "wait"
    STEP = "step"
    PROMOTE = "promote"
    REVERT = "revert"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` says what was measured, for people."""

    outcome: Outcome
    reason: str


@dataclass(slots=True)
class Arm:
    """What one version did in a step, over all instances."""

    answered: int = 0
    failed: int = 0
    runs: list[int] = field(default_factory=lambda: [0] * PLACES)
    compared: int = 0
    agreed: int = 0
    refused: str = ""

    @property
    def failures(self) -> Share:
        return Share(self.failed, self.failed + sum(self.runs))

    def slower_than(self, place: int) -> Share:
        return Share(sum(self.runs[place + 1:]), sum(self.runs))

    def add(self, told: ServedArm) -> None:
        self.answered += told.answered
        self.failed += told.failed
        self.compared += told.compared
        self.agreed += told.agreed
        self.refused = self.refused or told.refused
        for place, count in enumerate(told.runs[:PLACES]):
            self.runs[place] += count


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both versions in the present step."""

    champion: Arm
    candidate: Arm
    labelled: Labelled | None = None
    """Of the whole rollout, since labels come late; None where nobody listens for them."""


def evidence(rollout: Rollout, told: Iterable[ServedArm], labelled: Labelled | None = None) -> Evidence:
    """What was told of the rollout's present step, added up; what belongs to another step is left out."""
    arms = {rollout.champion: Arm(), rollout.candidate: Arm()}
    for one in told:
        if one.since == rollout.since and one.version in arms:
            arms[one.version].add(one)
    return Evidence(arms[rollout.champion], arms[rollout.candidate], labelled)


def decide(rollout: Rollout, found: Evidence, elapsed_s: float) -> Verdict:
    """What is to become of the candidate `elapsed_s` after its step began.

    It is left as soon as it is shown to fail more often or to be slower than its terms allow; that may be looked for as
    often as one likes. It goes on only when the step is long enough, enough was measured, and nothing measured is worse
    than allowed, shown or not.
    """
    terms, mine, theirs = rollout.terms, found.candidate, found.champion
    if mine.refused:
        return Verdict(Outcome.REVERT, f"it cannot be served: {mine.refused}")
    shadow = rollout.strategy == ROLLOUT_STRATEGY_SHADOW
    significance = terms.significance / (TESTS * (1 if shadow else max(1, len(terms.shares))))
    failures, slow, usual = mine.failures, *_slow(theirs, mine, terms.max_slower)
    if larger(failures, theirs.failures, terms.max_failures, significance):
        return Verdict(Outcome.REVERT, f"it fails more often: {_told(failures)} of runs, {_of(theirs.failures)}")
    if larger(slow, usual, MORE_SLOW, significance):
        return Verdict(Outcome.REVERT, f"it is slower: {_told(slow)} of runs take longer than {terms.max_slower:g} "
                                       f"times the champion's 95th percentile, {_of(usual)}")
    mine_lost, theirs_lost = _losses(rollout, found.labelled)
    if costlier(mine_lost, theirs_lost, significance):
        return Verdict(Outcome.REVERT, f"it is worse by labels: {_lost(mine_lost, theirs_lost)}")
    measured = mine.compared if shadow else mine.answered
    missing = _missing(terms.min_answers, measured, elapsed_s, terms.step_s, theirs)
    if shadow and not missing and mine.agreed < terms.min_agreement * mine.compared:
        return Verdict(Outcome.REVERT, f"it agrees with the champion on {mine.agreed / mine.compared:.1%} of "
                                       f"{mine.compared} rows, less than {terms.min_agreement:.1%}")
    if not missing and failures.value - theirs.failures.value > terms.max_failures:
        missing = f"{_told(failures)} of its runs failed, {_of(theirs.failures)}, which may be chance"
    if not missing and slow.value - usual.value > MORE_SLOW:
        missing = f"{_told(slow)} of its runs are slow, {_of(usual)}, which may be chance"
    if not missing and rollout.strategy == ROLLOUT_STRATEGY_AB and not costlier(theirs_lost, mine_lost, significance):
        missing = f"it is not shown to be better by labels: {_lost(mine_lost, theirs_lost)}"
    if missing:
        return Verdict(Outcome.UNDECIDED if elapsed_s >= terms.limit_s else Outcome.WAIT, missing)
    last = shadow or rollout.step + 1 >= len(terms.shares)
    labels = f", {_lost(mine_lost, theirs_lost)}" if mine_lost.count and theirs_lost.count else ""
    agreement = f", {mine.agreed / mine.compared:.1%} as the champion" if shadow else ""
    return Verdict(Outcome.PROMOTE if last else Outcome.STEP,
                   f"{measured} rows answered{agreement}, {_told(failures)} of runs failed, {_of(theirs.failures)}"
                   + labels)


def _losses(rollout: Rollout, labelled: Labelled | None) -> tuple[Losses, Losses]:
    if labelled is None:
        return Losses(), Losses()
    return labelled.losses[rollout.candidate], labelled.losses[rollout.champion]


def _lost(mine: Losses, theirs: Losses) -> str:
    return (f"{mine.mean:.4g} lost an answer over {mine.count} labels, "
            f"the champion's {theirs.mean:.4g} over {theirs.count}")


def _missing(min_answers: int, measured: int, elapsed_s: float, step_s: float, champion: Arm) -> str:
    """Why there cannot be a verdict yet; empty when there can."""
    if elapsed_s < step_s:
        return f"the step lasts {step_s:g} s, {elapsed_s:.0f} s are over"
    if measured < min_answers:
        return f"{measured} rows of {min_answers} were measured"
    return "" if sum(champion.runs) else "the champion answered nothing to compare it with"


def _slow(champion: Arm, candidate: Arm, max_slower: float) -> tuple[Share, Share]:
    """Runs of candidate and champion that take longer than the champion's slow ones by more than is allowed."""
    place = _quantile(champion.runs)
    if place is None:
        return Share(0, 0), Share(0, 0)
    slow_s = FASTEST_S * SLOWER ** place
    allowed_s = max(slow_s * max_slower, slow_s + UNNOTICED_S)
    limit = min(PLACES - 1, math.ceil(math.log(allowed_s / FASTEST_S) / math.log(SLOWER)))
    return candidate.slower_than(limit), champion.slower_than(limit)


def _quantile(runs: Sequence[int]) -> int | None:
    """The place that QUANTILE of the runs do not pass; None without any."""
    total, seen = sum(runs), 0
    for place, count in enumerate(runs):
        seen += count
        if seen and seen >= QUANTILE * total:
            return place
    return None


def _told(share: Share) -> str:
    return f"{share.hits} of {share.among}"


def _of(champion: Share) -> str:
    return f"of the champion's {_told(champion)}"
