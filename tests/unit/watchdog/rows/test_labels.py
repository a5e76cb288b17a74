"""Labels that cease to come, and all the ways in which labels may be away that are nobody's fault."""

import pytest

from lepton.clock import FakeClock
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.pipeline import parse
from services.watchdog.core.inputs import AnyInput, Leads
from services.watchdog.core.rows.labels import LabelFlow
from services.watchdog.core.summaries.counts import Labelled, RowsSeen, SourceRows
from services.watchdog.core.thresholds.limits import VolumeRule
from services.watchdog.flow.observing import Observing
from tests.unit.watchdog.world import RULES, World, labels, model

RULE = VolumeRule()
STEP_S = 2.0
HOUR, DAY = 3_600.0, 86_400.0


class Shop:
    """A pipeline whose rows and labels come; `told`: whether labels are missed now."""

    def __init__(self, late_s: float | None = 0.0) -> None:
        self.flow, self.now, self.late_s = LabelFlow(), 1_000.0, late_s
        self.heard: list[float] = []
        """When it began to be told."""

    def go_on(self, for_s: float, rows: float, count: float, every_s: float = STEP_S) -> str:
        told = ""
        for _ in range(round(for_s / every_s)):
            self.now += every_s
            self.flow.accepted(rows, self.now, RULE)
            if count:
                self.flow.labelled(Labelled("p", round(count)), self.now, RULE)
                if self.late_s is not None:
                    # From hardly late to that.
                    self.flow.late(self.late_s * (1 + round(self.now / every_s) % 10) / 10)
            before, told = told, self.flow.look(self.now, RULE)
            self.heard += [self.now] if told and not before else []
        return told


def test_labels_that_cease_are_missed_within_the_window_and_well_when_they_come() -> None:
    shop = Shop()
    assert not shop.go_on(700, 100, 100)
    began = shop.now
    told = shop.go_on(80, 100, 0)
    assert "100 labels in 60 s where" in told
    assert shop.heard[0] - began <= RULE.over_s + RULE.over_s / 6
    assert not shop.go_on(20, 100, 100)


def test_a_few_that_still_come_are_too_few() -> None:
    shop = Shop()
    shop.go_on(700, 100, 100)
    assert shop.go_on(80, 100, 5)


def test_labels_that_wait_for_their_events_are_missed_no_sooner_than_they_are_late() -> None:
    shop = Shop(late_s=300.0)
    shop.go_on(1_000, 100, 100)
    assert not shop.go_on(450, 100, 0)
    assert shop.go_on(300, 100, 0)


@pytest.mark.parametrize("late_s", [0.0, 300.0])
def test_a_flow_of_events_that_stopped_is_not_blamed_on_labels(late_s: float) -> None:
    shop = Shop(late_s)
    shop.go_on(1_000, 100, 100)
    shop.go_on(late_s, 0, 100)
    shop.go_on(1_200 - late_s, 0, 0)
    # The events are back, and their labels not yet.
    shop.go_on(late_s, 100, 0)
    shop.go_on(1_200, 100, 100)
    assert shop.heard == []
    assert shop.go_on(800, 100, 0)


def test_once_missed_they_are_missed_until_they_come_whatever_events_do() -> None:
    shop = Shop()
    shop.go_on(700, 100, 100)
    shop.go_on(80, 100, 0)
    assert shop.go_on(300, 0, 0)
    assert not shop.go_on(20, 100, 100)


def test_a_pipeline_without_labels_is_left_alone() -> None:
    shop = Shop()
    assert not shop.go_on(3_600, 100, 0)
    assert shop.heard == []


def test_one_of_few_labels_is_left_alone() -> None:
    shop = Shop()
    shop.go_on(3_600, 1, 0.5, 6.0)
    shop.go_on(3_600, 1, 0, 6.0)
    assert shop.heard == []


def test_what_began_small_or_with_labels_of_old_events_is_learnt_as_it_grows() -> None:
    shop = Shop()
    shop.go_on(300, 0, 100)
    shop.go_on(100, 0.2, 0.2, 10.0)
    shop.go_on(1_500, 100, 100)
    assert shop.go_on(80, 100, 0)


def test_labels_that_come_all_at_once_each_week_are_left_alone() -> None:
    shop = Shop(late_s=7 * DAY)
    for _ in range(4):
        shop.go_on(900, 2_250, 3_000, 45.0)
        shop.go_on(7 * DAY - 900, 9_000, 0, 180.0)
    assert shop.heard == []


