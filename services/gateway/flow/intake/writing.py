"""How rows of a file become records: good ones events (and labels), the others dead letters that say which row."""

from collections.abc import Sequence

from lepton.bus.letters.refusing import DeadLetters
from lepton.bus.producer import Producer, outgoing
from lepton.bus.records import Headers, Outgoing, Record
from lepton.clock import Clock
from lepton.contracts import names, topics
from lepton.contracts.envelope import Envelope
from lepton.contracts.files.rows import ORIGIN, FileEvent, origin
from lepton.contracts.topics import Topic
from lepton.errors import Invalid
from lepton.runtime.telemetry import Telemetry
from lepton.store.files.uploads import Upload
from services.gateway.flow.intake.made import Made

LETTER_BYTES = 64 * 1024
EVENT_TYPE, LABEL_TYPE = "lepton.event", "lepton.label"


class RowWriter:
    """Rows that are written stay as they are; the same rows again get the same ids."""

    def __init__(self, producer: Producer, telemetry: Telemetry, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._letters = DeadLetters("gateway", clock)
        self._taken = telemetry.counter(names.EVENTS_POSTED, "Events made durable for their senders")

    async def write(self, upload: Upload, version: int, made: Sequence[Made], texts: Sequence[bytes]) -> int:
        """Return once rows from `upload.rows` on are durable; how many of them were refused. Raises Unavailable."""
        out: list[Outgoing] = []
        refused = 0
        for number, (one, text) in enumerate(zip(made, texts, strict=True), start=upload.rows + 1):
            if isinstance(one, Invalid):
                refused += 1
                out.append(self._letter(upload, number, text, one))
            else:
                out += self._event(upload, version, number, one)
        await self._producer.send_all(out)
        self._taken.add(len(made) - refused, {names.PIPELINE: upload.pipeline})
        return refused

    def _event(self, upload: Upload, version: int, number: int, event: FileEvent) -> list[Outgoing]:
        def record(topic: Topic, value: bytes, key: str, kind: str) -> Outgoing:
            made = outgoing(topic, value, key=key, pipeline=upload.pipeline, generation=upload.generation,
                            envelope=Envelope(event_id=event.event_id, occurred_at=self._clock.now(),
                                              source=_source(upload), event_type=kind, spec_version=version,
                                              content_type="application/json"))
            return made._replace(headers=(*made.headers, *_origin(upload, number)))

        found = [record(Topic.EVENTS, event.value, event.key, EVENT_TYPE)]
        if event.label is not None:
            found.append(record(Topic.LABELS, event.label, event.event_id, LABEL_TYPE))
        return found

    def _letter(self, upload: Upload, number: int, text: bytes, error: Invalid) -> Outgoing:
        headers = Envelope(event_id=f"{upload.id}-{number}", source=_source(upload)).to_headers()
        topic_name = topics.name(Topic.EVENTS, upload.pipeline, upload.generation)
        where = origin(upload.name, number)
        never = Record(topic_name, -1, -1, where.encode(), text[:LETTER_BYTES], (*headers, *_origin(upload, number)))
        return self._letters.letter(never, error, at=where, counted=False)


def _source(upload: Upload) -> str:
    return f"file/{upload.name}"


def _origin(upload: Upload, number: int) -> Headers:
    return ((ORIGIN, origin(upload.name, number).encode()),)
