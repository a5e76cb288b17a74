"""The state of the whole: instances, incidents, lags, and one page that has them all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.pb import telemetry_pb2
from lepton.contracts.pb.incidents_pb2 import Incident, IncidentState
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError, Missing, Refused, Unavailable
from lepton.store.calls.graph import Dependencies
from lepton.store.incidents import Incidents
from services.gateway.core.incidents import plot, report
from services.gateway.core.incidents.course import times
from services.gateway.core.routing import SILENT_S
from services.gateway.flow.pipelines import Catalogue
from services.gateway.flow.streams import Lag, Streams

__all__ = ["Operations", "times"]

# Per pipeline: the services that consume it in a group, and what they read.
READERS: Mapping[str, tuple[Topic, ...]] = {
    "ingest": (Topic.EVENTS, Topic.LABELS),
    "predictor": (Topic.FEATURES,),
}
DRAINED: frozenset[str] = frozenset({"gateway", "predictor"})
"""Services whose processes can be drained: those that answer requests."""


class Operations:
    """Answers from what is known here; a part that cannot be asked is named, the rest is still shown."""

    def __init__(self, instances: Mapping[str, telemetry_pb2.Instance], incidents: Incidents,
                 dependencies: Dependencies, registry: Mapping[str, ModelState], catalogue: Catalogue,
                 streams: Streams, clock: Clock) -> None:
        self._instances = instances
        self._incidents = incidents
        self._dependencies = dependencies
        self._registry = registry
        self._catalogue = catalogue
        self._streams = streams
        self._clock = clock

    def instances(self) -> list[tuple[telemetry_pb2.Instance, bool]]:
        """Every process that announced itself and did not leave, and whether it has gone silent since."""
        now_s = self._clock.now().timestamp()
        found = [self._instances[name] for name in sorted(self._instances)]
        return [(one, now_s - one.at.ToNanoseconds() / 1e9 > SILENT_S) for one in found]

    def check_drain(self, target: str) -> None:
        """Raises Invalid for what is no process that can be drained, Missing for one nobody knows, and Refused for the
        last of its service that is ready. The process itself looks again: it may have become the last by then."""
        kind, _, name = target.partition(":")
        known = {one.instance: one for one, silent in self.instances() if not silent and one.service in DRAINED}
        if kind != "instance":
            raise Invalid(f"{target!r} is no process", field="target", remedy="write instance:<name>")
        if name not in known:
            raise Missing(f"no process {name} that can be drained is here", field="target",
                          remedy=f"these can be: {', '.join(known)}" if known else "`lepton status` shows who is here")
        service = known[name].service
        if not any(one.service == service and one.instance != name
                   and one.state == telemetry_pb2.INSTANCE_STATE_READY for one in known.values()):
            raise Refused(f"{name} is the last {service} that is ready: nobody would serve", field="target",
                          remedy=f"start another {service} first, or restart this one")

    async def dependencies(self) -> list[dict[str, Any]]:
        """Who calls whom, by caller; a mean of None: how long it took is not measured."""
        return [{"caller": one.caller, "way": one.way, "callee": one.callee, "calls": one.calls, "failed": one.failed,
                 "mean_ms": round(1000 * one.seconds / one.calls, 3) if one.seconds else None,
                 "seen_at": datetime.fromtimestamp(one.seen_s, UTC).isoformat(timespec="seconds")}
                for one in await self._dependencies.list()]

    async def incidents(self, count: int) -> list[Incident]:
        """Newest first; `times` tells how long each took."""
        return await self._incidents.list(count)

    async def incident(self, incident_id: str) -> Incident:
        """Raises Missing for an unknown one."""
        return await self._incidents.get(incident_id)

    async def report(self, incident_id: str, plot: str) -> str:
        """What happened, for people, as Markdown; `plot`: address of the picture it is to show. Raises Missing."""
        return report.written(await self.incident(incident_id), plot)

    async def timeline(self, incident_id: str) -> str:
        """The course of an incident as an SVG picture. Raises Missing."""
        return plot.drawn(await self.incident(incident_id))

    async def lags(self) -> list[Lag]:
        return await self._streams.lags(_groups(self._catalogue.states()))

    async def status(self) -> dict[str, Any]:
        """One page for a person: processes, pipelines, models, lags, open incidents, and what could not be asked."""
        problems: list[str] = []
        lags = await self._or_problem(self.lags(), problems)
        incidents = await self._or_problem(self.incidents(50), problems)
        open_ones = [one for one in incidents if one.state != IncidentState.INCIDENT_STATE_VERIFIED]
        return {
            "instances": [{
                "instance": one.instance, "service": one.service, "silent": silent,
                "state": telemetry_pb2.InstanceState.Name(one.state).removeprefix("INSTANCE_STATE_"),
                "address": one.address, "load": one.load, "provider": one.provider,
                "models": {model.model: model.version for model in one.models},
            } for one, silent in self.instances()],
            "pipelines": [{"name": state.name, "version": state.version, "generation": state.generation,
                           "partitions": state.partitions} for state in self._catalogue.states()],
            "models": [{"model": state.model, "champion": state.champion, "previous": state.previous_champion,
                        "versions": len(state.versions), "reason": state.reason}
                       for _, state in sorted(self._registry.items())],
            "lags": [{"group": lag.group, "topic": lag.topic, "records": lag.records} for lag in lags],
            "incidents": [{"incident_id": one.incident_id, "symptom": one.symptom, "target": one.target,
                           "state": IncidentState.Name(one.state).removeprefix("INCIDENT_STATE_"),
                           "opened_at": one.opened_at.ToJsonString()} for one in open_ones],
            "problems": problems,
        }

    async def _or_problem(self, asked: Any, problems: list[str]) -> list[Any]:
        try:
            return list(await asked)
        except Unavailable as error:
            problems.append(str(error))
        except LeptonError as error:
            problems.append(error.message)
        return []


def _groups(states: list[PipelineState]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for state in states:
        suffix = f".g{state.generation}" if state.generation > 1 else ""
        for service, read in READERS.items():
            groups[f"{service}.{state.name}{suffix}"] = [
                topics.name(topic, state.name, state.generation) for topic in read]
    return groups