def test_a_backlog_of_labels_that_ends_is_not_missed() -> None:
    shop = Shop()
    shop.go_on(900, 100, 1_000)
    shop.go_on(3_600, 100, 0)
    assert shop.heard == []


def test_of_unknown_delay_labels_are_missed_after_a_day_only() -> None:
    shop = Shop(late_s=None)
    shop.go_on(1_200, 3_000, 3_000, 60.0)
    assert not shop.go_on(HOUR, 3_000, 0, 60.0)
    assert shop.go_on(1.6 * DAY, 3_000, 0, 60.0)


def test_nights_without_labels_are_usual_from_the_sixth_on() -> None:
    shop = Shop()
    for _ in range(8):
        shop.go_on(10 * HOUR, 3_000, 3_000, 60.0)
        shop.go_on(14 * HOUR, 3_000, 0, 60.0)
    assert len(shop.heard) == 5


def test_one_long_stop_does_not_hide_the_next() -> None:
    shop = Shop()
    shop.go_on(700, 100, 100)
    shop.go_on(3_600, 100, 0)
    shop.go_on(700, 100, 100)
    assert shop.go_on(80, 100, 0)


def test_labels_with_their_events_are_known_to_be_early() -> None:
    shop = Shop(late_s=None)
    for _ in range(350):
        shop.flow.labelled(Labelled("p", 0, with_event=True), shop.now, RULE)
        shop.go_on(2, 100, 100)
    assert shop.go_on(80, 100, 0)


def test_the_incident_names_the_labels_tells_a_person_and_ends_by_itself() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    for place in range(800):
        came: list[AnyInput] = [Labelled("phishing", 50), *labels(1, 1, 0)] if not 360 <= place < 420 else []
        world.tick(RowsSeen("phishing", (SourceRows("a", 100, 0, 0, 0),)), *came, gap_s=1.0)
        world.tick(gap_s=1.0)
        if world.decisions and world.last().state == "verified":
            break
    incident = world.last()
    assert (incident.symptom, incident.cause, incident.target) == (
        "no_labels", "data:phishing/labels", "pipeline:phishing")
    assert world.states_seen() == ["suspected", "escalated", "verified"]
    assert world.orders() == []
    assert any("a person is needed" in decision.alert for decision in world.decisions)


def test_a_watchdog_that_takes_over_ends_it_only_once_labels_come() -> None:
    world = World().healthy()
    world.tick(RULES, model(1))
    rows = RowsSeen("phishing", (SourceRows("a", 100, 0, 0, 0),))
    for place in range(430):
        came: list[AnyInput] = [Labelled("phishing", 50), *labels(1, 1, 0)] if place < 360 else []
        world.tick(rows, *came, gap_s=1.0)
        world.tick(gap_s=1.0)
    standing = world.last()
    assert (standing.symptom, standing.state) == ("no_labels", "escalated")
    other = World().healthy()
    other.tick(RULES, model(1), Leads(2, (standing,)))
    for _ in range(60):
        other.tick(rows, gap_s=1.0)
    assert other.decisions == []
    for _ in range(100):
        other.tick(rows, Labelled("phishing", 50), gap_s=1.0)
    assert other.last().state == "verified"


def test_a_backlog_at_the_beginning_does_not_hide_that_labels_cease() -> None:
    shop = Shop()
    shop.go_on(60, 100, 5_000)
    shop.go_on(2_000, 100, 100)
    assert shop.heard == [] and shop.go_on(80, 100, 0)


def test_no_more_is_kept_of_rows_than_counts_whoever_looks() -> None:
    flow = LabelFlow()
    for place in range(1_000):
        flow.accepted(10, 10.0 * place, RULE)
    assert len(flow.rows.parts) <= 13


def test_outcomes_are_counted_between_two_ticks_by_how_they_came() -> None:
    observing = Observing("watchdog", FakeClock())
    observing.pipeline("shop", parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: shop}
events: {partitions: 1, fields: {x: {type: float}}, label: {field: y, type: bool, arrives: later}}
"""))
    for number in range(5):
        observing.turned_out("shop", Outcome(event_id=f"e{number}", entity="e", flag=True, with_event=number == 4))
    observing.turned_out("nobody", Outcome(event_id="e", entity="e", flag=True))
    assert [one for one in observing.take() if isinstance(one, Labelled)] == [
        Labelled("shop", 4), Labelled("shop", 1, with_event=True)]
    assert not [one for one in observing.take() if isinstance(one, Labelled)]
