"""What windows remember: little is written, silent entities are forgotten, and what cannot be read is refused."""

import random

import pytest

from lepton.contracts.topics import Topic, spec
from lepton.errors import Invalid
from services.ingest.core.windows import distinct
from tests.unit.ingest.windows.samples import ALL, Event, Partition, at, batch, cut, pipeline

MINUTE = pipeline(f"name: m, size: 1m, of: value, aggregates: [{ALL}]")
PLAIN = pipeline("name: m, size: 1m, of: value, aggregates: [count, sum, mean]")


def crowd(count: int, second: float, first: int = 0) -> list[Event]:
    return [Event(f"entity-{number:06d}", at(second), float(number)) for number in range(first, first + count)]


def test_a_small_batch_among_very_many_entities_writes_little() -> None:
    partition = Partition(PLAIN)
    for start in range(0, 100_000, 20_000):
        partition.accept(crowd(20_000, start / 20_000, start))
    whole = sum(map(len, partition.records.values()))
    partition.accept(random.Random(1).sample(crowd(100_000, 6), 20))
    assert partition.written < whole / 50
    assert partition.written < 200_000


def test_a_large_batch_over_a_thousand_entities_writes_each_block_once() -> None:
    partition = Partition(PLAIN)
    partition.accept(crowd(1000, 0))
    events = [event for second in range(16) for event in crowd(1000, second)]
    _, state = partition.windows.plan(batch(PLAIN, events))
    keys = [key for key, _ in state]
    assert len(keys) == len(set(keys))
    assert 10 <= len(keys) <= 40


def test_more_entities_come_to_lie_in_more_blocks_and_none_is_lost() -> None:
    partition = Partition(PLAIN)
    for count in (1, 70, 500, 3000):
        partition.accept(crowd(count, 0))
        partition = partition.restored()
    rows = partition.accept(crowd(3000, 1))
    assert [row["m_count"] for row in rows[:3]] == [5, 4, 4]
    assert [row["m_count"] for row in rows[500:502]] == [2, 2]
    assert partition.windows._memory.head.entities == 3000
    assert partition.windows._memory.head.blocks == 47


def test_an_entity_silent_for_longer_than_is_remembered_is_forgotten_and_takes_no_room() -> None:
    partition = Partition(MINUTE)
    partition.accept(crowd(300, 0))
    for minute in range(1, 60):
        partition.accept([Event("clock", at(minute * 10), 1.0)])
    for minute in range(60, 66):
        partition.accept([Event("clock", at(minute * 10), 1.0)])
    assert partition.windows._memory.head.entities == 1
    held = [name for block in partition.windows._memory.blocks.values() for name in block.entities.name]
    assert held == ["clock"]
    (row,) = partition.accept([Event("entity-000007", at(650), 1.0)])
    assert row["m_time_since"] is None
    assert partition.restored().windows._memory.head.entities == 2


def test_one_event_from_far_ahead_makes_nobody_forgotten() -> None:
    partition = Partition(MINUTE)
    partition.accept([Event("a", at(0), 1.0), Event("b", at(0), 1.0)])
    partition.accept([Event("b", at(10**8), 1.0)])
    (row,) = partition.accept([Event("a", at(5), 1.0)])
    assert (row["m_count"], row["m_time_since"]) == (2, 5)


def test_a_window_that_is_new_begins_empty_and_the_others_go_on() -> None:
    older = pipeline("name: m, size: 1m, aggregates: [count]")
    newer = pipeline("name: m, size: 1m, aggregates: [count]", "name: h, size: 1h, of: value, aggregates: [count, max]")
    partition = Partition(older)
    partition.accept([Event("a", at(0), 1.0), Event("b", at(0), 1.0)])
    partition.spec = newer
    partition.windows.adopt(newer)
    assert partition.accept([Event("a", at(1), 2.0)]) == [{"m_count": 2, "h_count": 1, "h_max": 2}]
    assert partition.restored().accept([Event("a", at(2), 0.0), Event("b", at(2), 4.0)]) == [
        {"m_count": 3, "h_count": 2, "h_max": 2}, {"m_count": 2, "h_count": 1, "h_max": 4}]


def test_the_first_windows_a_pipeline_gets_begin_empty() -> None:
    bare = PLAIN.model_copy(update={"features": PLAIN.features.model_copy(update={"windows": ()})})
    partition = Partition(bare)
    partition.windows.adopt(PLAIN)
    partition.spec = PLAIN
    assert partition.accept([Event("a", at(0), 3.0)]) == [{"m_count": 1, "m_sum": 3, "m_mean": 3}]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x95\x09\x02\x03\x04\x05", b"\x93\xc4\x01a\xc4\x00\x80",
                                    b"\xff" * 9])
