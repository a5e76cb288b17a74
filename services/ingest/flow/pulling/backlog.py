"""How far the accept stage is behind on a pipeline's events, so that sources do not pour where nobody drains."""

from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from services.ingest.flow.spec import Spec

LOOK_EVERY_S = 1.0


class Backlog:
    """How many events of a pipeline are on the log and not accepted yet; asked for seldom, estimated in between."""

    def __init__(self, broker: Broker, clock: Clock, instance: str, spec: Spec, limit: int) -> None:
        """`limit`: past it every look is a new one."""
        self.sent = 0
        self._broker = broker
        self._clock = clock
        self._limit = limit
        self._topic = topics.name(Topic.EVENTS, spec.name, spec.generation)
        self._group = spec.group
        self._reader = broker.reader([self._topic], group=None, client_id=f"{instance}.{spec.name}.backlog")
        self._open = False
        self._known = 0
        self._look_at = float("-inf")

    async def records(self) -> int:
        """Raises Unavailable while the broker is away, Missing while the topic is."""
        now = self._clock.monotonic()
        if now >= self._look_at or self._known + self.sent > self._limit:
            self._known, self.sent = await self._measure(), 0
            self._look_at = now + LOOK_EVERY_S
        return self._known + self.sent

    async def close(self) -> None:
        if self._open:
            await self._reader.stop()

    async def _measure(self) -> int:
        if not self._open:
            await self._reader.start()
            self._open = True
            for place in self._reader.assignment():
                self._reader.pause(place)
        places = sorted(self._reader.assignment())
        ends, begins = await self._reader.end_offsets(places), await self._reader.begin_offsets(places)
        committed = await self._broker.group_offsets(self._group)
        return sum(max(0, ends[place] - committed.get(place, begins[place])) for place in places)
