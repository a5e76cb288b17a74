"""A broker whose batches are counted by topic, so that the watchdog knows who hangs on whose records."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

from lepton.bus.records import Assigned, Broker, Outgoing, Place, Reader, Record, Revoked, TransactionalWriter, Writer
from lepton.contracts import topics
from lepton.contracts.pb.telemetry_pb2 import CALL_WAY_READ, CALL_WAY_WRITE
from lepton.errors import Unavailable
from lepton.runtime.calls.sums import Calls

BROKER: Final = "broker"
MAX_NAMES = 4096


@lru_cache(MAX_NAMES)
def callee(topic: str) -> str:
    """A pipeline's topic by its name, for its records come from somebody; the platform's own are the broker's."""
    located = topics.locate(topic)
    return BROKER if located is None or located.pipeline is None or located.dead_letters else topic


def counted(broker: Broker, calls: Calls) -> Broker:
    """The same broker; what its writers write and its readers read is counted, a batch once for each topic in it."""
    return cast(Broker, _Broker(broker, calls))


class _Through:
    """Everything but what a subclass counts goes straight to `inner`."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Broker(_Through):
    def writer(self, client_id: str) -> Writer:
        return cast(Writer, _Writer(self._inner.writer(client_id), self._calls))

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        return cast(TransactionalWriter, _Committer(self._inner.transactional_writer(transactional_id), self._calls))

    def reader(self, topics: Sequence[str], *, group: str | None, client_id: str, start: str = "earliest",
               member: bool = True, on_assigned: Assigned | None = None, on_revoked: Revoked | None = None) -> Reader:
        return cast(Reader, _Reader(self._inner.reader(
            topics, group=group, client_id=client_id, start=start, member=member, on_assigned=on_assigned,
            on_revoked=on_revoked), self._calls))


class _Written(_Through):
    async def _write(self, write: Callable[..., Any], records: Sequence[Outgoing], *more: Any) -> Any:
        began = self._calls.now()
        failed = False
        try:
            return await write(records, *more)
        except Unavailable:
            failed = True
            raise
        finally:
            seconds = self._calls.now() - began
            for name in {callee(topic) for topic in {record.topic for record in records}}:
                self._calls.add(CALL_WAY_WRITE, name, seconds, failed=failed)


class _Writer(_Written):
    async def send(self, record: Outgoing) -> Record:
        async def write(records: Sequence[Outgoing]) -> Record:
            written: Record = await self._inner.send(records[0])
            return written
        return cast(Record, await self._write(write, (record,)))

    async def send_all(self, records: Sequence[Outgoing]) -> list[Record]:
        return cast(list[Record], await self._write(self._inner.send_all, records))


class _Committer(_Written):
    async def commit(self, records: Sequence[Outgoing], offsets: Mapping[Place, int], group: str) -> list[Record]:
        return cast(list[Record], await self._write(self._inner.commit, records, offsets, group))


class _Reader(_Through):
    async def poll(self, *, max_records: int, timeout_s: float, without: Collection[Place] = (),
                   until: asyncio.Event | None = None) -> Mapping[Place, Sequence[Record]]:
        try:
            found: Mapping[Place, Sequence[Record]] = await self._inner.poll(
                max_records=max_records, timeout_s=timeout_s, without=without, until=until)
        except Unavailable:
            self._calls.add(CALL_WAY_READ, BROKER, failed=True)
            raise
        for name in {callee(place.topic) for place in found}:
            self._calls.add(CALL_WAY_READ, name)
        return found
