"""How many processes a service has, and how many it may have: by the installation, by Pipelines, by partitions."""

from typing import Final

from services.watchdog.core.state import State
from services.watchdog.core.symptom import LAG, LOAD_AHEAD, SURGE, TOO_FEW

PREDICTOR: Final = "predictor"
"""The service whose number each Pipeline bounds, by `serve.replicas`."""

BY_PARTITION: Final = frozenset({LAG, LOAD_AHEAD, SURGE})
"""Kinds about records of a topic: more processes than it has partitions would have nothing to read."""


def bounds(service: str, kind: str, pipeline: str, state: State) -> tuple[int, int]:
    """Fewest and most processes; (0, 0) of a service that is not scaled.

    Predictors are shared: there are as many as the most demanding Pipeline asks for at least. One about which something
    is done gets no more than its own most; where no Pipeline is known, the largest of all counts.
    """
    if service not in state.thresholds.replicas:
        return 0, 0
    least, most = state.thresholds.replicas[service]
    rules = state.rules.get(pipeline)
    if service == PREDICTOR and state.rules:
        least = min(most, max([least, *(one.replicas[0] for one in state.rules.values())]))
        asked = rules.replicas[1] if rules is not None else max(one.replicas[1] for one in state.rules.values())
        most = min(most, asked)
    if rules is not None and rules.partitions and kind in BY_PARTITION:
        most = min(most, rules.partitions)
    return least, max(least, most)


def one_more(service: str, kind: str, pipeline: str, state: State) -> bool:
    """Whether the service may have another process."""
    return len(state.lives.of(service)) < bounds(service, kind, pipeline, state)[1]


def wanted(action: str, service: str, kind: str, pipeline: str, state: State) -> int:
    """How many processes `scale_out` or `scale_in` is to leave: one more or one fewer, within the bounds; where
    there are too few, as many as there have to be."""
    least, most = bounds(service, kind, pipeline, state)
    present = len(state.lives.of(service))
    if kind == TOO_FEW:
        return least
    return max(present, min(most, present + 1)) if action == "scale_out" else max(least, present - 1)
