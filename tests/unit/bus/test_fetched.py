"""What a fetch gives: the very records that aiokafka makes of it, with either loops, in whatever form they came."""

import random
import struct
from collections.abc import Sequence

import pytest
from aiokafka import codec
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from lepton.bus.aio.buffer import _batches, _joined, _Kept
from lepton.bus.aio.fetched import Fetched
from lepton.bus.records import Record
from lepton.native import Wanted
from tests.harness.loops import LOOPS, looping

PLACE = TopicPartition("t", 3)
CODECS = [0, *(number for number, there in enumerate((codec.has_gzip(), codec.has_snappy(), codec.has_lz4(),
                                                      codec.has_zstd()), 1) if there)]
TRANSACTIONAL, CONTROL, APPEND_TIME = 0x10, 0x20, 0x08
ABORT = b"\x00\x00\x00\x00"

Told = Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]


def batch(base: int, told: Told, *, packed: int = 0, attributes: int = 0, producer: int = -1) -> bytes:
    """A batch in Kafka's format 2 with these keys, values and headers."""
    builder = DefaultRecordBatchBuilder(2, packed, attributes & TRANSACTIONAL, producer, 0, 0, 10_000_000)
    for place, (key, value, headers) in enumerate(told):
        builder.append(place, 1_780_000_000_000 + place * 7, key, value, headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | attributes)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def some(count: int, seed: int = 1) -> Told:
    chance = random.Random(seed)
    headers: list[tuple[str, bytes | None]] = [("h\u00fc", None), ("", b"x")]
    return [(chance.choice((None, b"", b"k%d" % number)),
             chance.choice((None, b"", chance.randbytes(200), b"v" * 9000)),
             headers[:chance.randrange(3)]) for number in range(count)]


def raw(data: bytes, first: int, aborted: Sequence[tuple[int, int]]) -> PartitionRecords:
    return PartitionRecords(PLACE, _Kept(data), list(aborted), first, None, None, True, READ_COMMITTED)


def by_aiokafka(data: bytes, first: int, aborted: Sequence[tuple[int, int]]) -> tuple[list[Record], int]:
    read = raw(data, first, aborted)
    return [Record(one.topic, one.partition, one.offset, one.key, one.value, one.headers, one.timestamp)
            for one in read], read.next_fetch_offset


def by_us(data: bytes, first: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> tuple[Sequence[Record], int]:
    read = list(_batches(PLACE, raw(data, first, aborted)))
    return _joined([records for records, _ in read if records]), read[-1][1]


@pytest.fixture(params=LOOPS)
def loops(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("packed", CODECS)
@pytest.mark.parametrize("attributes", [0, APPEND_TIME])
def test_records_are_those_of_aiokafka(loops: Wanted, packed: int, attributes: int) -> None:
    data = batch(5, some(40), packed=packed, attributes=attributes) + batch(60, some(3, 2), packed=packed)
    with looping(loops):
        for first in (0, 5, 17, 44):
            found, behind = by_us(data, first)
            assert (list(found), behind) == by_aiokafka(data, first, ())
        assert isinstance(found, Fetched) is (loops == "native")


def test_what_was_aborted_and_marks_of_transactions_are_left_out(loops: Wanted) -> None:
    mark: Told = [(ABORT, b"\x00" * 6, [])]
    data = b"".join((
        batch(0, some(3), attributes=TRANSACTIONAL, producer=7),
        batch(3, some(2, 3), attributes=TRANSACTIONAL, producer=8),
        batch(5, mark, attributes=TRANSACTIONAL | CONTROL, producer=7),
        batch(6, some(2, 4), attributes=TRANSACTIONAL, producer=7), batch(8, some(2, 5)),
        batch(10, mark, attributes=TRANSACTIONAL | CONTROL, producer=8)))
    aborted = [(7, 0)]
    with looping(loops):
        found, behind = by_us(data, 0, aborted)
    assert (list(found), behind) == by_aiokafka(data, 0, aborted)
    assert [record.offset for record in found] == [3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("damage", ["checksum", "length", "left over"])
def test_a_damaged_batch_is_said_to_be_one(loops: Wanted, damage: str) -> None:
    data = bytearray(batch(0, [(b"k", b"value", [])] * 3))
    if damage == "checksum":
        data[-1] ^= 1
    else:
        # More or fewer records than there are, under a checksum that is right.
        struct.pack_into(">i", data, 57, 4 if damage == "length" else 2)
        struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    with looping(loops), pytest.raises(CorruptRecordException):
        by_us(bytes(data))


def test_records_can_be_taken_in_parts_and_as_columns(loops: Wanted) -> None:
    data = b"".join(batch(start, some(20, start + 1)) for start in range(0, 100, 20))
    with looping(loops):
        found, _ = by_us(data)
    whole, _ = by_aiokafka(data, 0, ())
    for part in (slice(0, 7), slice(15, 55), slice(99, 200), slice(30, 20), slice(None, None, 3), slice(-5, None)):
        assert list(found[part]) == whole[part]
    assert (found[0], found[-1], found[41], len(found)) == (whole[0], whole[-1], whole[41], 100)
    with pytest.raises(IndexError):
        found[100]
    if isinstance(found, Fetched):
        middle = found[15:55]
        assert isinstance(middle, Fetched) and middle == whole[15:55]
        assert middle.offsets().tolist() == [record.offset for record in whole[15:55]]
        assert middle.timestamps_ms().tolist() == [record.timestamp_ms for record in whole[15:55]]
        assert list(middle.odd()) == [bool(record.headers) or record.value is None for record in whole[15:55]]
        values, starts = middle.values()
        assert values == b"".join(record.value or b"" for record in whole[15:55])
        assert struct.unpack("=41q", starts)[-1] == len(values)
