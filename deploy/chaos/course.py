"""What became of a run so far, kept from the first fault on, so that nothing of it is lost however the run ends."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from deploy.chaos.plan import Plan
from deploy.chaos.report import Outcome
from lepton.errors import Invalid


@dataclass
class Course:
    """`told` is given each outcome as it is known. `in_hand`: the fault that the run is at; empty before and after.

    `outcomes` that it begins with are of an earlier go at the same plan; what they are of is not struck again.
    """

    plan: Plan
    told: Callable[[Outcome], None] = lambda outcome: None
    outcomes: list[Outcome] = field(default_factory=list)
    in_hand: str = ""

    def add(self, new: Sequence[Outcome]) -> bool:
        """Whether the run is over with these, for the budget is spent."""
        # All of them first: of a pair, half is never kept.
        self.outcomes.extend(new)
        for one in new:
            self.told(one)
        return bool(self.spent)

    @property
    def done(self) -> frozenset[tuple[int, tuple[str, ...]]]:
        """In which round what was struck, by the names in the plan: two of a pair."""
        return frozenset((one.round, one.of or (one.fault,)) for one in self.outcomes)

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


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file of outcomes holds. `plan`: the name of the plan. `faults`: what is done and asked for, by name."""

    plan: str
    faults: dict[str, str]
    outcomes: tuple[Outcome, ...]


_FORM = TypeAdapter(_Kept)


def keep(path: Path, course: Course) -> None:
    """Write the outcomes so far to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(_FORM.dump_json(_Kept(course.plan.name, _faults(course.plan), tuple(course.outcomes)),
                                     indent=1))
    part.replace(path)


def kept(path: Path, plan: Plan) -> list[Outcome]:
    """The outcomes of an earlier go; none where there is no file.

    What was left out then, and what the plan has otherwise now, is struck anew. Raises Invalid for a file that holds no
    outcomes, or those of another plan.
    """
    try:
        found = _FORM.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise Invalid("no outcomes of a run can be read from it", field="--resume", place=str(path),
                      remedy="name another file") from error
    if found.plan != plan.name:
        raise Invalid(f"its outcomes are of the plan {found.plan}, not {plan.name}", field="--resume", place=str(path),
                      remedy="name another file, and all of the plan is struck")
    now = _faults(plan)
    same = {name for name, meant in found.faults.items() if now.get(name) == meant}
    return [one for one in found.outcomes if not one.left_out and same.issuperset(one.of or (one.fault,))]


def _faults(plan: Plan) -> dict[str, str]:
    """SHA-256 of each fault with the events that flow beside it, but for where their rows lie."""
    beside = f"{plan.pipeline} {plan.flow.model_dump_json(exclude={'rows'})}"
    return {one.name: hashlib.sha256(f"{beside} {one.model_dump_json()}".encode()).hexdigest() for one in plan.faults}


def _unhealed(outcome: Outcome) -> bool:
    return any("not healed" in one or "not detected" in one for one in outcome.shortcomings)


def _last_unwell(outcomes: Sequence[Outcome]) -> int:
    count = 0
    for one in reversed(outcomes):
        if one.left_out != "unwell":
            break
        count += 1
    return count
