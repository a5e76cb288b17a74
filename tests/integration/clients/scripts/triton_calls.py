"""What the gRPC and HTTP clients of tritonclient are asked alike: they differ in their module, not in their calls."""

from typing import Any

import echoed
import numpy as np


def inputs(module: Any, names: dict[str, Any], **options: Any) -> list[Any]:
    found = []
    for name, array in names.items():
        tensor = module.InferInput(f"in_{name}", list(array.shape), name)
        tensor.set_data_from_numpy(array, **options)
        found.append(tensor)
    return found


def vectors(module: Any, rows: int, **options: Any) -> list[Any]:
    """Input of the model `mlp`."""
    tensor = module.InferInput("x", [rows, 30], "FP32")
    tensor.set_data_from_numpy(np.ones((rows, 30), dtype=np.float32), **options)
    return [tensor]


def outputs(module: Any, names: Any, **options: Any) -> list[Any]:
    return [module.InferRequestedOutput(f"out_{name}", **options) for name in names]


def check_result(result: Any, sent: dict[str, Any]) -> None:
    for name, array in sent.items():
        echoed.check(name, result.as_numpy(f"out_{name}"), array)


def check_classes(result: Any) -> None:
    """Two rows, the best class of each."""
    told = result.as_numpy("probabilities")
    assert told.shape == (2, 1), told
    value, index, label = told[0, 0].decode().split(":")
    assert label == index
    assert 0.5 <= float(value) <= 1, told


def check_config(config: dict[str, Any], statistics: dict[str, Any]) -> None:
    assert config["name"] == "mlp", config
    assert config["input"][0]["data_type"] == "TYPE_FP32", config
    (told,) = statistics["model_stats"]
    assert int(told["inference_stats"]["success"]["count"]) >= 1, statistics
    assert int(told["inference_count"]) >= 1, statistics


def index_of(index: Any) -> dict[str, str]:
    return {one["name"]: one["state"] for one in index}
