"""Which service a symptom of load is about, and which services have too few processes, or too little to do."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lepton.contracts import topics
from services.watchdog.core.capacity.bounds import PREDICTOR, bounds, one_more
from services.watchdog.core.inputs import Incident, Rules
from services.watchdog.core.state import State
from services.watchdog.core.symptom import BUS, IDLE, LAG, LOAD_AHEAD, OF_LOAD, OVERLOAD, SURGE, TOO_FEW, Symptom

OF_ROWS = ("ingest", PREDICTOR)
"""The services rows pass through, in that order."""
FEW_S = 15.0
"""A number of processes that changed so lately may still be changing."""


def with_capacity(found: Iterable[Symptom], state: State, now: float) -> list[Symptom]:
    """All that is wrong, with the services it is about, and services with too few processes or too little to do."""
    return [*placed(found, state), *too_few(state, now), *idle(state, now)]


def placed(found: Iterable[Symptom], state: State) -> Iterator[Symptom]:
    """Symptoms of load with the service and the Pipeline they are about; what is foreseen only where one more process
    may be added: for what is there already, a person can be told."""
    for symptom in found:
        if symptom.kind not in OF_LOAD:
            yield symptom
            continue
        pipeline = symptom.pipeline or _pipeline(symptom, state)
        service = _service(symptom, state)
        if symptom.kind == LOAD_AHEAD:
            rules = state.rules.get(pipeline, Rules(pipeline))
            if not rules.ladders.load_ahead or not one_more(service, symptom.kind, pipeline, state):
                continue
        yield replace(symptom, pipeline=pipeline, service=service)


def too_few(state: State, now: float) -> Iterator[Symptom]:
    """Services with fewer processes than Pipelines or the installation ask for. One without any is being stopped, or
    was never started: to begin it is not ours."""
    for service in sorted(state.thresholds.replicas):
        present, (least, _) = len(state.lives.of(service)), bounds(service, TOO_FEW, "", state)
        if 0 < present < least and state.work.unchanged_s(service, now) >= FEW_S:
            yield Symptom(TOO_FEW, service, f"{present} of {least} processes", service=service)


def idle(state: State, now: float) -> Iterator[Symptom]:
    """Services that could long have done with one process fewer, and may."""
    for service in sorted(state.thresholds.replicas):
        idle_s, present = state.work.idle_s(service, now), len(state.lives.of(service))
        if idle_s >= state.thresholds.limits.idle_s and idle_s > 0 and present > bounds(service, IDLE, "", state)[0]:
            yield Symptom(IDLE, service, f"{present} processes have {state.work.told(service)}, for {idle_s:.0f} s",
                          service=service)


def about(incident: Incident, state: State) -> frozenset[str]:
    """The services that may be scaled and that an open incident is about: none of them idles meanwhile."""
    scaled = frozenset(state.thresholds.replicas)
    if incident.symptom == IDLE:
        return frozenset()
    if incident.cause == BUS:
        return scaled
    kind, _, name = incident.target.partition(":")
    if kind == "service":
        return scaled & {name}
    if kind == "instance":
        life = state.lives.by_name.get(name)
        return scaled & {life.service} if life is not None else frozenset()
    if incident.cause.startswith("serving:"):
        return scaled & {PREDICTOR}
    return scaled & frozenset(OF_ROWS) if incident.symptom == SURGE else frozenset()


def _service(symptom: Symptom, state: State) -> str:
    """The one to be scaled; empty where that may not be done here."""
    scaled = state.thresholds.replicas
    if symptom.kind == SURGE:
        return next((one for one in OF_ROWS if one in scaled), "")
    service = PREDICTOR if symptom.kind == OVERLOAD else symptom.service
    return service if service in scaled else ""


def _pipeline(symptom: Symptom, state: State) -> str:
    """That of the topic whose records wait; empty of one that belongs to none, or to one nobody knows."""
    if symptom.kind not in (LAG, LOAD_AHEAD):
        return ""
    topic = topics.locate(symptom.about.partition("/")[2])
    return topic.pipeline if topic is not None and topic.pipeline in state.rules else ""
