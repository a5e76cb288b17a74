"""How letters are dealt with: sent back to their topic or laid aside, each once, whoever asks and dies in between."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from lepton.bus.letters.finding import MAX_FOUND, Wanted, find_letters, stream_letters
from lepton.bus.letters.letter import DISCARDED, REPLAYED, Letter, shortened, without_ours
from lepton.bus.records import Broker, Outgoing
from lepton.contracts.envelope import ATTEMPT

REPLAY_BATCH = 500

Told = Callable[[Sequence[Letter]], Sequence[Outgoing]]
KeyOf = Callable[[Letter, bytes | None], bytes | None]
"""The key that a letter's value has on its topic; None where it cannot be told."""


async def replay(broker: Broker, topic_name: str, chosen: Wanted, *, dry_run: bool = False, limit: int = MAX_FOUND,
                 again: bool = False, edits: Mapping[str, bytes] | None = None, key_of: KeyOf | None = None,
                 keep_bytes: int | None = None) -> list[Letter]:
    """Send chosen letters back to the topic and partition they came from; returns those that went (or would go).

    Each goes back once: that it did is written to the dead-letter topic in the same transaction, so a second replay,
    also one at the same moment, has no second effect. `again`: also those that were dealt with before. `edits`: what
    goes back instead of the value, by the letter's own place. The first `limit` go, in the order they were refused.
    `key_of`: what that has as its key; by it goes where it belongs what was edited into another's, or never lay on the
    topic. `keep_bytes`: the letters returned have values cut to so many.
    """
    edited = edits or {}

    def told(letters: Sequence[Letter]) -> list[Outgoing]:
        return [record for letter in letters
                for record in (_back(topic_name, letter, edited, key_of), _mark(letter, REPLAYED))]

    return await _settle(broker, topic_name, chosen, told, dry_run=dry_run, limit=limit, again=again,
                         keep_bytes=keep_bytes)


async def discard(broker: Broker, topic_name: str, chosen: Wanted, *, dry_run: bool = False,
                  limit: int = MAX_FOUND, keep_bytes: int | None = None) -> list[Letter]:
    """Mark chosen letters as dealt with; returns them. They stay on the topic until its retention ends."""
    def told(letters: Sequence[Letter]) -> list[Outgoing]:
        return [_mark(letter, DISCARDED) for letter in letters]

    return await _settle(broker, topic_name, chosen, told, dry_run=dry_run, limit=limit, again=False,
                         keep_bytes=keep_bytes)


async def _settle(broker: Broker, topic_name: str, chosen: Wanted, told: Told, *, dry_run: bool, limit: int,
                  again: bool, keep_bytes: int | None) -> list[Letter]:
    if dry_run:
        return await find_letters(broker, topic_name, chosen, limit=limit, newest=False, settled=again,
                                  keep_bytes=keep_bytes)
    name = f"replay.{topic_name}"
    writer = broker.transactional_writer(name)
    # Before reading: a replay or discard that still runs elsewhere is fenced, and what it did is seen.
    await writer.start()
    gone: list[Letter] = []
    batch: list[Letter] = []
    waiting = stream_letters(broker, topic_name, chosen, limit=limit, newest=False, settled=again)
    try:
        async with aclosing(waiting):
            async for letter in waiting:
                batch.append(letter)
                gone.append(shortened(letter, keep_bytes))
                if len(batch) == REPLAY_BATCH:
                    await writer.commit(told(batch), {}, name)
                    batch = []
        if batch:
            await writer.commit(told(batch), {}, name)
    finally:
        await writer.stop()
    return gone


def _back(topic_name: str, letter: Letter, edits: Mapping[str, bytes], key_of: KeyOf | None) -> Outgoing:
    record = letter.record
    value, key, partition = edits.get(record.place, record.value), record.key, letter.origin_partition
    if key_of is not None and (partition is None or record.place in edits):
        found = key_of(letter, value)
        if found is not None and found != key:
            key, partition = found, None
    headers = (*(pair for pair in without_ours(record.headers) if pair[0] != ATTEMPT),
               (ATTEMPT, str(letter.attempts + 1).encode()))
    return Outgoing(topic_name, value, key, headers, partition)


def _mark(letter: Letter, name: str) -> Outgoing:
    record = letter.record
    return Outgoing(record.topic, b"", record.key, ((name, record.place.encode()),), record.partition)
