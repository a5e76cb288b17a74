"""bytewax doing the benchmark's work: validate, dead-letter, one-minute windows per entity; prints figures as JSON.

    .local/bench-peers/bin/python -m tests.bench.ingest.peer_bytewax BOOTSTRAP TOPIC COUNT

Without recovery, so with fewer promises than ours; it reads the topic to its end.
"""

import json
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main
from confluent_kafka.admin import AdminClient, NewTopic

from tests.bench.ingest.peer_schema import Event, encode, read

clock: dict[str, float] = {"seen": 0}


def judged(message: KafkaSourceMessage[Any, Any]) -> tuple[bytes, Event | None]:
    if not clock["seen"]:
        clock["began"], clock["cpu"] = time.perf_counter(), time.process_time()
    clock["seen"] += 1
    return message.value, read(message.value)


def added(state: tuple[int, float], event: Event) -> tuple[int, float]:
    return state[0] + 1, state[1] + (event.amount or 0.0)


def flow(bootstrap: str, topic: str) -> Any:
    run = uuid.uuid4().hex[:8]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for one in admin.create_topics([NewTopic(f"bytewax-{what}-{run}", 4, 1) for what in ("dead", "out")]).values():
        one.result()
    found = Dataflow("bench")
    source = op.input("events", found, KafkaSource([bootstrap], [topic], tail=False, batch_size=10_000))
    both = op.branch("valid", op.map("validate", source, judged), lambda pair: pair[1] is not None)
    op.output("letters", op.map("letter", both.falses, lambda pair: KafkaSinkMessage(None, pair[0])),
              KafkaSink([bootstrap], f"bytewax-dead-{run}"))
    keyed = op.map("keyed", both.trues, lambda pair: (pair[1].entity, pair[1]))
    clock_ = win.EventClock(lambda event: event.at, wait_for_system_duration=timedelta(0))
    minutes = win.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2026, 1, 1, tzinfo=UTC))
    windows = win.fold_window("minute", keyed, clock_, minutes, lambda: (0, 0.0), added,
                              lambda one, other: (one[0] + other[0], one[1] + other[1]))
    told = op.map("told", windows.down, lambda pair: KafkaSinkMessage(
        pair[0].encode(), encode((pair[1][0], *pair[1][1], pair[1][1][1] / pair[1][1][0]))))
    op.output("out", told, KafkaSink([bootstrap], f"bytewax-out-{run}"))
    return found


def main() -> None:
    bootstrap, topic = sys.argv[1:3]
    cluster_main(flow(bootstrap, topic), [], 0)
    print(json.dumps({"records": clock["seen"], "seconds": time.perf_counter() - clock["began"],
                      "cpu_s": time.process_time() - clock["cpu"]}))


if __name__ == "__main__":
    main()