def test_a_record_that_cannot_be_read_is_refused(damage: bytes) -> None:
    hopping = pipeline(f"name: h, kind: hopping, size: 1m, every: 1s, of: value, aggregates: [{ALL}]")
    records = Partition(hopping).accept_in([crowd(100, 0)]).records
    assert {len(key.split(b"/")) for key in records} == {2, 4}
    for key, value in records.items():
        for broken in (damage, value[:-1], value[:len(value) // 2]):
            with pytest.raises(Invalid):
                Partition(hopping, {**records, key: broken})


def test_state_of_another_format_or_without_its_head_is_refused() -> None:
    records = Partition(PLAIN).accept_in([crowd(3, 0)]).records
    with pytest.raises(Invalid, match="format 2"):
        Partition(PLAIN, {**records, b"win/head": records[b"win/head"].replace(b"\x95\x01", b"\x95\x02", 1)})
    with pytest.raises(Invalid, match="no head"):
        Partition(PLAIN, {key: value for key, value in records.items() if key != b"win/head"})
    with pytest.raises(Invalid, match="other columns"):
        Partition(pipeline("name: m, size: 1m, of: value, aggregates: [count, max]"), records)


def test_many_distinct_values_are_estimated_the_same_however_they_are_cut() -> None:
    values = [float(number) for number in range(4000)]
    random.Random(3).shuffle(values)
    windows = pipeline("name: t, size: 1h, of: value, aggregates: [distinct]",
                       "name: h, kind: hopping, size: 60s, every: 10s, of: value, aggregates: [distinct]",
                       "name: s, kind: session, gap: 1m, of: value, aggregates: [distinct]")
    events = [Event("a", at(100 + number / 100 - (15 if number % 50 == 49 else 0)), value)
              for number, value in enumerate([*values, *values])]
    whole = Partition(windows).accept_in([events]).rows
    assert Partition(windows).accept_in(cut(events, range(0, 8000, 617))).rows == whole
    assert [row["t_distinct"] for row in whole[:distinct.BOUND]] == [float(one + 1) for one in range(distinct.BOUND)]
    assert whole[-1]["t_distinct"] == pytest.approx(4000, rel=0.2)
    assert whole[-1]["s_distinct"] == pytest.approx(4000, rel=0.2)
    assert whole[-1]["h_distinct"] == pytest.approx(4000, rel=0.2)


def test_records_stay_far_below_what_the_topic_takes() -> None:
    crowded = pipeline(*(f"name: w{number}, kind: sliding, size: 10m, of: value, aggregates: [{ALL}]"
                         for number in range(3)))
    partition = Partition(crowded)
    rng = random.Random(5)
    for minute in range(10):
        partition.accept([Event(f"{number:0256d}", at(minute * 60 + rng.random() * 60), rng.random())
                          for number in range(100) for _ in range(15)])
    limit = spec(Topic.INGEST_STATE).max_message_bytes
    assert max(map(len, partition.records.values())) < limit / 10


def test_values_that_made_a_pane_overflow_are_gone_with_it() -> None:
    hopping = pipeline("name: h, kind: hopping, size: 20s, every: 10s, of: value, aggregates: [distinct]")
    burst = [Event("a", at(second), float(number)) for second in (1, 11) for number in range(second * 100, 900)]
    rows = Partition(hopping).accept([*burst, *(Event("a", at(41 + number), -float(number)) for number in range(5))])
    assert [row["h_distinct"] for row in rows[-5:]] == [1, 2, 3, 4, 5]


def test_panes_spread_over_records_move_with_their_entities_when_a_block_is_split() -> None:
    hopping = pipeline("name: h, kind: hopping, size: 1m, every: 5s, of: value, aggregates: [count, sum]")
    partition = Partition(hopping)
    partition.accept([event for second in range(0, 30, 5) for event in crowd(60, second)])
    partition.accept(crowd(600, 30, 60))
    assert partition.windows._memory.head.blocks > 8
    assert [row["h_count"] for row in partition.restored().accept(crowd(61, 31))] == [7.0] * 60 + [2.0]


def test_sums_over_panes_are_rounded_the_same_whether_a_late_pane_came_in_the_same_batch_or_later() -> None:
    hopping = pipeline("name: h, kind: hopping, size: 100s, every: 1s, of: value, aggregates: [sum, mean, std]")
    rng = random.Random(9)
    events = [Event("a", at(second - rng.choice([0, 0, rng.randrange(30)])), rng.random() * 10.0**rng.randrange(9))
              for second in range(300)]
    whole = Partition(hopping).accept_in([events]).rows
    assert Partition(hopping).accept_in(cut(events, range(300))).rows == whole
    assert Partition(hopping).accept_in(cut(events, range(0, 300, 7))).rows == whole
