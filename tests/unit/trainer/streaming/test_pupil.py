"""A stream's learning from records to bytes: late labels, kills at any point, records that come twice or are broken."""

import numpy as np
import pytest

from lepton.contracts import codec
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from services.trainer.core.streaming.pupil import FEATURES, OUTCOMES, Given, Pupil
from tests.unit.trainer.streaming.records import STREAM_SPEC, labels, rows, spec


def test_rows_are_learnt_once_they_have_met_their_labels() -> None:
    pupil = Pupil(spec(), 1)
    assert pupil.take([rows(0, 40)]).waiting == {"rows": 40, "labels": 0}
    assert pupil.take(labels(20, 40)).seen == 20
    report = pupil.take([rows(40, 30)])
    assert (report.seen, report.waiting) == (40, {"rows": 30, "labels": 0})
    assert report.figures["accuracy"] > report.figures["baseline_accuracy"]


def test_a_killed_pupil_goes_on_from_its_bytes_as_if_nothing_had_been() -> None:
    records = [one for first in range(0, 200, 20) for one in (rows(first, 20), *labels(max(0, first - 30), 20))]
    whole, again, other = (Pupil(spec(), 1) for _ in range(3))
    for place in range(0, len(records), 17):
        report = whole.take(records[place:place + 17])
        # What the bytes hold already comes again, as after a kill.
        again.take(records[max(0, place - 30):place + 17])
        again = Pupil(spec(), 1, again.state())
    for place in range(0, len(records), 23):
        last = other.take(records[place:place + 23])
    assert again.state() == whole.state()
    assert report.seen == last.seen > 100
    # Sums over other batches differ in their last digits.
    assert last.figures == pytest.approx(report.figures, abs=1e-6)


def test_an_event_counts_once_however_often_its_label_comes() -> None:
    pupil = Pupil(spec(), 1)
    pupil.take([rows(0, 30), *labels(0, 30)])
    again = [one._replace(offset=1000 + place) for place, one in enumerate(labels(0, 30))]
    report = pupil.take(again)
    assert report.seen == 30 and report.waiting == {"rows": 0, "labels": 30}


def test_what_cannot_be_read_is_refused_with_its_place_and_the_rest_is_learnt() -> None:
    number = Given(OUTCOMES, 1, 1, codec.encode(Topic.OUTCOMES, Outcome(event_id="e", entity="e", number=1.0)))
    pupil = Pupil(spec(), 1)
    report = pupil.take([rows(0, 10), Given(FEATURES, 0, 50, b"no batch"), Given(OUTCOMES, 1, 0, b"\xff"),
                         *labels(0, 3), number])
    assert [place for place, _, _ in report.refused] == [1, 2, 6]
    assert report.seen == 3


def test_no_more_wait_than_may_and_the_oldest_are_given_up() -> None:
    pupil = Pupil(spec(STREAM_SPEC.replace("candidate_rows: 150", "candidate_rows: 150, wait_rows: 100")), 1)
    assert pupil.take([rows(0, 150)]).waiting["rows"] == 100
    assert pupil.take(labels(0, 60)).seen == 10


def test_a_state_of_another_course_is_refused() -> None:
    state = Pupil(spec(), 1).state()
    with pytest.raises(Invalid, match="another course"):
        Pupil(spec(STREAM_SPEC.replace("learning_rate", "seed: 8, learning_rate")), 1, state)
    with pytest.raises(Invalid, match="another course"):
        Pupil(spec(), 2, state)
    with pytest.raises(Invalid):
        Pupil(spec(), 1, b"no state")
    Pupil(spec(STREAM_SPEC.replace("at_least: 0.7", "at_least: 0.8")), 1, state)


def test_a_candidate_is_due_once_enough_was_learnt_and_judged_on_rows_since_the_last() -> None:
    pupil = Pupil(spec(), 1)
    assert not pupil.take([rows(0, 140), *labels(0, 140)]).due
    assert pupil.take([rows(140, 20), *labels(140, 20)]).due
    held = pupil.trial.rows
    assert 20 <= held <= 60
    assert Pupil(spec(), 1, pupil.state()).due
    pupil.offered()
    assert not pupil.due and pupil.trial.rows == 0
    pupil.take([rows(160, 150), *labels(160, 150)])
    assert pupil.due and not np.isnan(pupil.trial.scores).any()
