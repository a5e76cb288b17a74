"""What a policy would have brought, judged from a log of what another one did; nothing of how either is learnt."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

UNKNOWN = -1
RARE = 1e-3
"""No action is taken to be rarer in the log than this: one row must not outweigh all others."""
FEATURES, RIDGE = 96, 1.0
FORGOTTEN, MOST_ROUNDS = 1e-3, 1000
"""What counts less than this is left out; and the most rounds of fitted Q evaluation."""
_ASCENTS = 300


@dataclass(frozen=True, slots=True)
class Log:
    """One entry a row, rows of an episode in order: the action's number (UNKNOWN: none of those known), its reward
    (NaN: unknown), whether the episode ended with it, the place of the next row (UNKNOWN: none), the number of the
    episode, and the chance with which the action was taken (NaN: not logged)."""

    action: Array
    reward: Array
    ended: Array
    next: Array
    episode: Array
    chance: Array

    @property
    def whole(self) -> Array:
        """Rows of episodes that came to their end and all of whose rewards are known."""
        count = int(self.episode.max(initial=-1)) + 1
        ended = np.bincount(self.episode, self.ended, count) > 0
        known = np.bincount(self.episode, ~np.isfinite(self.reward), count) == 0
        found: Array = (ended & known)[self.episode]
        return found

    def steps(self, which: Array) -> Array:
        """Rows of `which`, an episode a line in order, filled up with UNKNOWN: [episodes, longest]."""
        places = np.flatnonzero(which)
        places = places[np.argsort(self.episode[places], kind="stable")]
        _, first, counts = np.unique(self.episode[places], return_index=True, return_counts=True)
        found = np.full((len(counts), int(counts.max(initial=0))), UNKNOWN)
        for line, (start, count) in enumerate(zip(first, counts, strict=True)):
            found[line, :count] = places[start:start + count]
        return found


def logged_value(log: Log, which: Array, discount: float) -> float:
    """Mean discounted return of the episodes as they went; NaN where there is none."""
    rewards = _rewards(log, steps := log.steps(which))
    return float((rewards @ discount ** np.arange(steps.shape[1])).mean()) if steps.size else math.nan


def importance(log: Log, which: Array, chosen: Array, chances: Array, discount: float) -> tuple[float, float]:
    """Value of always doing what is `chosen`, and on how many episodes that rests.

    Per-decision weighted importance sampling (Precup, Sutton and Singh, *Eligibility traces for off-policy policy
    evaluation*, ICML 2000): a reward counts as much more as the actions that led to it were likelier under the policy
    than under the log, whose `chances` are those of the actions taken. Steps so far on that their reward counts less
    than FORGOTTEN are left out. The count is Kish's (sum w)^2 / sum w^2 of the weights at the last step. NaN where no
    episode went as the policy would have it up to there: with n actions that is one of n^steps, and so for short ones.
    """
    steps = log.steps(which)
    if not steps.size:
        return math.nan, 0.0
    steps = steps[:, discount ** np.arange(steps.shape[1]) >= FORGOTTEN]
    there = steps != UNKNOWN
    ratio = np.where(there, (log.action == chosen)[steps] / np.maximum(chances, RARE)[steps], 1.0)
    weights = np.cumprod(ratio, axis=1)
    total = weights.sum(axis=0)
    mean = (weights * _rewards(log, steps)).sum(axis=0) / np.where(total > 0, total, 1.0)
    last = weights[:, -1]
    rests_on = float(last.sum() ** 2 / (last ** 2).sum()) if last.any() else 0.0
    if not rests_on:
        return math.nan, 0.0
    return float(mean @ discount ** np.arange(steps.shape[1])), rests_on


def fitted(log: Log, which: Array, chosen: Array, columns: Array, actions: int, discount: float) -> float:
    """Value of always doing what is `chosen`, from the first rows of the episodes on; NaN where there is none.

    Fitted Q evaluation (Le, Voloshin and Yue, *Batch policy learning under constraints*, ICML 2019): what an action is
    worth is regressed on its reward and the worth of what is chosen next, round by round. The regression is a ridge an
    action, on the prepared `columns` and random ReLU features of them (Rahimi and Recht 2008). An action that the log
    never shows is taken for as bad as the worst that it does show.
    """
    steps = log.steps(which)
    if not steps.size:
        return math.nan
    mapped = _features(columns)
    goes_on = ~log.ended & (log.next != UNKNOWN)
    teaching = which & (log.action != UNKNOWN) & np.isfinite(log.reward) & (log.ended | goes_on)
    rows = [np.flatnonzero(teaching & (log.action == action)) for action in range(actions)]
    solvers = [_solver(mapped[one]) for one in rows]
    shown = np.array([len(one) > 0 for one in rows])
    low, high = log.reward[teaching].min(initial=0.0), log.reward[teaching].max(initial=0.0)
    after = np.where(goes_on, log.next, 0)
    worth = np.zeros(len(mapped))
    discounted = min(discount, 1 - 1e-3)
    rounds = 1 if discounted == 0 else min(MOST_ROUNDS, math.ceil(math.log(FORGOTTEN) / math.log(discounted)) + 1)
    for _ in range(rounds):
        wanted = np.where(np.isfinite(log.reward), log.reward, 0.0) + discounted * goes_on * worth[after]
        said = np.stack([mapped @ (solver @ wanted[one]) for one, solver in zip(rows, solvers, strict=True)], axis=1)
        # No return is beyond these, whatever a regression says far from its rows.
        said = np.clip(said, low / (1 - discounted), high / (1 - discounted))
        worst = np.where(shown, said, np.inf).min(axis=1)
        known = (chosen >= 0) & shown[np.maximum(chosen, 0)]
        worth = np.where(known, said[np.arange(len(said)), np.maximum(chosen, 0)], worst)
    return float(worth[steps[:, 0]].mean())


def habits(columns: Array, action: Array, actions: int) -> Array:
    """Weights [columns + 1, actions] of a multinomial regression of the actions taken: what the log's own policy was.

    Accelerated gradient ascent (Nesterov 1983) with the step that the curvature of softmax allows (Böhning 1992).
    """
    rows = _with_one(columns)
    hot = np.eye(actions)[action]
    weights = before = np.zeros((rows.shape[1], actions))
    pace = 2 * len(rows) / max(float(np.linalg.eigvalsh(rows.T @ rows)[-1]), 1e-12)
    for turn in range(1, _ASCENTS + 1):
        ahead = weights + (turn - 1) / (turn + 2) * (weights - before)
        step = pace * (rows.T @ (hot - likely(columns, ahead)) / len(rows) - RIDGE / len(rows) * ahead)
        weights, before = ahead + step, weights
    return weights


def likely(columns: Array, weights: Array) -> Array:
    """The chance of each action: [rows, actions]."""
    scores = _with_one(columns) @ weights
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Array = grown / grown.sum(axis=1, keepdims=True)
    return found


def _rewards(log: Log, steps: Array) -> Array:
    return np.where(steps != UNKNOWN, log.reward[steps], 0.0)


def _features(columns: Array) -> Array:
    chance = np.random.default_rng(2019)
    width = columns.shape[1]
    turned = columns @ chance.normal(0, 1 / math.sqrt(width), (width, FEATURES)) + chance.normal(0, 1, FEATURES)
    return np.concatenate([_with_one(columns), np.maximum(turned, 0.0)], axis=1)


def _solver(rows: Array) -> Array:
    """From what is wanted of these rows to the weights of a ridge regression."""
    found: Array = np.linalg.solve(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), rows.T)
    return found


def _with_one(columns: Array) -> Array:
    return np.concatenate([np.ones((len(columns), 1)), columns.astype(np.float64)], axis=1)
