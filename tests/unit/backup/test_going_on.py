"""Where a stack that goes on with later events ends, what is kept of each topic, and which predictions are the same."""

import pytest

from deploy.backup import predictions
from deploy.backup.plan import KeptTopic, Plan, Span, is_raw, kept
from deploy.backup.restoring.forward import Until, until
from lepton.bus.records import Place, Record
from lepton.contracts import topics
from lepton.errors import Invalid


def record(partition: int, offset: int, at_ms: int) -> Record:
    return Record("lepton-events-shop", partition, offset, b"k", b"v", (), at_ms)


def test_an_end_is_a_time_or_offsets_of_some_partitions() -> None:
    by_time = until(["2026-05-04T12:00:00Z"])
    assert by_time == Until(1_777_896_000_000)
    assert by_time.ends(record(0, 1, 1_777_896_000_001))
    assert not by_time.ends(record(0, 1, 1_777_896_000_000))
    by_offset = until(["lepton-events-shop/0@7", "lepton-events-shop/1@3"])
    assert [by_offset.ends(record(0, offset, 0)) for offset in (6, 7, 8)] == [False, True, True]
    assert not by_offset.ends(record(2, 100, 0))
    assert not until([]).ends(record(0, 1, 1))
    for wrong in ("yesterday", "lepton-events-shop@7", "lepton-events-shop/x@7"):
        with pytest.raises(Invalid, match="neither a time nor an offset"):
            until([wrong])


def test_every_topic_of_the_platform_is_kept_for_a_reason() -> None:
    found = {name: kept(name, config, all_events=False)
             for name, _, config, _ in [*topics.plans("shop"), *topics.plans()]}
    assert {name for name, how in found.items() if how == "state"} == {
        "lepton-pipelines", "lepton-models", "lepton-incidents", "lepton-quality-rollups", "lepton-ingest-state-shop"}
    assert {name for name, how in found.items() if how == "waiting"} == {
        "lepton-events-shop", "lepton-labels-shop", "lepton-features-shop", "lepton-outcomes-shop",
        "lepton-training-commands", "lepton-data-commands"}
    assert {name for name, how in found.items() if how == "records"} == {
        "lepton-audit", *(name for name in found if name.endswith("-dead-letters"))}
    assert found["lepton-instances"] == found["lepton-recovery-commands"] == "offsets"
    assert kept("lepton-events-shop-g2", {}, all_events=True) == "records"
    assert is_raw("lepton-labels-shop-g3")
    assert not is_raw("lepton-labels-shop-dead-letters")


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = Plan("shop", "2026-05-04T12:00:00+00:00",
                (KeptTopic("lepton-audit", "records", {"cleanup.policy": "delete"}, (Span(0, 1, 2, 3),)),),
                {"ingest.shop": {Place("lepton-events-shop", 1): 5}})
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("one", "other", "same"), [
    ([{"label": "true", "p": {"true": 0.25}}], [{"label": "true", "p": {"true": 0.25 + 1e-9}}], True),
    ([{"label": "true", "p": {"true": 0.25}}], [{"label": "true", "p": {"true": 0.26}}], False),
    ([{"label": "true"}], [{"label": "false"}], False),
    ([{"label": "true"}], [{"label": "true"}, {"label": "true"}], False),
    ([{"value": 1000.0}], [{"value": 1000.0005}], True),
    ([{"value": None}], [{"other": None}], False),
])
def test_a_prediction_is_the_same_but_for_the_last_bits_of_its_numbers(one: object, other: object, same: bool) -> None:
    assert predictions._same(one, other) is same
