"""ONNX Runtime alone on a file: rows a second in batches, with nothing around it.

    python -m tests.bench.peers.bare FILE BATCH SECONDS
"""

import json
import sys
import time

import numpy as np

from tests.bench.peers.servers.mlp import Mlp


def main() -> None:
    file, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    model = Mlp(file)
    rows = np.ones((batch, model.width), "f4")
    model(rows)
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        model(rows)
        done += batch
    print(json.dumps({"rows_per_s": done / took, "cpu_us": time.process_time() / max(1, done) * 1e6}))


if __name__ == "__main__":
    main()
