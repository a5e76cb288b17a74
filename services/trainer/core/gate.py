"""Whether a candidate may answer requests: its metrics against the Pipeline's bounds and against the champion.

Where `gate.significance` is given, the lead must also be more than luck with these rows: a paired bootstrap of the
gate's metric over the held-out rows (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapters 13 and
16), one-sided against the lead asked for in `beat_champion_by`; below 0 it is a test of non-inferiority.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lepton.contracts.modelling.blocks import Fairness
from lepton.contracts.pb.models_pb2 import Shrinking
from lepton.contracts.pipeline_blocks import LOWER_IS_BETTER, Gate

CHANCE = "champion_chance"
"""The candidate's figure that holds the test's outcome: the chance that its lead is not above what is asked for."""

GAP = "fairness_gap"
"""The candidate's figure that says how far apart it treats two groups."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` say why not, each with its figures; empty when the gate is passed."""

    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def decide(gate: Gate, candidate: Mapping[str, float], champion: Mapping[str, float] | None,
           shrinking: Shrinking | None = None, fairness: Fairness | None = None) -> Verdict:
    """Judge by the gate's metric; `champion` holds its metrics on the same rows, None when there is no champion.

    `shrinking` is what the candidate's file was made smaller by, None where it was not: its cost is judged too.
    `fairness` is what the Pipeline says of groups, whose gap is among the candidate's metrics.
    """
    value = candidate.get(gate.metric, math.nan)
    if not math.isfinite(value):
        return Verdict((f"{gate.metric} could not be measured on the held-out rows",))
    reasons = [] if shrinking is None else list(too_dear(shrinking))
    if gate.at_least is not None and value < gate.at_least:
        reasons.append(f"{gate.metric} {value:.4g} is below {gate.at_least:g}")
    if gate.at_most is not None and value > gate.at_most:
        reasons.append(f"{gate.metric} {value:.4g} is above {gate.at_most:g}")
    best = math.nan if champion is None else champion.get(gate.metric, math.nan)
    if math.isfinite(best):
        gain = best - value if gate.metric in LOWER_IS_BETTER else value - best
        # A hair of tolerance: figures that are equal but for rounding must not fail `beat_champion_by: 0`.
        if gain < gate.beat_champion_by - 1e-9:
            reasons.append(f"{gate.metric} {value:.4g} does not beat the champion's {best:.4g} "
                           f"by {gate.beat_champion_by:g}")
        elif gate.significance is not None:
            reasons += _luck(gate.significance, gate.metric, candidate.get(CHANCE, math.nan))
    reasons += unequal(fairness, candidate)
    return Verdict(tuple(reasons))


def too_dear(shrinking: Shrinking) -> tuple[str, ...]:
    """Why a smaller file is kept out: it costs more of the gate's metric than was allowed; empty where it does not."""
    if shrinking.full_served or shrinking.cost <= shrinking.max_cost:
        return ()
    how = " and ".join(shrinking.methods)
    if not math.isfinite(shrinking.cost):
        return (f"{how} gives no finite answer to extreme rows",)
    return (f"{how} costs {shrinking.cost:.4g} of {shrinking.metric}, more than {shrinking.max_cost:g}",)


def unequal(fairness: Fairness | None, candidate: Mapping[str, float]) -> tuple[str, ...]:
    """Why a candidate that treats declared groups too differently is kept out; empty where it does not."""
    if fairness is None or fairness.at_most is None:
        return ()
    gap, what = candidate.get(GAP, math.nan), fairness.criterion.replace("_", " ")
    if not math.isfinite(gap):
        return (f"too few rows of {' and '.join(fairness.groups)} were held out to tell {what}",)
    return (f"groups are {gap:.4g} apart by {what}, more than {fairness.at_most:g}",) if gap > fairness.at_most else ()


def _luck(significance: float, metric: str, chance: float) -> list[str]:
    if not math.isfinite(chance):
        return [f"whether its {metric} beats the champion's by more than chance could not be tested"]
    if chance > significance:
        return [f"its lead in {metric} is luck with a chance of {chance:.3g}, more than {significance:g}"]
    return []
