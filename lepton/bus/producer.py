"""How a service says something: message to bytes, headers with the trace, durable before `send` returns."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from lepton.bus.records import Broker, Outgoing, Record
from lepton.contracts import codec, topics
from lepton.contracts.envelope import Envelope
from lepton.contracts.topics import Topic
from lepton.runtime import tracing
from lepton.runtime.telemetry import Telemetry

MAX_IN_FLIGHT = 1000


class Producer:
    """An idempotent producer with a bound on what is in flight; callers above it wait."""

    def __init__(self, broker: Broker, client_id: str, telemetry: Telemetry | None = None,
                 max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._writer = broker.writer(client_id)
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(max_in_flight)

    async def start(self) -> None:
        await self._writer.start()

    async def stop(self) -> None:
        """Flush, then close."""
        await self._writer.stop()

    async def flush(self) -> None:
        await self._writer.flush()

    async def send(self, topic: Topic, message: Message | bytes | None, *, key: str | bytes | None,
                   pipeline: str | None = None, generation: int = 1, envelope: Envelope = Envelope()) -> Record:  # noqa: B008  frozen
        """Write one message, None being a tombstone; returns once it is durable, with its place.

        Raises Invalid when it does not fit the topic, Missing when the topic does not exist, Unavailable when the bus
        does not answer (the message may have been written all the same).
        """
        if self._telemetry is None:
            return await self._send(outgoing(topic, message, key=key, pipeline=pipeline, generation=generation,
                                             envelope=envelope))
        name = topics.name(topic, pipeline, generation)
        with self._telemetry.span(f"send {topic.stem}", parent=envelope.traceparent, kind=SpanKind.PRODUCER,
                                  **{"messaging.system": "kafka", "messaging.destination.name": name}):
            # The span made here is what the reader continues; it descends from the one the envelope named.
            followed = replace(envelope, traceparent=tracing.traceparent() or envelope.traceparent)
            return await self._send(outgoing(topic, message, key=key, pipeline=pipeline, generation=generation,
                                             envelope=followed))

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        """Write records made by `outgoing`, pipelined, in order within a partition; outcomes as of `send`."""
        async with self._slots:
            return await self._writer.send_all(records)

    async def _send(self, record: Outgoing) -> Record:
        async with self._slots:
            return await self._writer.send(record)


def outgoing(topic: Topic, message: Message | bytes | None, *, key: str | bytes | None, pipeline: str | None = None,
             generation: int = 1, envelope: Envelope = Envelope(), partition: int | None = None) -> Outgoing:  # noqa: B008  frozen
    """The record of a message: encoded by the topic's contract, in the current trace unless the envelope names one."""
    if envelope.traceparent is None:
        envelope = replace(envelope, traceparent=tracing.traceparent())
    value = codec.encode(topic, message) if isinstance(message, Message) else message
    return Outgoing(topics.name(topic, pipeline, generation), value, key.encode() if isinstance(key, str) else key,
                    envelope.to_headers(), partition)
