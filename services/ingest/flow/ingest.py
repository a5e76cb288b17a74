"""Which pipelines this process works for: follows their specs, their champions and what is quarantined."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from lepton.clock import Clock
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pipeline import Pipeline, from_json
from lepton.errors import Invalid, Missing, Refused
from services.ingest.core.clean.policies import Bounds, bounds_of
from services.ingest.core.quarantine import Moment, Newest, Quarantine
from services.ingest.core.reading.intake import Rejection
from services.ingest.flow.accepting import Accepting, ContinueTrace, Spec


class Line(Protocol):
    """What runs for one pipeline generation; opened by the app."""

    async def close(self) -> None:
        """Finish the batches in hand, then let go of everything."""

    async def resume(self) -> bool:
        """Go on after too much was refused; False where nothing had stopped."""

    def hold(self, held: bool) -> None:
        """Take no more in, or take in again; what waits keeps its place on the log."""


OpenLine = Callable[[Accepting], Awaitable[Line]]
FollowSources = Callable[[str, Spec | None], Awaitable[None]]
"""Told of every version of a pipeline that is worked by, and of None when its work ends."""


class Ingest:
    """The pipelines this process works for."""

    def __init__(self, open_line: OpenLine, follow_sources: FollowSources, continue_trace: ContinueTrace,
                 clock: Clock) -> None:
        self._open_line = open_line
        self._follow_sources = follow_sources
        self._continue_trace = continue_trace
        self._clock = clock
        self._lines: dict[str, tuple[Accepting, Line]] = {}
        self._bounds: dict[str, Bounds] = {}
        self._quarantines: dict[str, Quarantine] = {}
        self._pauses: dict[str, Newest] = {}
        self._announced: set[str] = set()

    @property
    def pipelines(self) -> frozenset[str]:
        """Those with work going on."""
        return frozenset(self._lines)

    @property
    def specs(self) -> list[Pipeline]:
        """By which work goes on now."""
        return [accepting.spec.pipeline for accepting, _ in self._lines.values()]

    @property
    def generations(self) -> dict[str, int]:
        """Generation of each pipeline with work going on."""
        return {name: accepting.spec.generation for name, (accepting, _) in self._lines.items()}

    def announce(self, name: str) -> None:
        """Make a pipeline known before its work begins."""
        self._announced.add(name)

    async def follow_pipeline(self, name: str, state: PipelineState | None) -> None:
        """Start, change or end the work for a pipeline.

        Raises Invalid when its spec cannot be read and Refused when it does not fit the generation; the version
        before goes on in both cases.
        """
        if state is None or state.deleted:
            await self._follow_sources(name, None)
            await self._close(name)
            self._announced.discard(name)
            return
        self._announced.add(name)
        pipeline = from_json(state.spec_json)
        if pipeline.name != name:
            raise Invalid(f"the spec announced as {name} is that of {pipeline.name}", field="metadata.name", place=name)
        spec = Spec(pipeline, state.version, max(state.generation, 1), state.partitions, state.rows_since_generation)
        running = self._lines.get(name)
        if running is not None and running[0].spec.generation == spec.generation:
            if spec.version > running[0].spec.version:
                running[0].adopt(spec)
                await self._follow_sources(name, spec)
            return
        await self._close(name)
        accepting = Accepting(spec, self.quarantine_of(name), self._continue_trace, self._clock)
        accepting.bounds = self._bounds.get(name, {})
        line = await self._open_line(accepting)
        self._lines[name] = (accepting, line)
        line.hold(self._paused(name))
        await self._follow_sources(name, spec)

    async def follow_model(self, name: str, state: ModelState | None) -> None:
        """Flag outliers by the statistics of the champion, from the next batch on."""
        champion = next((one for one in state.versions if one.version == state.champion), None) if state else None
        self._bounds[name] = bounds_of(champion.manifest) if champion is not None else {}
        if name in self._lines:
            self._lines[name][0].bounds = self._bounds[name]

    def count_refused(self, name: str, rejections: Sequence[Rejection]) -> None:
        """Rows that a source of the pipeline could not make events of."""
        if name in self._lines:
            self._lines[name][0].count_refused(rejections)

    def quarantine_of(self, name: str) -> Quarantine:
        return self._quarantines.setdefault(name, Quarantine())

    async def quarantine(self, name: str, source: str, quarantined: bool, at: Moment) -> str:
        """Turn a source's events away, or take them again; what was done, for a person. Raises Missing, Refused."""
        if not source:
            raise Refused("the command names no source and no field", field="arguments",
                          remedy="give the source or the field")
        self._known(name)
        changed = self.quarantine_of(name).decide(source, quarantined, at)
        now = "quarantined" if source in self.quarantine_of(name).sources else "accepted"
        return f"source {source} of pipeline {name} is {now}" + ("" if changed else ", as it was before")

    async def quarantine_field(self, name: str, field: str, quarantined: bool, at: Moment, incident_id: str) -> str:
        """Let a field's values be missing, or count again; what was done, for a person. Raises Missing, Refused.

        Nothing can be checked before the pipeline's spec is known, at start; its rows need what they need all the same.
        """
        self._known(name)
        running = self._lines.get(name)
        if running is not None and quarantined:
            pipeline = running[0].spec.pipeline
            if field not in pipeline.fields:
                raise Missing(f"pipeline {name} has no field {field}", field="arguments.field",
                              remedy=f"rows can do without: {', '.join(sorted(pipeline.optional_fields)) or 'none'}")
            if field not in pipeline.optional_fields:
                raise Refused(f"field {field} of pipeline {name} is required: no row can do without it",
                              field="arguments.field",
                              remedy=f"quarantine the source, or pause the pipeline: `lepton pipelines pause {name}`")
        fields = self.quarantine_of(name).fields
        changed = fields.decide(field, quarantined, at, incident_id)
        now = "quarantined" if field in fields.active else "accepted"
        return f"field {field} of pipeline {name} is {now}" + ("" if changed else ", as it was before")

    async def pause(self, name: str, at: Moment) -> str:
        """Take no more events of a pipeline in until `resume`; what was done, for a person. Raises Missing."""
        self._known(name)
        changed = self._pauses.setdefault(name, Newest()).decide(name, True, at)
        self._hold(name)
        return f"pipeline {name} is {'paused' if self._paused(name) else 'not paused'}" + (
            "" if changed else ", as it was before")

    def dead_letter_limit(self, name: str) -> int | None:
        """Refused events a minute past which the pipeline's line stops; None: as the topic says."""
        running = self._lines.get(name)
        return running[0].spec.pipeline.events.dead_letter_limit if running is not None else None

    async def resume(self, name: str, at: Moment) -> str:
        """Let the line of a pipeline go on; what was done, for a person. Raises Missing."""
        self._known(name)
        running = self._lines.get(name)
        paused = self._pauses.setdefault(name, Newest()).decide(name, False, at)
        self._hold(name)
        stood = (running is not None and await running[1].resume()) or paused
        return f"the line of pipeline {name} " + ("goes on" if stood else "did not stand still here")

    def _known(self, name: str) -> None:
        if name not in self._announced:
            raise Missing(f"there is no pipeline {name}", field="target", remedy="see `lepton get pipelines`")

    def _paused(self, name: str) -> bool:
        return name in self._pauses and name in self._pauses[name].active

    def _hold(self, name: str) -> None:
        if name in self._lines:
            self._lines[name][1].hold(self._paused(name))

    async def close(self) -> None:
        for name in list(self._lines):
            await self._close(name)

    async def _close(self, name: str) -> None:
        running = self._lines.pop(name, None)
        if running is not None:
            await running[1].close()
