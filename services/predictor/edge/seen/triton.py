"""Triton's names for what a predictor did, so that dashboards and alerts made for Triton go on working here.

Names, labels and reasons are those of Triton's metrics guide; the figures are those of ModelStatistics at the moment
of the look. A version's series end when it leaves memory, as Triton's do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from lepton.contracts import names
from services.predictor.flow.predictor import Observed, Predictor

_NS_IN_US = 1000

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, its kind, what it says, and how it is read off one version."""

    name: str
    kind: Literal["counter", "gauge"]
    told: str
    read: Callable[[Observed], float]


def _us(step: str) -> Callable[[Observed], float]:
    """Microseconds in sum of one step of the requests that succeeded."""
    return lambda one: int(getattr(one.statistics.inference_stats, step).ns) // _NS_IN_US


def _request_us(one: Observed) -> float:
    spent = one.statistics.inference_stats
    return (spent.success.ns + spent.fail.ns) // _NS_IN_US


FAMILIES: tuple[Family, ...] = (
    Family(names.NV_REQUEST_SUCCESS, "counter", "Number of successful inference requests",
           lambda one: one.statistics.inference_stats.success.count),
    Family(names.NV_COUNT, "counter", "Number of inferences performed, rows of successful requests",
           lambda one: one.statistics.inference_count),
    Family(names.NV_EXEC_COUNT, "counter", "Number of model executions, batches of any size",
           lambda one: one.statistics.execution_count),
    Family(names.NV_REQUEST_DURATION, "counter", "Cumulative inference request duration in microseconds, failures too",
           _request_us),
    Family(names.NV_QUEUE_DURATION, "counter", "Cumulative inference queuing duration in microseconds", _us("queue")),
    Family(names.NV_INPUT_DURATION, "counter", "Cumulative compute input duration in microseconds",
           _us("compute_input")),
    Family(names.NV_INFER_DURATION, "counter", "Cumulative compute inference duration in microseconds",
           _us("compute_infer")),
    Family(names.NV_OUTPUT_DURATION, "counter", "Cumulative inference compute output duration in microseconds",
           _us("compute_output")),
    Family(names.NV_PENDING, "gauge", "Number of inference requests that wait for their batch",
           lambda one: one.pending),
)


class Exposition:
    """Belongs to the event loop."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        # The first reading of the processors has nothing to compare with.
        psutil.cpu_percent()

    def text(self) -> bytes:
        """The families in Prometheus text format."""
        seen = self._predictor.observe()
        lines: list[str] = []
        for family in FAMILIES:
            lines += _written(family.name, family.kind, family.told,
                              [(_labels(one), family.read(one)) for one in seen])
        lines += _written(names.NV_REQUEST_FAILURE, "counter", "Number of failed inference requests", [
            ({**_labels(one), "reason": reason}, number)
            for one in seen for reason, number in one.failures.items()])
        return "\n".join([*lines, *_machine(), ""]).encode()


def _machine() -> list[str]:
    memory = psutil.virtual_memory()
    return [
        *_written(names.NV_CPU_UTILIZATION, "gauge", "CPU utilization of the machine since the last look [0.0 - 1.0]",
                  [({}, psutil.cpu_percent() / 100)]),
        *_written(names.NV_CPU_MEMORY_TOTAL, "gauge", "CPU total memory of the machine (RAM), in bytes",
                  [({}, memory.total)]),
        *_written(names.NV_CPU_MEMORY_USED, "gauge", "CPU used memory of the machine (RAM), in bytes",
                  [({}, memory.used)]),
    ]


def _labels(one: Observed) -> dict[str, str]:
    return {"model": one.statistics.name, "version": one.statistics.version}


def _written(name: str, kind: str, told: str, samples: Iterable[Sample]) -> Sequence[str]:
    lines = [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
