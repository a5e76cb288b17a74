"""Lives incidents again: the watchdog's journal in, its decisions out, and whether they are the same to the byte.

    python -m tools.replay                      # everything on lepton-watchdog-journal
    python -m tools.replay inc-0123456789abcdef # the same, and what was decided about this incident, line by line

The broker is that of LEPTON_KAFKA_BOOTSTRAP. Exits with 1 when a decision differs, with 2 when nothing can be replayed.
The code must be that of the watchdog that wrote the journal: another version may decide otherwise.
"""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from lepton.bus import kafka
from lepton.bus.records import Broker
from lepton.contracts import codec, topics
from lepton.contracts.pb.incidents_pb2 import JournalEntry
from lepton.contracts.topics import Topic
from lepton.errors import LeptonError
from lepton.runtime.settings import LeptonSettings, load
from services.watchdog.core.inputs import Decision
from services.watchdog.core.journal import DECISIONS, INPUTS, replay

CLIENT = "lepton-replay"
MAX_RECORDS = 2_000
POLL_S = 0.5


@dataclass
class Life:
    """What one process of a watchdog wrote, up to the first gap in its numbers."""

    watchdog: str
    inputs: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    sequence: int = 0
    broken: bool = False
    last_kind: str = ""

    def take(self, entry: JournalEntry) -> None:
        if entry.sequence <= self.sequence or self.broken:
            # Written twice, or behind a gap: what went before it is unknown.
            return
        if entry.sequence != self.sequence + 1:
            self.broken = True
            return
        self.sequence, self.last_kind = entry.sequence, entry.kind
        if entry.kind == INPUTS:
            self.inputs.append(entry.body_json)
        elif entry.kind == DECISIONS:
            self.decisions.append(entry.body_json)

    def differing(self) -> list[tuple[str, str]]:
        """Pairs of what was decided and what is decided now, where the two are not the same bytes."""
        again = [msgspec.json.encode(made).decode() for made in replay(self.inputs)]
        if self.last_kind == INPUTS and len(again) == len(self.decisions) + 1:
            # It ended, or the journal does, between the inputs of a decision and the decision.
            again.pop()
        count = max(len(again), len(self.decisions))
        before, now = (one + [""] * (count - len(one)) for one in (self.decisions, again))
        return [(one, other) for one, other in zip(before, now, strict=True) if one != other]

    def about(self, incident_id: str) -> Iterable[Decision]:
        """What was decided about an incident, lived again."""
        for made in replay(self.inputs):
            yield from (one for one in made if one.incident.id == incident_id)


def lives(entries: Iterable[JournalEntry]) -> list[Life]:
    """The lives that can be replayed from their first entry on, in the order they began."""
    found: list[Life] = []
    newest: dict[str, Life] = {}
    for entry in entries:
        known = newest.get(entry.watchdog)
        if entry.sequence == 1 and (known is None or known.inputs[:1] != [entry.body_json]):
            newest[entry.watchdog] = Life(entry.watchdog)
            found.append(newest[entry.watchdog])
        if entry.watchdog in newest:
            newest[entry.watchdog].take(entry)
    return [life for life in found if life.inputs]


async def read(broker: Broker) -> list[JournalEntry]:
    """All that the topic holds now. Raises Missing without the topic, Unavailable without the broker."""
    reader = broker.reader([topics.name(Topic.WATCHDOG_JOURNAL)], group=None, client_id=CLIENT)
    await reader.start()
    try:
        places = sorted(reader.assignment())
        ends = await reader.end_offsets(places)
        entries: list[JournalEntry] = []
        while any(reader.position(place) < ends[place] for place in places):
            for records in (await reader.poll(max_records=MAX_RECORDS, timeout_s=POLL_S)).values():
                entries += [codec.decode_as(Topic.WATCHDOG_JOURNAL, JournalEntry, one.value or b"") for one in records]
        return entries
    finally:
        await reader.stop()


def tell(found: Sequence[Life], incident_id: str) -> int:
    """Say what came of it; the exit code."""
    if not found:
        print("the journal holds no life of a watchdog from its beginning")
        return 2
    wrong = 0
    for life in found:
        differing = life.differing()
        wrong += len(differing)
        print(f"{life.watchdog}: {life.sequence} entries, {len(life.decisions)} with decisions, "
              f"{len(differing)} of them differ" + (", cut short by a gap" if life.broken else ""))
        for before, now in differing:
            print(f"  was {before or 'nothing'}\n  now {now or 'nothing'}")
        for one in life.about(incident_id) if incident_id else ():
            note = one.incident.timeline[-1]
            print(f"  {one.incident.state}: {note.what} {note.detail}")
    return 1 if wrong else 0


async def main(incident_id: str) -> int:
    broker = kafka.connect(load(LeptonSettings).broker_options())
    try:
        return tell(lives(await read(broker)), incident_id)
    finally:
        await broker.close()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "")))
    except LeptonError as error:
        sys.exit(f"nothing could be replayed: {error}")
