"""Starts MLServer with the model as a runtime of its own, in the process that answers.

    python -m tests.bench.peers.servers.mlserver FILE PORT MAX_BATCH
"""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from tests.bench.peers.servers.mlp import NAME

DELAY_S = 0.001
"""How long adaptive batching waits, where MAX_BATCH is more than one."""


def main() -> None:
    file, port, largest = sys.argv[1:4]
    home = Path(tempfile.mkdtemp(prefix="mlserver-", dir=Path(file).parent))
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        http_port, metrics_port = first.getsockname()[1], second.getsockname()[1]
    (home / "settings.json").write_text(json.dumps({
        "host": "127.0.0.1", "http_port": http_port, "grpc_port": int(port), "metrics_port": metrics_port,
        "parallel_workers": 0, "debug": False, "use_structured_logging": False}))
    (home / "model-settings.json").write_text(json.dumps({
        "name": NAME, "implementation": "tests.bench.peers.servers.mlserver_model.Runtime",
        "parameters": {"uri": file},
        **({"max_batch_size": int(largest), "max_batch_time": DELAY_S} if int(largest) > 1 else {})}))
    program = Path(sys.prefix) / "bin" / "mlserver"
    os.execve(program, [str(program), "start", str(home)], {**os.environ, "PYTHONPATH": str(Path.cwd())})


if __name__ == "__main__":
    main()
