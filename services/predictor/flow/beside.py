"""What is done while a candidate is tried: it answers its share, or in the shadow; both versions are counted."""

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lepton.clock import Clock
from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.errors import Busy, Invalid, LeptonError
from lepton.runtime.loops import pause
from services.predictor.core.answers import Answers
from services.predictor.core.batching.batcher import Arrays
from services.predictor.core.engine import Engine
from services.predictor.core.oip.tally import Timed
from services.predictor.core.rollout.arms import Arm, Trial
from services.predictor.core.rollout.comparing import agreed, sound, sound_answers
from services.predictor.core.signature import Feed
from services.predictor.core.streamed import rowbytes
from services.predictor.flow.library import Library

if TYPE_CHECKING:
    import pyarrow as pa

ENTITY = "entity"
"""Parameter of a request in the protocol: whom it is about."""

WAITING_ROWS = 65_536
"""Rows that wait for the shadow at most; it is a sample then, and nobody waits for it."""
LOOK_EVERY_S = 0.02
AT_ONCE = 64
ANSWER_WITHIN_S = 30.0

log = logging.getLogger(__name__)


def entity_of(request: oip.ModelInferRequest) -> str:
    """Whom the request says it is about; empty when it says nothing."""
    return request.parameters[ENTITY].string_param if ENTITY in request.parameters else ""


def key_of(request: oip.ModelInferRequest) -> str:
    """What a request is kept together with others by: the entity it names, else its id."""
    return entity_of(request) or request.id


@dataclass(frozen=True, slots=True)
class Scored:
    """Answers for the rows of a stream, in their order.

    `parts` together are as many as the rows, but for those that `picked` names: these `tried` answers, by `candidate`.
    """

    version: int
    parts: Sequence[Answers]
    candidate: int = 0
    tried: Sequence[Answers] = ()
    picked: Sequence[bool] = ()

    def version_at(self, row: int) -> int:
        return self.candidate if self.picked and self.picked[row] else self.version

    def written(self, event_ids: Sequence[bytes], entities: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """For each row the version that answered it, and the members of its PredictionServed that are its own."""
        whose, mine = map(rowbytes.whose, event_ids, entities), rowbytes.answered(self.parts)
        if not self.picked:
            return zip(itertools.repeat(self.version), map(bytes.__add__, whose, mine))
        theirs = rowbytes.answered(self.tried)
        return ((self.candidate, row + next(theirs)) if tried else (self.version, row + next(mine))
                for row, tried in zip(whose, self.picked, strict=True))

    def batches(self, rows: "pa.RecordBatch", model: str, instance: str) -> Iterator[bytes]:
        """Values of records that hold the answers as batches, those of each version apart; within one they keep their
        order, and an entity's rows are answered by one. `rows`: the columns of `predictions.OURS` but for the version.
        """
        # Whoever scores no stream is spared Arrow.
        from services.predictor.core.streamed import columns

        whose = [(self.version, rows, self.parts)]
        if self.picked:
            theirs, mine = columns.apart(rows, self.picked)
            whose = [(self.version, mine, self.parts), (self.candidate, theirs, self.tried)]
        for version, answered, parts in whose:
            starts = itertools.accumulate(map(len, parts), initial=0)
            for start, answers in zip(starts, parts, strict=False):
                yield from columns.written(answered.slice(start, len(answers)), version, answers, model=model,
                                           instance=instance)

    def counts(self) -> dict[int, int]:
        """Rows by the version that answered them."""
        found = Counter({self.version: sum(map(len, self.parts))})
        # They are one where the champion before, which is tried again, stands in for the champion.
        found[self.candidate] += sum(map(len, self.tried))
        return {version: rows for version, rows in found.items() if rows}


class Sounded(Protocol):
    """The version and the answers that a stream is given for rows the champion answered with `parts`."""

    async def __call__(self, engine: Engine, batch: "pa.RecordBatch",
                       parts: Sequence[Answers]) -> tuple[int, Sequence[Answers]]: ...


@dataclass(frozen=True, slots=True)
class _Requested:
    feed: Feed
    champion: Engine
    outputs: Arrays

    @property
    def rows(self) -> int:
        return self.feed.rows


@dataclass(frozen=True, slots=True)
class _Streamed:
    batch: "pa.RecordBatch"
    answers: Sequence[Answers]

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows)


