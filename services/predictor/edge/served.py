"""A log of sampled answers to requests: through a bounded queue, that drops and counts, to the predictions topic."""

import asyncio
import itertools
import logging
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from lepton.bus.producer import Producer, outgoing
from lepton.bus.records import Outgoing
from lepton.clock import Clock
from lepton.contracts.envelope import Envelope
from lepton.contracts.pb import predictions_pb2
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError
from lepton.runtime.loops import pause
from services.predictor.edge.measures import Measures
from services.predictor.flow.answered import MAX_LOGGED_ROWS, Answered

QUEUE = 2000
"""Answers that may wait; a bus that is away for longer costs log lines, never requests."""

SEND_EVERY_S = 0.1

log = logging.getLogger(__name__)


class ServedLog:
    """`offer` never waits, and may be called from any thread: it wakes nobody, which would cost more than the line.
    `run` sends what was offered. `generations`: the current one of each pipeline.
    """

    def __init__(self, producer: Producer, generations: Mapping[str, int], measures: Measures, instance: str,
                 clock: Clock) -> None:
        self._producer = producer
        self._generations = generations
        self._measures = measures
        self._instance = instance
        self._clock = clock
        self._queue: deque[tuple[Answered, datetime]] = deque()

    def offer(self, answered: Answered) -> None:
        """Take an answer for the log, or drop it when too many wait."""
        if len(self._queue) >= QUEUE:
            self._measures.dropped(answered.model)
            return
        self._queue.append((answered, self._clock.now()))

    async def run(self, stop: asyncio.Event) -> None:
        """A loop for the service: send until `stop`, and what is left then."""
        while not await pause(stop, SEND_EVERY_S, self._clock):
            await self.send()
        await self.send()

    async def send(self) -> None:
        """Send what waits now; what the bus does not take is counted and gone."""
        taken = [self._queue.popleft() for _ in range(len(self._queue))]
        if not taken:
            return
        records = [record for answered, at in taken for record in self._records(answered, at)]
        try:
            await self._producer.send_all(records)
        except LeptonError as error:
            log.warning("%d answers are missing in the log of predictions: %s", len(records), error)
            for answered, _ in taken:
                self._measures.dropped(answered.model)

    def _records(self, answered: Answered, said: datetime) -> list[Outgoing]:
        generation = self._generations.get(answered.model)
        if generation is None:
            return []
        at = Timestamp()
        at.FromDatetime(said)
        answers = answered.answers
        request_id = answered.request_id or uuid.uuid4().hex
        found = []
        for row, answer in enumerate(itertools.islice(answers.rows(), MAX_LOGGED_ROWS)):
            event_id = request_id if len(answers) == 1 else f"{request_id}#{row}"
            entity = answered.entity or event_id
            message = predictions_pb2.PredictionServed(
                event_id=event_id, entity=entity, model=answered.model, version=answered.version,
                source=predictions_pb2.PREDICTION_SOURCE_REQUEST, predicted_at=at, latency_s=answered.latency_s,
                instance=self._instance, inputs_sha256=answered.digests[row] if answered.digests else b"", **answer)
            found.append(outgoing(Topic.PREDICTIONS, message, key=entity, pipeline=answered.model,
                                  generation=generation,
                                  envelope=Envelope(event_id=event_id, traceparent=answered.traceparent)))
        return found
