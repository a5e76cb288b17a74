"""Bringing a backup back into an empty broker and database, and reading it back to prove that it is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.backup.archive import records
from deploy.backup.archive.parts import Manifest, walk
from deploy.backup.archive.secret import Secret
from deploy.backup.archive.tally import Tally
from deploy.backup.plan import KeptTopic, Plan, compacted
from deploy.backup.restoring.forward import Forward
from deploy.backup.restoring.laying import Layer, StateLayer
from deploy.backup.site import Site
from deploy.backup.taking import AGAIN, read
from lepton.bus import kafka
from lepton.bus.aio.exact import ExactWriter
from lepton.bus.kafka import KafkaBroker
from lepton.bus.records import Place, TopicPlan
from lepton.contracts import topics
from lepton.errors import Refused, Unavailable
from lepton.store.copies.raw import RawCollections, split

_WRITER = "backup-restore"
_DOCUMENTS, _TOPICS = "database/", "topics/"


async def bring(site: Site, archive: Path, secret: Secret, manifest: Manifest, *, forward: Forward | None = None,
                replace: str = "") -> list[str]:
    """Have broker and database hold what the backup holds; lines that say what came back.

    Raises Refused, before anything is changed, when something is there already that `replace` does not name;
    Unavailable when what was read back is not what was written.
    """
    plan = Plan.from_json(manifest.plan)
    broker, database = kafka.connect(site.broker), site.database()
    try:
        await broker.ping()
        await database.ping()
        raw = RawCollections(database)
        await _require_empty(site, broker, raw, replace)
        await broker.delete_topics([name for name in await broker.list_topics() if topics.locate(name) is not None])
        await database.drop()
        await database.migrate()
        await _documents(archive, secret, raw)
        plan = forward.plan(plan) if forward is not None else plan
        await _topics(archive, secret, broker, plan, site.replication, forward)
        told = [await _compare_documents(manifest, raw), await _compare_topics(manifest, broker, plan, forward)]
        await _commit(broker, plan)
        # The database was read after the topics: what it had announced in between is announced again.
        await raw.announce_again()
        return told
    finally:
        await broker.close()
        await database.close()


async def _require_empty(site: Site, broker: KafkaBroker, raw: RawCollections, replace: str) -> None:
    documents = 0
    for name in await raw.names():
        documents += await raw.count(name) if name != "migrations" else 0
    present = [name for name in await broker.list_topics() if topics.locate(name) is not None]
    if (documents or present) and replace != site.name:
        raise Refused(f"the stack {site.name} is not empty: {documents:,} documents, {len(present)} topics",
                      remedy=f"bring it back elsewhere with --home, or lose all of that with --replace {site.name}")


async def _documents(archive: Path, secret: Secret, raw: RawCollections) -> None:
    for name, frame in walk(archive, secret):
        if name.startswith(_DOCUMENTS) and frame:
            await raw.write(name.removeprefix(_DOCUMENTS).removesuffix(AGAIN), split(frame))


async def _topics(archive: Path, secret: Secret, broker: KafkaBroker, plan: Plan, replication: int,
                  forward: Forward | None) -> None:
    await broker.create_topics([TopicPlan(topic.name, len(topic.spans), topic.config, replication)
                                for topic in plan.topics])
    writer = broker.exact_writer(_WRITER)
    await writer.start()
    try:
        layers = {topic.part: _layer(topic, writer) for topic in plan.topics}
        for name, frame in walk(archive, secret):
            if name in layers and frame and not (forward is not None and forward.has(name)):
                await layers[name].lay(records.decode(name.removeprefix(_TOPICS), frame))
        if forward is not None:
            for name, found in forward.records():
                await layers[name].lay(found)
        for layer in layers.values():
            await layer.finish()
        await writer.settle()
    finally:
        await writer.stop()


def _layer(topic: KeptTopic, writer: ExactWriter) -> Layer | StateLayer:
    return StateLayer(writer) if compacted(topic.config) else Layer(topic, writer)


async def _commit(broker: KafkaBroker, plan: Plan) -> None:
    """Give every consumer group the offsets it had, but for topics whose offsets are new."""
    spans = {place: span for topic in plan.topics if not compacted(topic.config) for place, span in topic.places()}
    for group, offsets in plan.groups.items():
        kept = {place: min(max(offset, spans[place].first), spans[place].end)
                for place, offset in offsets.items() if place in spans}
        if not kept:
            continue
        reader = broker.reader(sorted({place.topic for place in kept}), group=group, client_id=_WRITER, member=False)
        await reader.start()
        try:
            await reader.commit(kept)
        finally:
            await reader.stop()


async def _compare_documents(manifest: Manifest, raw: RawCollections) -> str:
    wanted: dict[str, Tally] = {}
    for part in manifest.parts:
        if part.name.startswith(_DOCUMENTS):
            name = part.name.removeprefix(_DOCUMENTS).removesuffix(AGAIN)
            wanted[name] = wanted.get(name, Tally()) + Tally(part.items, part.tally)
    for name, tally in wanted.items():
        found = Tally()
        async for document in raw.read(name):
            found.add(bytes(document.raw))
        if found != tally:
            raise Unavailable(f"{name} has {found.items} documents where the backup has {tally.items}, or others",
                              remedy="is somebody else at work in this database? bring the backup back anew")
    return f"{sum(tally.items for tally in wanted.values()):,} documents in {len(wanted)} collections, as in the backup"


async def _compare_topics(manifest: Manifest, broker: KafkaBroker, plan: Plan, forward: Forward | None) -> str:
    wanted = {part.name: Tally(part.items, part.tally) for part in manifest.parts}
    if forward is not None:
        wanted |= forward.tallies()
    ends = await _ends(broker, [topic.name for topic in plan.topics])
    for topic in plan.topics:
        if not compacted(topic.config):
            for place, span in topic.places():
                if ends[place] != span.end:
                    raise Unavailable(f"the partition ends at {ends[place]} instead of {span.end}",
                                      place=f"{place.topic}/{place.partition}")
        if topic.kept == "offsets":
            continue
        found = Tally()
        async for batch in read(broker, topic.now(ends) if compacted(topic.config) else topic):
            for record in batch:
                found.add(records.account(record, with_offset=topic.kept != "state"))
        if found != wanted[topic.part]:
            raise Unavailable(f"{topic.name} has {found.items} records where the backup has "
                              f"{wanted[topic.part].items}, or others")
    total = sum(wanted[topic.part].items for topic in plan.topics if topic.kept != "offsets")
    return f"{total:,} records in {len(plan.topics)} topics, each partition at its offsets"


async def _ends(broker: KafkaBroker, names: Sequence[str]) -> Mapping[Place, int]:
    reader = broker.reader(names, group=None, client_id=_WRITER)
    await reader.start()
    try:
        return await reader.end_offsets(sorted(reader.assignment()))
    finally:
        await reader.stop()
