"""How a caller would have a request queued: its parameters `priority` and `timeout`, as Triton's clients send them."""

from collections.abc import Mapping
from math import inf

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Busy, Invalid

PRIORITY, TIMEOUT = "priority", "timeout"


class Shed(Busy):
    """Turned away for its low priority, though there may have been room for it alone."""


def wishes(parameters: Mapping[str, oip.InferParameter]) -> tuple[int, float]:
    """Priority, 1 first and 0 for none; seconds that the request may wait for its batch.

    `timeout` comes in microseconds, 0 for none. Raises Invalid for what is no whole number of at least 0.
    """
    return _whole(parameters, PRIORITY), _whole(parameters, TIMEOUT) / 1e6 or inf


def _whole(parameters: Mapping[str, oip.InferParameter], name: str) -> int:
    if name not in parameters:
        return 0
    kind = parameters[name].WhichOneof("parameter_choice")
    value = parameters[name].uint64_param if kind == "uint64_param" else parameters[name].int64_param
    if kind not in ("int64_param", "uint64_param") or value < 0:
        raise Invalid(f"parameter `{name}` is no whole number of at least 0", field=name,
                      remedy="send it as an integer: a priority from 1 on, or microseconds")
    return value
