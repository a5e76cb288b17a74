"""Weeks of a depot, drawn from a stated model: what was asked for, what was decided and what came of it.

    python -m examples.allocation.data > decisions.jsonl        one JSON row a line, in order of time

A week begins with four generators and has ten requests, one after another: half of them of low urgency, three in ten of
normal, two in ten of high. `give` brings 1, 3 or 8 by urgency and takes a generator; without one it costs 1. `refer`
brings half of that less 1 and takes none; `hold` brings nothing. Those who decided last year looked at nothing: in one
week of two somebody gave two times of ten, in the others six times of ten, and else held or referred alike. These
chances are logged. The same `--seed` gives the same rows.
"""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

URGENCIES, SHARES, BENEFITS = ("low", "normal", "high"), (0.5, 0.3, 0.2), (1.0, 3.0, 8.0)
ACTIONS, HABITS = ("hold", "give", "refer"), ((0.4, 0.2, 0.4), (0.2, 0.6, 0.2))
GENERATORS, REQUESTS = 4, 10
START = datetime(2026, 1, 5, 8, tzinfo=UTC)

State = dict[str, Any]
Decide = Callable[[State], str]


def came_of(stock: int, urgency: str, decision: str) -> tuple[float, int]:
    """What a decision brings, and the stock after it."""
    benefit = BENEFITS[URGENCIES.index(urgency)]
    if decision == "give":
        return (benefit, stock - 1) if stock else (-1.0, 0)
    return (benefit / 2 - 1.0 if decision == "refer" else 0.0), stock


def week(decide: Decide, chance: np.random.Generator) -> list[tuple[State, str, float]]:
    """State, decision and benefit of each request of a week."""
    found, stock = [], GENERATORS
    for left in range(REQUESTS, 0, -1):
        state: State = {"stock": stock, "requests_left": left, "urgency": str(chance.choice(URGENCIES, p=SHARES))}
        decision = decide(state)
        benefit, stock = came_of(stock, state["urgency"], decision)
        found.append((state, decision, benefit))
    return found


def decisions(weeks: int = 400, seed: int = 7) -> list[dict[str, Any]]:
    """Rows of so many weeks with the benefit beside each event, in order of time."""
    chance = np.random.default_rng(seed)
    rows = []
    for number in range(weeks):
        habit = HABITS[number % 2]

        def choose(_: State, habit: tuple[float, ...] = habit) -> str:
            return str(chance.choice(ACTIONS, p=habit))

        for place, (state, decision, benefit) in enumerate(week(choose, chance)):
            rows.append({"event_id": f"d-{seed}-{number:04d}-{place}", "week": f"week-{seed}-{number:04d}",
                         "occurred_at": (START + timedelta(hours=16 * number + place)).isoformat(), **state,
                         "decision": decision, "chance": habit[ACTIONS.index(decision)],
                         "last": state["requests_left"] == 1, "benefit": benefit})
    return rows


def worth(decide: Decide, discount: float, weeks: int = 2000, seed: int = 11) -> float:
    """Mean discounted benefit of a week in which it is decided so: what an estimate from the log is held against."""
    chance = np.random.default_rng(seed)
    return float(np.mean([sum(benefit * discount ** place for place, (_, _, benefit) in enumerate(week(decide, chance)))
                          for _ in range(weeks)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    for row in decisions(given.weeks, given.seed):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
