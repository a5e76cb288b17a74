"""quixstreams doing the benchmark's work: validate, dead-letter, one-minute windows per entity; prints figures as JSON.

    .local/bench-peers/bin/python -m tests.bench.ingest.peer_quixstreams BOOTSTRAP TOPIC COUNT
"""

import json
import sys
import tempfile
import time
import uuid
from datetime import timedelta
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Mean, Sum
from quixstreams.models import Deserializer

from tests.bench.ingest.peer_schema import encode, read

clock: dict[str, float] = {"seen": 0}


class Events(Deserializer):  # type: ignore[misc]  # in an environment of its own, without its types
    """Bytes to an event as a mapping, empty for what is refused."""

    def __call__(self, value: bytes, ctx: Any) -> Any:
        if not clock["seen"]:
            clock["began"], clock["cpu"] = time.perf_counter(), time.process_time()
        clock["seen"] += 1
        found = read(value)
        if found is None:
            return {"raw": value}
        return {"entity": found.entity, "amount": found.amount or 0.0, "at": int(found.at.timestamp() * 1000)}


def main() -> None:
    bootstrap, topic, count = sys.argv[1:4]
    run = uuid.uuid4().hex[:8]
    app = Application(broker_address=bootstrap, consumer_group=f"quix-{run}", auto_offset_reset="earliest",
                      processing_guarantee="exactly-once", loglevel="ERROR", state_dir=tempfile.mkdtemp())
    events = app.topic(topic, value_deserializer=Events(), key_deserializer="bytes",
                       timestamp_extractor=lambda value, *_: value.get("at", 0))
    out = app.topic(f"quix-out-{run}", value_serializer="bytes", key_serializer="bytes")
    letters = app.topic(f"quix-dead-{run}", value_serializer="bytes", key_serializer="bytes")
    frame = app.dataframe(events)
    frame.filter(lambda row: "raw" in row).apply(lambda row: row["raw"]).to_topic(letters)
    windows = frame.filter(lambda row: "raw" not in row).tumbling_window(timedelta(minutes=1)).agg(
        count=Count(), total=Sum("amount"), mean=Mean("amount")).current()
    windows.apply(encode).to_topic(out)
    app.run(count=int(count), timeout=60)
    print(json.dumps({"records": clock["seen"], "seconds": time.perf_counter() - clock["began"],
                      "cpu_s": time.process_time() - clock["cpu"]}))


if __name__ == "__main__":
    main()
