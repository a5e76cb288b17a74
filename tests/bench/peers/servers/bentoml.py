"""Starts BentoML with the model as a service: JSON over HTTP, batches made by the server.

    python -m tests.bench.peers.servers.bentoml FILE PORT
"""

import os
import sys
from pathlib import Path

FILE = "BENCH_MODEL_FILE"


def main() -> None:
    file, port = sys.argv[1:3]
    program = Path(sys.prefix) / "bin" / "bentoml"
    os.execve(program, [str(program), "serve", "tests.bench.peers.servers.bentoml_model:Service", "--host", "127.0.0.1",
                        "--port", port, "--working-dir", str(Path.cwd())],
              {**os.environ, FILE: file, "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(Path.cwd()),
               "BENTOML_HOME": str(Path(file).parent / "bentoml")})


if __name__ == "__main__":
    main()
