"""What each step of an Arrow row costs by itself: microseconds of CPU a row, without Kafka, the least of many rounds.

    python -m tests.bench.ingest.steps [--rows 200000] [--rounds 15]

The rows are those of one partition (a quarter of them), judged as one batch by a partition that knows nothing yet.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from lepton.bus.letters.refusing import DeadLetters, Refusal
from lepton.bus.records import Record
from lepton.clock import SystemClock
from lepton.contracts import features
from lepton.contracts.arrow import stream
from lepton.contracts.arrow.entities import murmur2_of
from lepton.contracts.arrow.stream import CONTENT_TYPE
from services.ingest.core.acceptance import Acceptance
from services.ingest.core.arrow.originals import with_originals
from services.ingest.core.clean.past import Past
from services.ingest.core.counting.rows import Rows, fields_of
from services.ingest.core.dedupe import Seen, keys_of
from services.ingest.core.features import Columns
from services.ingest.core.judged import Accepted
from services.ingest.core.keys.keys import Keys
from services.ingest.core.steps.statistics import StatisticsStep
from tests.bench.ingest.events import PARTITIONS, spec, streams

PARTITION = 1
BATCH_BYTES = 850_000

Step = tuple[str, int, Callable[[], object]]
"""Its name, by how many rows its cost is divided, and what is done."""


def steps(data: list[bytes]) -> Iterator[Step]:
    pipeline = spec()
    records = [Record("events", PARTITION, place, None, one, (("content-type", CONTENT_TYPE.encode()),), 1780272000000)
               for place, one in enumerate(data)]
    size = sum(stream.read_table(one).num_rows for one in data)
    acceptance = Acceptance(pipeline, 1, PARTITIONS)

    def judge() -> Accepted:
        return acceptance.judge(records, Past.of(pipeline, PARTITION), {}, frozenset())

    accepted = judge()
    batch, refused = accepted.batch, accepted.rejections
    if batch is None:
        raise SystemExit("no row was accepted")
    written = features.encode_batch(batch)
    print(f"{size} rows, {len(refused)} refused; bytes a row: {sum(map(len, data)) / size:.0f} in, "
          f"{len(written) / size:.0f} of features, {batch.nbytes / size:.0f} before lz4\n")
    yield "unpack the streams", size, lambda: [_unpacked(one) for one in data]
    yield "unpack them, with sizes, offsets and UTF-8 checked", size, lambda: [stream.read_table(one) for one in data]
    reader = acceptance._reader
    yield "all of reading: columns, types, ranges, partitions", size, lambda: reader.read(records, PARTITION)
    entities, ids = batch.column(features.ENTITY), batch.column(features.EVENT_ID)
    yield "of it, which partition an entity is of", size, lambda: murmur2_of(entities)
    keys = Keys.of(keys_of(ids, entities))
    yield "what was seen: texts, hashes, those that come twice", size, lambda: Keys.of(keys_of(ids, entities)).firsts()
    yield "what was seen: look up, pack, remember", size, lambda: _remembered(keys)
    step = StatisticsStep(pipeline, PARTITION)
    step.plan(batch)
    step.keep()
    yield "statistics, once they have seen a batch", size, lambda: step.plan(batch)
    columns = Columns(pipeline, 1)
    rows = Rows(columns.fields, batch.columns[columns.first_field:], None, batch.column(features.SOURCE), ("country",))
    yield "counts and sketches of fields", size, lambda: list(fields_of(rows))
    lot = reader.read(records, PARTITION)
    yield "originals of refused rows", size, lambda: with_originals(lot)
    letters = [Refusal(records[one.position], one.message, one.field, one.row, one.original) for one in refused]
    clock = SystemClock()
    yield "letters of them", size, lambda: DeadLetters("bench", clock, lambda _: 10**9).letters(letters)
    yield "features: to Arrow with lz4", size, lambda: features.encode_batch(batch)
    yield "features: into Kafka's batches, with checksums", size, lambda: _built(written)
    yield "judging as a whole: reading to originals, and bounds of outliers from the first row on", size, judge


def _unpacked(data: bytes) -> list[pa.RecordBatch]:
    with pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
        return list(reader)


def _remembered(keys: Keys) -> None:
    seen = Seen(100_000)
    seen.known(keys)
    seen.apply(seen.plan(keys))


def _built(data: bytes) -> None:
    for start in range(0, len(data), BATCH_BYTES):
        builder = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 0, BATCH_BYTES)
        builder.append(0, None, None, data[start:start + BATCH_BYTES], [])
        builder.build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    for name, size, done in steps([data for place, data in streams(given.rows) if place == PARTITION]):
        least = float("inf")
        for _ in range(given.rounds):
            began = time.process_time()
            done()
            least = min(least, time.process_time() - began)
        print(f"{name:86} {least / size * 1e6:.3f}")


if __name__ == "__main__":
    main()
