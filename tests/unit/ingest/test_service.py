"""Ingest as a whole: events and labels in; features, outcomes, dead letters, state, summaries and segments out."""

from typing import Any

from lepton.bus.letters.refusing import DeadLetters
from lepton.clock import SystemClock
from lepton.contracts import codec, features, topics
from lepton.contracts.feedback import opinions
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.pb.recovery_pb2 import RECOVERY_ACTION_QUARANTINE
from lepton.contracts.pb.telemetry_pb2 import Instance, Telemetry
from lepton.contracts.topics import Topic
from lepton.store.segments import Segments
from tests.unit.ingest.house import SHOP, House, accepted, living, until
from tests.unit.ingest.samples import order, pipeline

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_events_become_features_in_their_partition(house: House) -> None:
    async with living(house):
        await house.apply(pipeline())
        await house.send(order(1, items=2), order(2), partition=0)
        await house.send(order(3), partition=1)
        rows = await accepted(house, 3)
        assert {row["_event_id"] for row in rows} == {"o-1", "o-2", "o-3"}
        records = await house.read(Topic.FEATURES)
        assert all(one.key is None for one in records)
        assert {row["_event_id"] for one in records if one.partition == 1
                for row in features.decode_batch(one.value or b"").to_pylist()} == {"o-3"}
        headers = dict(records[0].headers)
        assert headers["content-type"] == features.CONTENT_TYPE.encode()
        assert headers["lepton-spec-version"] == b"1"


async def test_bad_events_are_dead_letters_with_reason_field_and_place(house: House) -> None:
    async with living(house):
        await house.apply(pipeline())
        sent = await house.send(order(1), b"junk", order(2, price="1"), order(3, price=-5), order(4))
        await accepted(house, 2)
        letters = await house.letters()
        assert [(one["reason"].partition(":")[0], one.get("field"), one["place"]) for one in letters] == [
            ("malformed", None, sent[1].place), ("wrong_type", "price", sent[2].place),
            ("out_of_range", "price", sent[3].place)]
        assert all(one["service"] == "ingest" and one["attempts"] == "1" for one in letters)


async def test_a_record_of_nothing_at_all_stops_nobody(house: House) -> None:
    await house.apply(pipeline())
    log = house.broker.log  # type: ignore[attr-defined]
    async with living(house):
        await house.send(order(1))
        await accepted(house, 1)
        place = next(iter(house.broker.places([topics.name(Topic.EVENTS, SHOP)])))  # type: ignore[attr-defined]
        empty = (await house.send(b"", key=b"x"))[0]
        records = log(place).records
        records[-1] = type(empty)(empty.topic, empty.partition, empty.offset, None, None)
        await house.send(order(2))
        await accepted(house, 2)
        assert len(await house.letters()) == 1


async def test_a_second_delivery_has_no_second_effect_after_a_restart_either(house: House) -> None:
    await house.apply(pipeline())
    async with living(house):
        await house.send(order(1), order(2), order(1))
        await accepted(house, 2)
    async with living(house):
        await house.send(order(2), order(3), order(1))
        rows = await accepted(house, 3)
        assert sorted(row["_event_id"] for row in rows) == ["o-1", "o-2", "o-3"]


OPINION = (("content-type", opinions.MEDIA_TYPE.encode()),)


async def test_labels_become_outcomes_whether_with_the_event_or_later(house: House) -> None:
    async with living(house):
        await house.apply(pipeline(("type: bool}\n  dedupe", "type: bool, arrives: with_event}\n  dedupe")))
        await house.send(order(1, bought=True), order(2))
        await house.send({"event_id": "o-2", "label": False}, {"event_id": "o-2", "label": False}, b"x",
                         {"event_id": "o-2", "label": True}, topic=Topic.LABELS)
        await house.send({"event_id": "o-2", "author": "lk_1", "accepted": False, "label": False}, topic=Topic.LABELS,
                         headers=OPINION)
        await house.send({"event_id": "o-3", "label": True}, topic=Topic.LABELS)

        async def four() -> Any:
            found = await house.outcomes()
            return found if len(found) >= 4 else None

        found = await until(four, "four outcomes")
        assert sorted((one.event_id, one.flag, one.with_event) for one in found) == [
            ("o-1", True, True), ("o-2", False, False), ("o-2", True, False), ("o-3", True, False)]
        keys = {one.key for one in await house.read(Topic.OUTCOMES)}
        assert keys == {b"o-1", b"o-2", b"o-3"}
        assert [one["reason"].partition(":")[0] for one in await house.letters(Topic.LABELS)] == ["malformed"]


