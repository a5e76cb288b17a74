"""A pipeline of readings of which rows can do without one, and a producer whose readings can be spoilt."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.harness.ledger import Tail, ids_of_features
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

LONG_S = 120
FIRST = 700
RATE = 80.0

SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: NAME}
events:
  id: event_id
  entity: entity_id
  partitions: 1
  fields:
    celsius: {type: float, required: true}
    humidity: {type: float}
watch: {data: {after_s: 6}}
heal: {restore_after_s: 2, resume_after_s: 3, notify: [log]}
"""


class Sensors:
    """Readings of one pipeline of its own; `spoilt`: the field whose values are none, by now; `renamed`: the one that
    is sent under another name."""

    def __init__(self, stack: LocalStack, name: str) -> None:
        self.stack = stack
        self.name = name
        self.spoilt = ""
        self.renamed = ""
        self.sent = 0

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Enough good readings for something to be usual, then more of them all the time."""
        await self.stack.post_text("/v1/pipelines", SPEC.replace("NAME", self.name))
        producer = AIOKafkaProducer(bootstrap_servers=self.stack.kafka, enable_idempotence=True, acks="all")
        await producer.start()
        flow = asyncio.create_task(self._flow(producer))
        try:
            yield
        finally:
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)
            await producer.stop()
            async with self.stack.rest_client() as client:
                await client.delete(f"/v1/pipelines/{self.name}")

    async def incident(self, symptom: str, state: str, note: str = "") -> dict[str, Any]:
        """The incident of this pipeline, once it is in that state, and `note` in its timeline."""
        async def found() -> dict[str, Any] | None:
            return next((dict(one) for one in await self.stack.get("/v1/incidents")
                         if (one["pipeline"], one["symptom"], one["state"]) == (self.name, symptom, state)
                         and (not note or any(entry["what"] == note for entry in one["timeline"]))), None)

        result = await apoll_until(found, f"an incident {symptom} of {self.name}, {state} {note}", LONG_S, every_s=0.5)
        assert result is not None
        return result

    async def taken_in(self) -> None:
        """Until a reading is accepted that was sent from now on."""
        async with Tail(self.stack.kafka, f"lepton-features-{self.name}", ids_of_features, "r-") as features:
            first = self.sent

            async def arrived() -> bool:
                await features.read()
                return any(int(one.removeprefix("r-")) > first for one in features.seen)

            await apoll_until(arrived, f"rows of {self.name}", LONG_S)

    async def flowed(self, readings: int) -> None:
        """Until so many more were sent."""
        goal = self.sent + readings

        async def sent() -> bool:
            return self.sent >= goal

        await apoll_until(sent, f"{readings} readings of {self.name}", LONG_S)

    async def _flow(self, producer: AIOKafkaProducer) -> None:
        while True:
            reading: dict[str, Any] = {"event_id": f"r-{self.sent}", "entity_id": f"s-{self.sent % 20}",
                                       "celsius": 20 + self.sent % 7, "humidity": 40 + self.sent % 31}
            if self.spoilt:
                reading[self.spoilt] = "n/a"
            if self.renamed:
                reading[f"{self.renamed}_v2"] = reading.pop(self.renamed)
            await producer.send(f"lepton-events-{self.name}", json.dumps(reading).encode(),
                                key=reading["entity_id"].encode(), headers=[("ce_source", b"hall")])
            self.sent += 1
            if self.sent > FIRST:
                await asyncio.sleep(1 / RATE)
