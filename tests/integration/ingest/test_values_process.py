"""The real process keeps every type of value, sets right what it may, and says so in rows, letters and summaries."""

from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts import codec, features
from lepton.contracts.pb.quality_pb2 import QualitySummary
from lepton.contracts.pipeline import Pipeline, compatible, parse
from lepton.contracts.topics import Topic
from lepton.store.segments import Segments
from services.trainer.core.dataset import features_of
from tests.integration.ingest.place import Place, rows
from tests.unit.ingest.house import until
from tests.unit.ingest.reading.plant import TEXT, b64, event, jpeg, png

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]
GOOD = {"temperature": {"value": 212, "unit": "degF"}, "pressure": 11, "count": 200, "state": " ON ", "note": "a  b",
        "embedding": [1, 2, 3], "trace": [0.5], "photo": b64(png()), "built": "2026-01-02T03:04:05Z"}
BAD = {"temperature": {"value": 1, "unit": "kg"}, "embedding": [1, 2], "photo": b64(b"GIF89a"), "built": "soon",
       "trace": [1, 2, 3, 4, 5], "state": "broken"}


def plant(name: str, *replacements: tuple[str, str]) -> Pipeline:
    text = TEXT.replace("name: plant", f"name: {name}")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


async def summaries(place: Place) -> list[QualitySummary]:
    return [codec.decode_as(Topic.QUALITY, QualitySummary, one.value or b"")
            for one in await place.house.read(Topic.QUALITY)]


async def tables(place: Place, count: int) -> list[tuple[int, bytes]]:
    """Partition and bytes of segments, once they hold as many rows."""
    async def enough() -> list[tuple[int, bytes]]:
        found = [one async for one in Segments(place.house.database).read("features", place.house.name, 1)]
        return [(one.partition, one.data) for one in found] if sum(one.rows for one in found) >= count else []

    found: list[tuple[int, bytes]] = await until(enough, f"{count} rows in segments; it said: {place.said()}", 60)
    return found


async def test_values_of_every_type_go_all_the_way_and_are_read_under_the_next_version(place: Place) -> None:
    house = place.house
    old = plant(house.name)
    place.environment |= {"LEPTON_SUMMARY_INTERVAL_S": "0.5", "LEPTON_SEGMENT_INTERVAL_S": "0.2"}
    await house.apply(old, partitions=1)
    with place.ingest():
        await house.send(*(one | {"colour": "red"} for one in (
            event(0, **GOOD), event(1), event(2, photo=b64(jpeg())),
            *(event(10 + number, **{name: value}) for number, (name, value) in enumerate(BAD.items())))))
        found = {row["_event_id"]: row for row in await rows(place, 3)}
        assert found["e-0"]["temperature"] == 100.0
        assert [one["what"] for one in found["e-0"]["_repairs"]] == ["unit", "range", "range", "normalise", "normalise"]
        assert found["e-1"]["_repairs"] is None
        await until_letters(place, len(BAD))
        await until_counted(place)

        new = plant(house.name, ("    temperature:", "    extra: {type: float}\n    temperature:"),
                    ("range: [-50, 150]", "range: [-50, 99], out_of_range: clip"))
        assert compatible(old, new) == []
        await house.apply(new, version=2, partitions=1)
        after = await until_clipped(place)
        stored = await tables(place, after)
        read = pa.concat_tables([features.projected(features.decode_table(data), new) for _, data in stored])
        kept = {row["_event_id"]: row for row in read.to_pylist()}
        names = list(new.fields)
        # What is kept of the old version says the same of the same fields, though these have other places now.
        assert kept["e-0"]["photo"] == png()
        assert [names[one["field"]] for one in kept["e-0"]["_repairs"]] == [
            "temperature", "pressure", "count", "state", "note"]
        assert kept["e-0"]["extra"] is None
        learnt = features_of(stored, list(new.inputs))
        assert set(new.inputs) < set(learnt.column_names)
        assert learnt.column("extra").null_count == learnt.num_rows


async def until_letters(place: Place, count: int) -> None:
    async def enough() -> list[dict[str, str]]:
        letters = await place.house.letters()
        return letters if len(letters) >= count else []

    letters = await until(enough, f"{count} dead letters; it said: {place.said()}", 60)
    assert {(one["field"], one["reason"].partition(":")[0]) for one in letters} == {
        ("temperature", "unknown_unit"), ("embedding", "out_of_range"), ("photo", "malformed"), ("built", "wrong_type"),
        ("trace", "out_of_range"), ("state", "unknown_category")}


async def until_counted(place: Place) -> None:
    async def counted() -> dict[str, Any]:
        found: dict[str, list[int]] = {}
        for summary in await summaries(place):
            for one in summary.fields:
                sums = found.setdefault(one.field, [0, 0, 0, 0])
                for index, what in enumerate((one.present, one.missing, one.invalid, one.repaired)):
                    sums[index] += what
        return found if sum(sums[0] + sums[1] for sums in found.values()) >= 3 * len(found) else {}

    sums = await until(counted, f"summaries of three rows; it said: {place.said()}", 60)
    assert sums["temperature"] == [1, 2, 1, 1]
    assert sums["count"] == [0, 3, 0, 1]
    assert sums["photo"] == [2, 1, 1, 0]
    assert sums["embedding"] == [1, 2, 1, 0]
    assert {kind.member for summary in await summaries(place) for one in summary.schemas
            for kind in one.undeclared} == {"colour"}


async def until_clipped(place: Place) -> int:
    """Sends until one is judged by the new version; the rows there are then."""
    sent = 100

    async def clipped() -> int:
        nonlocal sent
        await place.house.send(event(sent, temperature={"value": 212, "unit": "degF"}))
        sent += 1
        found = await place.house.rows()
        return len(found) if any(row["temperature"] == 99.0 for row in found) else 0

    return int(await until(clipped, f"a row of the second version; it said: {place.said()}", 60))