class Beside:
    """Belongs to the event loop. What the candidate fails of, the champion answers: callers see nothing of it."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._shadows: deque[tuple[str, Trial, _Requested | _Streamed]] = deque()
        self._waiting = 0

    async def answer(self, trial: Trial, engine: Engine, timed: Timed, feed: Feed,
                     deadline: float) -> tuple[Engine, Arrays]:
        """A request's outputs, and the version that gave them. Raises as `Batcher.answer`."""
        timed.read(feed)
        if engine.manifest.version == trial.candidate:
            answering, outputs = await self._tried(trial, engine, feed, deadline)
            if answering is not engine:
                timed.handed_to(answering.tally)
            return answering, outputs
        arm, started = trial.arms.get(engine.manifest.version), self._clock.monotonic()
        try:
            outputs = await engine.answer(feed, deadline)
        except (Invalid, Busy):
            raise
        except Exception:
            if arm is not None:
                arm.missed()
            raise
        if arm is not None:
            self._count(arm, sound(outputs), feed.rows, started)
            if trial.shadow:
                # Its memory may be the caller's, who has it back with the answer.
                mine = Feed({name: array.copy() for name, array in feed.arrays.items()}, feed.rows)
                self._shadow(engine.manifest.model, trial, _Requested(mine, engine, outputs))
        return engine, outputs

    async def score(self, model: str, trial: Trial, batch: "pa.RecordBatch", sounded: Sounded) -> Scored:
        """Answers for a features batch, each entity's by the version that answers it. Raises as `Engine.score`.

        What the champion answered goes through `sounded`; a shadow is compared with what it answered itself.
        """
        from services.predictor.core.streamed import columns  # as above

        mask = trial.picked(columns.entities(batch))
        theirs, rest = columns.apart(batch, mask)
        tried = await self._tried_rows(model, trial, theirs) if theirs.num_rows else None
        with self._library.lease(model, str(self._library.serving(model))) as engine:
            arm = trial.arms.get(engine.manifest.version) or Arm()
            if tried is None:
                parts = await self._run(engine, arm, batch)
                self._shadow(model, trial, _Streamed(batch, parts))
                return Scored(*await sounded(engine, batch, parts))
            parts = await self._run(engine, arm, rest) if rest.num_rows else []
            return Scored(*await sounded(engine, rest, parts), trial.candidate, tried, mask)

    async def run(self, stop: asyncio.Event) -> None:
        """A loop for the service: have shadows answer what waits for them, until `stop`."""
        while not await pause(stop, LOOK_EVERY_S, self._clock):
            while self._shadows and not stop.is_set():
                taken = [self._shadows.popleft() for _ in range(min(AT_ONCE, len(self._shadows)))]
                self._waiting -= sum(one.rows for _, _, one in taken)
                await asyncio.gather(*(self._compare(*one) for one in taken))

    async def _tried(self, trial: Trial, engine: Engine, feed: Feed, deadline: float) -> tuple[Engine, Arrays]:
        arm, started = trial.arms[trial.candidate], self._clock.monotonic()
        try:
            outputs = await engine.answer(feed, deadline)
        except TimeoutError:
            arm.missed()
            raise
        except Exception as error:  # noqa: BLE001 - whatever a candidate raises, the champion is asked instead
            log.info("candidate %d of %s failed: %s", trial.candidate, engine.manifest.model, error)
        else:
            if sound(outputs):
                arm.ran(feed.rows, self._clock.monotonic() - started)
                return engine, outputs
        model = engine.manifest.model
        with self._library.lease(model, str(self._library.serving(model))) as champion:
            try:
                outputs = await champion.answer(feed, deadline)
            except TimeoutError:
                arm.missed()
                raise
        # The champion could answer: that the candidate could not was its own fault.
        arm.missed()
        return champion, outputs

    async def _tried_rows(self, model: str, trial: Trial, rows: "pa.RecordBatch") -> list[Answers] | None:
        """None when the candidate could not."""
        arm, started = trial.arms[trial.candidate], self._clock.monotonic()
        try:
            with self._library.lease(model, str(trial.candidate)) as engine:
                parts = await _scored(engine, rows)
        except Exception as error:  # noqa: BLE001 - as above
            log.info("candidate %d of %s failed: %s", trial.candidate, model, error)
            arm.missed()
            return None
        fine = all(map(sound_answers, parts))
        self._count(arm, fine, rows.num_rows, started)
        return parts if fine else None

    async def _run(self, engine: Engine, arm: Arm, batch: "pa.RecordBatch") -> list[Answers]:
        started = self._clock.monotonic()
        try:
            parts = await _scored(engine, batch)
        except Invalid:
            raise
        except LeptonError:
            arm.missed()
            raise
        self._count(arm, all(map(sound_answers, parts)), batch.num_rows, started)
        return parts

    def _count(self, arm: Arm, fine: bool, rows: int, started: float) -> None:
        if fine:
            arm.ran(rows, self._clock.monotonic() - started)
        else:
            arm.missed()

    def _shadow(self, model: str, trial: Trial, work: _Requested | _Streamed) -> None:
        if trial.shadow and trial.open and self._waiting + work.rows <= WAITING_ROWS:
            self._waiting += work.rows
            self._shadows.append((model, trial, work))

    async def _compare(self, model: str, trial: Trial, work: _Requested | _Streamed) -> None:
        if self._library.trial(model) is not trial:
            return
        arm, started = trial.arms[trial.candidate], self._clock.monotonic()
        try:
            with self._library.lease(model, str(trial.candidate)) as engine:
                if isinstance(work, _Requested):
                    outputs = await engine.answer(work.feed, started + ANSWER_WITHIN_S)
                    mine, theirs = [engine.read(outputs)], [work.champion.read(work.outputs)]
                else:
                    mine, theirs = await _scored(engine, work.batch), list(work.answers)
        except Exception as error:  # noqa: BLE001 - nobody waits for this answer; that there is none is what counts
            log.info("shadow %d of %s failed: %s", trial.candidate, model, error)
            arm.missed()
            return
        fine = all(map(sound_answers, mine))
        self._count(arm, fine, work.rows, started)
        if fine:
            arm.compared += work.rows
            arm.agreed += sum(agreed(one, other) for one, other in zip(mine, theirs, strict=True))


async def _scored(engine: Engine, batch: "pa.RecordBatch") -> list[Answers]:
    if engine.is_quick(batch.num_rows):
        return engine.score(batch)
    return await asyncio.to_thread(engine.score, batch)
