"""What became of a run so far, kept from the first fault on, so that nothing of it is lost however the run ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deploy.chaos.plan import Plan
from deploy.chaos.report import Outcome


@dataclass
class Course:
    """`told` is given each outcome as it is known. `in_hand`: the fault that the run is at; empty before and after."""

    plan: Plan
    told: Callable[[Outcome], None] = lambda outcome: None
    outcomes: list[Outcome] = field(default_factory=list)
    in_hand: str = ""

    def add(self, new: Sequence[Outcome]) -> bool:
        """Whether the run is over with these, for the budget is spent."""
        for one in new:
            self.outcomes.append(one)
            self.told(one)
        return bool(self.spent)

    @property
    def spent(self) -> str:
        """Which part of the budget is spent; empty while none is."""
        budget, outcomes = self.plan.budget, self.outcomes
        if sum(one.lost for one in outcomes) > budget.lost:
            return f"more than {budget.lost} events were lost"
        if sum(one.doubled for one in outcomes) > budget.doubled:
            return f"more than {budget.doubled} events were doubled"
        if any(one.failed_calls > budget.failed_calls * max(1, one.calls) for one in outcomes):
            return f"more than {budget.failed_calls:.0%} of the calls failed"
        if sum(map(_unhealed, outcomes)) > budget.unhealed:
            return f"more than {budget.unhealed} faults were not healed"
        if _last_unwell(outcomes) > budget.unwell:
            return f"the stack was not well before more than {budget.unwell} faults, one after the other"
        return ""

    def ended(self, failure: BaseException | None = None) -> str:
        """Why it ended before its time, in words; empty where it did not."""
        if failure is None:
            return self.spent
        at = f"at {self.in_hand}: " if self.in_hand else ""
        return f"{at}{failure if str(failure) else type(failure).__name__}"


def _unhealed(outcome: Outcome) -> bool:
    return any("not healed" in one or "not detected" in one for one in outcome.shortcomings)


def _last_unwell(outcomes: Sequence[Outcome]) -> int:
    count = 0
    for one in reversed(outcomes):
        if one.left_out != "unwell":
            break
        count += 1
    return count
