"""When a run of faults ends before its time: which part of the budget is spent, and that the run is told so."""

from pathlib import Path

import pytest

from deploy.chaos.course import Course
from deploy.chaos.plan import Plan, read
from deploy.chaos.report import Outcome
from deploy.chaos.verdict import Seen
from tests.unit.chaos.test_plan import written


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return read(written(tmp_path, "flow: {rows: rows.csv, label: y}\n"
                                  "faults: [{name: ended, do: kill, target: ingest}]\n"
                                  "budget: {lost: 2, doubled: 1, failed_calls: 0.1, unhealed: 1}\n"))


def outcome(lost: int = 0, doubled: int = 0, failed_calls: int = 0, calls: int = 100, short: str = "") -> Outcome:
    return Outcome("ended", 1, Seen(), None, 50, lost, doubled, calls, failed_calls, (short,) if short else ())


@pytest.mark.parametrize(("within", "last", "why"), [
    ([outcome(lost=1), outcome(lost=1)], outcome(lost=1), "more than 2 events were lost"),
    ([outcome(doubled=1)], outcome(doubled=1), "more than 1 events were doubled"),
    ([outcome(failed_calls=10)], outcome(failed_calls=11), "more than 10% of the calls failed"),
    ([outcome(failed_calls=10), outcome(failed_calls=10)], outcome(failed_calls=1, calls=0),
     "more than 10% of the calls failed"),
    ([outcome(short="it was not healed")], outcome(short="it was not detected"), "more than 1 faults were not healed"),
], ids=["lost", "doubled", "failed calls", "calls that were not answered", "unhealed"])
def test_a_run_goes_on_within_its_budget_and_ends_with_the_fault_that_spends_it(
        plan: Plan, within: list[Outcome], last: Outcome, why: str) -> None:
    told: list[Outcome] = []
    course = Course(plan, told.append)
    for one in within:
        assert not course.add([one])
        assert course.ended() == ""
    assert course.add([last])
    assert course.ended() == why
    assert told == course.outcomes == [*within, last]


def test_what_is_not_as_expected_and_was_healed_spends_nothing(plan: Plan) -> None:
    assert not Course(plan).add([outcome(short="healed in 30.0 s, not 10")] * 5)