async def test_labels_of_a_pipeline_without_label_are_dead_letters(house: House) -> None:
    async with living(house):
        await house.apply(pipeline(("  label: {field: bought, type: bool}\n", "")))
        await house.send({"event_id": "o-1", "author": "lk_1", "accepted": False}, topic=Topic.LABELS, headers=OPINION)
        await house.send({"event_id": "o-2", "label": False}, topic=Topic.LABELS)
        letters = await until(lambda: house.letters(Topic.LABELS), "a dead letter")
        assert len(letters) == 1
        assert letters[0]["reason"].startswith("no_label")


async def test_the_summary_says_what_was_seen_and_by_whom(house: House) -> None:
    async with living(house):
        await house.apply(pipeline())
        await house.send(order(1), order(1), b"x", headers=(("ce_source", b"till"),))
        await house.send(order(2), partition=1)

        async def told() -> Any:
            found = [codec.decode_as(Topic.QUALITY, QualitySummary, one.value or b"")
                     for one in await house.read(Topic.QUALITY)]
            return found if sum(one.accepted for one in found) >= 2 and any(one.rejected for one in found) else None

        found = await until(told, "the summaries")
        assert sum(one.accepted for one in found) == 2
        assert (sum(one.rejected for one in found), sum(one.duplicates for one in found)) == (1, 1)
        assert {source.source for one in found for source in one.sources} == {"till", "unknown"}
        assert found[0].pipeline == SHOP
        assert found[0].instance == "ingest"


async def test_rows_and_outcomes_are_kept_in_segments_each_once(house: House) -> None:
    store = Segments(house.database)
    await house.apply(pipeline())

    async def kept(stream: str, rows: int) -> None:
        async def enough() -> bool:
            return await store.rows(stream, SHOP, 1) >= rows

        await until(enough, f"{rows} {stream}")

    async with living(house):
        for number in range(5):
            await house.send(order(number), partition=number % 2)
            await house.send({"event_id": f"o-{number}", "label": True}, topic=Topic.LABELS)
        await kept("features", 5)
        await kept("outcomes", 5)
    async with living(house):
        await house.send(order(5))
        await kept("features", 6)
    ids = []
    async for segment in store.read("features", SHOP, 1):
        table = features.decode_table(segment.data)
        assert table.num_rows == segment.rows
        ids += table.column("_event_id").to_pylist()
    assert sorted(ids) == [f"o-{number}" for number in range(6)]
    labels = []
    async for segment in store.read("outcomes", SHOP, 1):
        labels += features.decode_table(segment.data).to_pylist()
    assert sorted(one["event_id"] for one in labels) == [f"o-{number}" for number in range(5)]
    assert all(one["label"] is True for one in labels)


async def test_outliers_are_flagged_once_a_champion_is_announced_and_signed(house: House) -> None:
    async with living(house):
        await house.apply(pipeline(more="clean: {outliers: {method: iqr}}\n"))
        await house.crown(0, 10, revision=2, signer="watchdog")
        await house.send(order(1, price=500))
        assert (await accepted(house, 1))[0]["_outliers"] == []
        await house.crown(0, 10, revision=2)

        async def flagged() -> bool:
            await house.send(order(f"n{len(await house.rows())}", price=500))
            return any(row["_outliers"] == [0] for row in await house.rows())

        await until(flagged, "an outlier to be flagged")
        await house.crown(0, 1000, revision=1)
        await house.send(order("after", price=500))

        async def after() -> Any:
            return next((row for row in await house.rows() if row["_event_id"] == "o-after"), None)

        assert (await until(after, "the row after"))["_outliers"] == [0]


async def test_the_trace_of_a_sampled_event_goes_on_in_its_row(house: House) -> None:
    async with living(house):
        await house.apply(pipeline(("type: bool}\n  dedupe", "type: bool, arrives: with_event}\n  dedupe")))
        await house.send(order(1, bought=True), headers=(("traceparent", TRACE.encode()),))
        await house.send(order(2, bought=True), partition=1)
        rows = {row["_event_id"]: row for row in await accepted(house, 2)}
        assert rows["o-1"]["_traceparent"].startswith(TRACE[:36])
        assert rows["o-2"]["_traceparent"] is None
        traces = {one.key: dict(one.headers).get("traceparent", b"") for one in await house.read(Topic.OUTCOMES)}
        assert traces[b"o-1"].startswith(TRACE[:36].encode())
        assert traces[b"o-2"] == b""


