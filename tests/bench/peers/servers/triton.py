"""Starts Triton's own binary, which PyTriton's package carries, with the model in its Python backend.

    python -m tests.bench.peers.servers.triton FILE PORT DELAY_US
"""

import os
import shutil
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path

from pytriton.utils.distribution import get_libs_path, get_root_module_path, get_stub_path

from tests.bench.peers.servers.mlp import MAX_BATCH, NAME, Mlp

CONFIG = """name: "{name}"
backend: "python"
max_batch_size: {batch}
input [{{ name: "x" data_type: TYPE_FP32 dims: [{width}] }}]
output [{{ name: "label" data_type: TYPE_INT64 dims: [1] reshape: {{ shape: [] }} }},
        {{ name: "probabilities" data_type: TYPE_FP32 dims: [{classes}] }}]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters {{ key: "file" value {{ string_value: "{file}" }} }}
"""


def main() -> None:
    file, port, delay = sys.argv[1:4]
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        http_port, metrics_port = first.getsockname()[1], second.getsockname()[1]
    home, model = Path(tempfile.mkdtemp(prefix="triton-", dir=Path(file).parent)), Mlp(file)
    repository = home / "models" / NAME
    (repository / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("triton_model.py"), repository / "1" / "model.py")
    (repository / "config.pbtxt").write_text(CONFIG.format(
        name=NAME, batch=MAX_BATCH, width=model.width, classes=model.classes, delay=delay, file=file))
    backend = home / "backends" / "python"
    shutil.copytree(get_root_module_path() / "tritonserver" / "backends" / "python", backend)
    shutil.copy(get_stub_path(f"{sys.version_info.major}.{sys.version_info.minor}"), backend)
    paths = (str(get_libs_path()), sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))
    binary = get_root_module_path() / "tritonserver" / "bin" / "tritonserver"
    os.execve(binary, [
        str(binary), f"--model-repository={repository.parent}", f"--backend-directory={home / 'backends'}",
        "--grpc-address=127.0.0.1", f"--grpc-port={port}", "--http-address=127.0.0.1", f"--http-port={http_port}",
        "--metrics-address=127.0.0.1", f"--metrics-port={metrics_port}"],
        {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
         "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())})


if __name__ == "__main__":
    main()
