"""A late label is read as strictly as an event."""

from typing import Any

import pytest

from lepton.bus.records import Record
from lepton.contracts.feedback.opinions import is_opinion
from lepton.contracts.topics import Topic
from services.ingest.core.labels import Labels
from tests.harness import examples
from tests.unit.ingest.samples import pipeline, record, records


def labels(kind: str = "type: bool") -> Labels:
    return Labels(pipeline(("field: bought, type: bool", f"field: bought, {kind}")), 2)


def test_a_label_becomes_an_outcome() -> None:
    intake = labels().read(records({"event_id": "o-1", "label": True, "label_time": "2026-06-01T12:00:00+02:00"},
                                   {"event_id": 7, "entity": "c", "label": False, "label_time": 1.5, "more": 1},
                                   {"event_id": "o-3", "label": True, "entity": None}))
    first, second, third = intake.outcomes
    assert (first.event_id, first.entity, first.flag, first.spec_version, first.with_event) == (
        "o-1", "o-1", True, 2, False)
    assert first.label_time.ToJsonString() == "2026-06-01T10:00:00Z"
    assert (second.event_id, second.entity, second.flag) == ("7", "c", False)
    assert second.label_time.ToMicroseconds() == 1_500_000
    assert third.label_time.ToMilliseconds() == 1_780_000_000_000
    assert (intake.positions, intake.rejections) == ([0, 1, 2], [])


def test_a_label_that_was_carried_over_has_the_time_it_first_came_at() -> None:
    said = {"event_id": "o-1", "label": True}
    intake = labels().read([record(said, headers=(("lepton-arrived", b"1500"),)),
                            record(said | {"label_time": 2}, headers=(("lepton-arrived", b"1500"),)),
                            *(record(said, headers=(("lepton-arrived", odd),)) for odd in (b"", b"-1", b"9" * 15))])
    assert [one.label_time.ToMilliseconds() for one in intake.outcomes] == [1500, 2000]
    assert intake.stated == [False, True]
    assert [(one.code, one.field) for one in intake.rejections] == [("wrong_type", "lepton-arrived")] * 3


@pytest.mark.parametrize(("kind", "good", "bad", "member"), [
    ("type: float", 1, "1", "number"), ("type: int", 3, 1.5, "number"), ("type: bool", True, 1, "flag"),
    ("type: category", "x", 1, "category"), ("type: category, categories: [x, y]", "y", "z", "category"),
])
def test_the_label_has_the_type_the_pipeline_says(kind: str, good: Any, bad: Any, member: str) -> None:
    reader = labels(kind)
    intake = reader.read(records({"event_id": "1", "label": good}, {"event_id": "2", "label": bad}))
    assert [one.WhichOneof("label") for one in intake.outcomes] == [member]
    assert [(one.position, one.field) for one in intake.rejections] == [(1, "label")]


def test_labels_compare_by_value() -> None:
    reader = labels()
    intake = reader.read(records({"event_id": "1", "label": True}, {"event_id": "2", "label": False, "label_time": 2}))
    assert reader.said(intake) == [("1", "True"), ("2", "False", "2000000")]


@pytest.mark.parametrize(("value", "code", "field"), [
    (None, "malformed", None), (b"x", "malformed", None), (b'{"event_id": "\xff"}', "malformed", None),
    ({"event_id": "", "label": True}, "out_of_range", "event_id"),
    ({"event_id": "a\x00", "label": True}, "malformed", "event_id"),
    ({"event_id": "a", "entity": "\n", "label": True}, "malformed", "entity"),
    ({"event_id": "a", "label": True, "label_time": "noon"}, "wrong_type", "label_time"),
    ({"event_id": "a", "label": True, "label_time": 1e300}, "out_of_range", "label_time"),
    ({"event_id": "a", "label": True, "label_time": "0001-01-01T00:00:00+14:00"}, "out_of_range", "label_time"),
    ({"label": True}, "missing", "event_id"), ({"event_id": "a"}, "missing", "label"),
    ({"event_id": "a", "label": None}, "missing", "label"), ([], "wrong_type", None),
])
def test_a_bad_label_is_refused_with_its_field(value: Any, code: str, field: str | None) -> None:
    intake = labels().read([record(value, 0, (("ce_source", b"till"),))])
    assert [(one.code, one.field, one.source) for one in intake.rejections] == [(code, field, "till")]


def test_only_json_is_a_label() -> None:
    body = {"event_id": "1", "label": True}
    assert labels().read([record(body, 0, (("content-type", b"application/json"),))]).rejections == []
    assert labels().read([record(body, 0, (("content-type", b"text/csv"),))]).rejections[0].code == "content_type"


EXAMPLES = [*examples.valid(Topic.LABELS), *examples.invalid(Topic.LABELS)]


@pytest.mark.parametrize("example", [one for one in EXAMPLES if is_opinion(one.headers)], ids=str)
def test_an_opinion_is_no_label_and_is_passed_over(example: examples.Example) -> None:
    intake = Labels(examples.pipeline(), 1).read([Record("t", 0, 0, example.key, example.value, example.headers)])
    assert (intake.outcomes, intake.rejections) == ([], [])


@pytest.mark.parametrize("example", [one for one in EXAMPLES if not is_opinion(one.headers)], ids=str)
def test_every_example_is_read_as_it_says(example: examples.Example) -> None:
    intake = Labels(examples.pipeline(), 1).read([Record("t", 0, 0, example.key, example.value, example.headers)])
    assert len(intake.outcomes) == (1 if example.valid else 0)
    if not example.valid:
        (found,) = intake.rejections
        assert example.reason in f"{found.code}: {found.message}"
        assert found.field == example.field
