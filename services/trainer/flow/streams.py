"""A pipeline's stream learnt in a process of its own: begun from what was kept, fed, kept again, offered as candidates.

What was learnt and the offsets it was learnt from are one document (`lepton/store/registry/streams.py`): a process or
trainer that is killed goes on from both, so that no row is lost or counted twice.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from lepton.clock import Clock
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.pipelines_pb2 import PipelineState
from lepton.contracts.pb.training_pb2 import TrainingCommand
from lepton.errors import Invalid, Missing, Unavailable
from lepton.store.artifacts import Damaged
from lepton.store.registry.streams import Offsets, Standing, Streams
from services.trainer.core.streaming.course import course_digest, stream_of
from services.trainer.flow.planning import parsed
from services.trainer.flow.ports import Bounds, Stores, Tell
from services.trainer.flow.requests import ROWS_PRIORITY

STREAM = "stream"
"""Reason of the runs that publish candidates of a stream."""
# So much is learnt in seconds; then the lease is looked after again.
_BYTES_AT_ONCE = 2**18

Figures = Callable[[str, Mapping[str, float]], None]
"""Where a pipeline's prequential figures go."""

log = logging.getLogger(__name__)


class Fed(NamedTuple):
    """A record: its stream (`features` or `outcomes`), place and bytes."""

    stream: str
    partition: int
    offset: int
    value: bytes


class Pupil(Protocol):
    """The process in which a stream is learnt. `ask` raises Unavailable when it dies."""

    async def ask(self, header: Mapping[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]: ...

    async def kill(self) -> None:
        """Returns when it is gone."""


class Pupils(Protocol):
    async def launch(self) -> Pupil: ...


class StreamLearning:
    """One pipeline's; `begin` first, and again after anything was raised."""

    def __init__(self, stores: Stores, streams: Streams, pupils: Pupils, bounds: Bounds, figures: Figures, tell: Tell,
                 clock: Clock) -> None:
        self._stores = stores
        self._streams = streams
        self._pupils = pupils
        self._bounds = bounds
        self._figures = figures
        self._tell = tell
        self._clock = clock
        self._pupil: Pupil | None = None
        self._standing: Standing | None = None
        self._renew_at = 0.0
        self._changed = False

    async def begin(self, state: PipelineState, owner: str) -> Offsets | None:
        """Offsets to read on from, empty for the beginning; None while another trainer learns the stream."""
        await self.end()
        spec = parsed(state.spec_json)
        standing = await self._streams.claim(state.name, course_digest(spec, state.generation), owner,
                                             self._bounds.lease_s)
        if standing is None:
            return None
        self._standing, self._renew_at, self._changed = standing, 0.0, False
        offsets, kept = standing.offsets, await self._kept(standing)
        question = {"do": "begin", "spec": state.spec_json, "generation": state.generation,
                    "memory_mb": self._bounds.memory_mb}
        self._pupil = await self._pupils.launch()
        answer, _ = await self._pupil.ask(question, kept or b"")
        if "failed" in answer:
            self._tell.trouble("stream_unreadable", str(answer["failed"]), state.name)
            kept = None
            answer, _ = await self._pupil.ask(question)
        log.info("the stream of %s is learnt from row %d on", state.name, answer["seen"])
        return offsets if kept is not None else {}

    async def take(self, records: Sequence[Fed]) -> list[tuple[int, Invalid]]:
        """Learn what these complete; places of those that cannot be read. Raises Unavailable or Refused."""
        pupil, standing = self._begun()
        refused: list[tuple[int, Invalid]] = []
        begun = 0
        for some in _portions(records):
            places = [[one.stream, one.partition, one.offset, len(one.value)] for one in some]
            report, _ = await pupil.ask({"do": "take", "records": places}, b"".join(one.value for one in some))
            self._changed = True
            refused += [(begun + place, Invalid(message, field=field or None))
                        for place, message, field in report["refused"]]
            begun += len(some)
            self._figures(standing.pipeline, {
                **report["figures"], "rows": report["seen"], "left_out": report["left_out"],
                **{f"waiting_{name}": count for name, count in report["waiting"].items()}})
            if report["due"]:
                await self._offer()
            await self._renew()
        return refused

    async def keep(self) -> Offsets | None:
        """Make what was learnt, and how far was read, outlive this process; None where nothing was read since.

        Raises Unavailable, or Refused when another trainer learns the stream by now.
        """
        pupil, standing = self._begun()
        if not self._changed:
            await self._renew()
            return None
        about, state = await pupil.ask({"do": "state"})
        await self._streams.save(standing.pipeline, standing.fence, state, about["offsets"])
        self._changed = False
        offsets: Offsets = about["offsets"]
        return offsets

    async def end(self) -> None:
        """Let another have it; what was not kept is learnt again."""
        pupil, standing, self._pupil, self._standing = self._pupil, self._standing, None, None
        if pupil is not None:
            await pupil.kill()
        if standing is not None:
            await self._streams.let_go(standing.pipeline, standing.fence)

    async def forget(self, pipeline: str) -> None:
        await self._streams.forget(pipeline)

    async def _offer(self) -> None:
        """Queue a run that publishes the state as it is, unless one is under way. The same state is offered once."""
        pupil, standing = self._begun()
        if any(run.command.model == standing.pipeline for run in await self._stores.runs.under_way()):
            return
        about, state = await pupil.ask({"do": "state"})
        digest = await self._streams.save(standing.pipeline, standing.fence, state, about["offsets"], offered=True)
        command = TrainingCommand(
            command_id=f"{STREAM}-{standing.pipeline}-{digest[:16]}", kind=training_pb2.TRAINING_KIND_TRAIN,
            model=standing.pipeline, promote=True, issuer="trainer", reason=STREAM, priority=ROWS_PRIORITY,
            stream_sha256=digest)
        command.issued_at.FromDatetime(self._clock.now())
        await self._stores.runs.enqueue(command)
        await pupil.ask({"do": "offered"})

    async def _kept(self, standing: Standing) -> bytes | None:
        if not standing.digest:
            return None
        try:
            return await self._streams.bytes_of(standing.digest)
        except (Missing, Damaged) as error:
            self._tell.trouble("stream_unreadable", str(error), standing.pipeline)
            return None

    async def _renew(self) -> None:
        _, standing = self._begun()
        now = self._clock.monotonic()
        if now >= self._renew_at:
            await self._streams.renew(standing.pipeline, standing.fence, self._bounds.lease_s)
            self._renew_at = now + self._bounds.lease_s / 3

    def _begun(self) -> tuple[Pupil, Standing]:
        if self._pupil is None or self._standing is None:
            raise Unavailable("the stream's learner was not begun")
        return self._pupil, self._standing


def learns_stream(state: PipelineState) -> bool:
    return not state.deleted and stream_of(parsed(state.spec_json)) is not None


def _portions(records: Sequence[Fed]) -> Iterator[list[Fed]]:
    some: list[Fed] = []
    size = 0
    for record in records:
        some.append(record)
        size += len(record.value)
        if size >= _BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
