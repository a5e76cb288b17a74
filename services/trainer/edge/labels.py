"""Answers and labels in, while a candidate is tried: both topics of its pipeline, read from when it began to be heard.

Nothing is committed: what a trainer heard is gone with it, and the next one hears from then on.
"""

import asyncio
import contextlib
from collections.abc import Callable

from lepton.bus.consumer import message_of
from lepton.bus.records import Broker, Record
from lepton.contracts import codec, topics
from lepton.contracts.arrow import predictions
from lepton.contracts.pb.outcomes_pb2 import Outcome
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, LeptonError
from lepton.runtime.loops import Loop, LoopBody, pause
from services.trainer.flow.ports import Pipelines, Tell
from services.trainer.flow.rollouts import Labelled, Rollouts

MAX_RECORDS = 2000
POLL_S = 0.25
AGAIN_S = 2.0


class Labels:
    """Begins and ends a loop with each rollout. `client_id` is this instance's name."""

    def __init__(self, broker: Broker, announced: Pipelines, rollouts: Rollouts, tell: Tell,
                 spawn: Callable[[str, LoopBody], Loop], client_id: str) -> None:
        self._broker = broker
        self._announced = announced
        self._rollouts = rollouts
        self._tell = tell
        self._spawn = spawn
        self._client_id = client_id
        self._loops: dict[str, tuple[Labelled, Loop]] = {}

    async def watch(self, stop: asyncio.Event, every_s: float) -> None:
        """Until `stop`; the loops are their owner's to end."""
        while not await pause(stop, every_s, self._rollouts.clock):
            for model, (labelled, loop) in list(self._loops.items()):
                if self._rollouts.labelled.get(model) is not labelled:
                    del self._loops[model]
                    await loop.stop()
            for model, labelled in self._rollouts.labelled.items():
                if model not in self._loops and model in self._announced():
                    self._loops[model] = labelled, self._spawn(f"labels of {model}", self._body(model, labelled))

    def _body(self, model: str, labelled: Labelled) -> LoopBody:
        async def run(stop: asyncio.Event) -> None:
            while not stop.is_set():
                try:
                    await self._read(model, labelled, stop)
                except LeptonError as error:
                    self._tell.trouble("labels_unheard", str(error), model)
                    await pause(stop, AGAIN_S, self._rollouts.clock)

        return run

    async def _read(self, model: str, labelled: Labelled, stop: asyncio.Event) -> None:
        generation = self._announced()[model].generation
        names = [topics.name(topic, model, generation) for topic in (Topic.PREDICTIONS, Topic.OUTCOMES)]
        reader = self._broker.reader(names, group=None, client_id=f"{self._client_id}-labels-{model}", start="latest")
        await reader.start()
        try:
            while not stop.is_set():
                found = await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)
                for place in sorted(found):
                    for record in found[place]:
                        # What cannot be read is a dead letter already: others read these topics too.
                        with contextlib.suppress(Invalid):
                            hear(labelled, record, prediction=place.topic == names[0])
        finally:
            await reader.stop()


def hear(labelled: Labelled, record: Record, *, prediction: bool) -> None:
    """Take in an answer, or what became true. Raises Invalid for a record that cannot be read."""
    if prediction:
        for said in predictions.told(message_of(record).payload):
            labelled.answered(said.event_id, said.version, said.answer)
        return
    outcome = codec.decode_as(Topic.OUTCOMES, Outcome, record.value or b"")
    kind = outcome.WhichOneof("label")
    labelled.turned_out(outcome.event_id, outcome.number if kind == "number" else outcome.category
                        if kind == "category" else "true" if outcome.flag else "false")
