"""Starts PyTriton with the model as its infer function.

    python -m tests.bench.peers.servers.pytriton FILE PORT DELAY_US
"""

import logging
import os
import socket
import sys
import sysconfig

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from tests.bench.peers.servers.mlp import INPUT, MAX_BATCH, NAME, OUTPUTS, Array, Mlp


def main() -> None:
    file, port, delay = sys.argv[1:4]
    logging.basicConfig(level=logging.WARNING)
    # Or its stub takes an older libpython of its own, which does not fit this library of standard modules.
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    model = Mlp(file)

    @batch  # type: ignore[untyped-decorator]
    def infer(**given: Array) -> dict[str, Array]:
        label, probabilities = model(given[INPUT])
        return dict(zip(OUTPUTS, (label[:, None], probabilities), strict=True))

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        http_port = taken.getsockname()[1]
    config = TritonConfig(http_address="127.0.0.1", http_port=http_port, grpc_address="127.0.0.1", grpc_port=int(port),
                          allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(NAME, infer, [Tensor(name=INPUT, dtype=np.float32, shape=(model.width,))],
                    [Tensor(name=OUTPUTS[0], dtype=np.int64, shape=(1,)),
                     Tensor(name=OUTPUTS[1], dtype=np.float32, shape=(model.classes,))],
                    config=ModelConfig(max_batch_size=MAX_BATCH,
                                       batcher=DynamicBatcher(max_queue_delay_microseconds=int(delay))))
        triton.serve()


if __name__ == "__main__":
    main()