async def test_a_new_version_is_adopted_and_an_unfit_one_is_not(house: House) -> None:
    async with living(house):
        await house.apply(pipeline())
        await house.send(order(1))
        await accepted(house, 1)
        await house.apply(pipeline(("items: {type: int}", "items: {type: float}")), version=2)
        await house.apply(pipeline(("    note: {type: text}\n", "    note: {type: text}\n    extra: {type: int}\n"),
                                   ("dedupe_window: 1000", "dedupe_window: 500")), version=3)

        async def adopted() -> bool:
            await house.send(order(f"n{len(await house.rows())}", extra=7, items=1))
            return any(row.get("extra") == 7 for row in await house.rows())

        await until(adopted, "the new field")
        versions = {dict(one.headers)["lepton-spec-version"] for one in await house.read(Topic.FEATURES)}
        assert versions == {b"1", b"3"}


async def test_a_spec_under_another_name_or_unreadable_is_not_followed(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline(("name: shop", "name: other")))
        await house.apply(pipeline(), version=2)
        state = PipelineState(name=SHOP, version=3, generation=1, partitions=2, spec_json="{}", spec_digest="x",
                              applied_by="lk_0")
        state.applied_at.FromSeconds(1)
        await house.write(Topic.PIPELINES, state, SHOP)
        await house.send(order(1))
        await accepted(house, 1)
        assert service.health.ready


async def test_a_new_generation_and_a_deletion_move_the_work(house: House) -> None:
    async with living(house) as service:
        await house.apply(pipeline())
        await house.send(order(1))
        await accepted(house, 1)
        await house.apply(pipeline(("items: {type: int}", "items: {type: float}")), version=2, generation=2)
        await house.send(order(1, items=1.5), generation=2)

        async def moved() -> Any:
            return await house.rows(generation=2)

        assert (await until(moved, "a row of the new generation"))[0]["items"] == 1.5
        await house.write(Topic.PIPELINES, None, SHOP)

        async def gone() -> bool:
            return not any(SHOP in str(name) for name in service.health.report()["checks"])  # type: ignore[attr-defined]

        await until(gone, "the line to be closed")
        assert service.health.ready


async def test_a_pipeline_whose_topics_are_absent_waits_and_disturbs_nobody(house: House) -> None:
    async with living(house) as service:
        plans = topics.plans(SHOP, 1, 2)
        await house.apply(pipeline())
        await house.broker.delete_topics([plan[0] for plan in plans])

        async def waits() -> bool:
            return any(SHOP in name for name in service.health.failing())

        await until(waits, "the line to say that it waits")
        await house.apply(pipeline(), version=1)
        await house.send(order(1))
        await accepted(house, 1)


async def test_too_many_dead_letters_stop_the_line_loudly(house: House) -> None:
    async with living(house, DeadLetters("ingest", SystemClock(), limit=lambda _: 5)) as service:
        await house.apply(pipeline())
        await house.send(order(1))
        await accepted(house, 1)
        await house.send(*[b"x"] * 6)

        async def not_ready() -> bool:
            return not service.health.ready

        await until(not_ready, "the instance to be not ready")
        assert "more than 5 records" in str(service.health.failing())
        assert await house.letters() == []


async def test_a_quarantined_source_does_not_stop_the_line(house: House) -> None:
    async with living(house, DeadLetters("ingest", SystemClock(), limit=lambda _: 5)) as service:
        await house.apply(pipeline())
        await house.send(order(1))
        await accepted(house, 1)
        await house.command(RECOVERY_ACTION_QUARANTINE, "till")

        async def done() -> Any:
            return await house.read(Topic.RECOVERY_RESULTS)

        await until(done, "the quarantine")
        await house.send(*(order(number) for number in range(2, 30)), headers=(("ce_source", b"till"),))
        await house.send(order(99))
        assert len(await accepted(house, 2)) == 2
        assert len(await house.letters()) == 28
        assert service.health.ready


async def test_the_process_tells_its_pulse_and_its_instance(house: House) -> None:
    async with living(house):
        async def beats() -> Any:
            return await house.read(Topic.TELEMETRY) and await house.read(Topic.INSTANCES)

        await until(beats, "a heartbeat and an instance")
        beat = codec.decode_as(Topic.TELEMETRY, Telemetry, (await house.read(Topic.TELEMETRY))[0].value or b"")
        assert (beat.service, beat.instance) == ("ingest", "ingest")
        instance = codec.decode_as(Topic.INSTANCES, Instance, (await house.read(Topic.INSTANCES))[0].value or b"")
        assert instance.admin_address.startswith("127.0.0.1:")
    assert (await house.read(Topic.INSTANCES))[-1].value is None
