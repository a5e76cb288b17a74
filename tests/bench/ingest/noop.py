"""A Faust worker whose agent does nothing with its events: as Faust comes, but for what its known traps call for.

    python -m tests.bench.ingest.noop BOOTSTRAP TOPIC COUNT [--raw]     prints seconds and CPU seconds as JSON

A topic named in full (a pattern receives nothing), no topics made, no web server, no tables. `--raw` leaves the bytes
undecoded and widens the buffers, which is the most that settings can do. The clock runs from first event to last.
"""

import json
import os
import sys
import tempfile
import time
import uuid
from typing import Any

import faust

WIDE: dict[str, Any] = {"stream_buffer_maxsize": 16_384, "broker_max_poll_records": 16_000,
        "consumer_max_fetch_size": 4 * 1024 * 1024}


def worker(bootstrap: str, topic: str, count: int, raw: bool) -> Any:
    app = faust.App(f"noop-{uuid.uuid4().hex[:8]}", broker=f"kafka://{bootstrap}", store="memory://", web_enabled=False,
                    topic_allow_declare=False, topic_disable_leader=True, consumer_auto_offset_reset="earliest",
                    datadir=tempfile.mkdtemp(prefix="lepton-bench-"), **(WIDE if raw else {}))
    kind = {"value_serializer": "raw", "value_type": bytes} if raw else {"value_serializer": "json"}
    events = app.topic(topic, key_serializer="raw", key_type=bytes, **kind)

    @app.agent(events)
    async def nothing(stream: Any) -> None:
        seen, began, cpu = 0, 0.0, 0.0
        async for _ in stream:
            if not seen:
                began, cpu = time.perf_counter(), time.process_time()
            seen += 1
            if seen == count:
                told = {"records": seen, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
                os.write(1, json.dumps(told).encode() + b"\n")
                # The worker would go on for ever, and its orderly end takes seconds that nobody measures.
                os._exit(0)

    return app


def main() -> None:
    bootstrap, topic, count = sys.argv[1:4]
    app = worker(bootstrap, topic, int(count), "--raw" in sys.argv)
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
