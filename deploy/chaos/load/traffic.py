"""The load while faults are struck: numbered events with labels to Kafka, requests for predictions to the gateway."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from deploy.chaos import spoiling
from deploy.chaos.load.daily import Day
from deploy.chaos.plan import Flow, Spoil
from lepton.bus.records import Outgoing, Writer
from lepton.clock import Clock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from lepton.errors import Invalid, Unavailable

SOURCE = "chaos"
_STEP_S = 0.1
_AGAIN_S = 0.5
_JSON = ("content-type", b"application/json")


def rows_of(flow: Flow) -> list[dict[str, Any]]:
    """The rows of the plan's file, .csv or .jsonl. Raises Invalid for a file that has none, or not the label."""
    path = flow.rows or Path()
    try:
        reader = pyarrow.csv.read_csv if path.suffix == ".csv" else pyarrow.json.read_json
        found: list[dict[str, Any]] = reader(path).to_pylist()
    except (OSError, pa.ArrowException) as failure:
        raise Invalid(f"the rows cannot be read: {failure}", field="flow.rows", place=str(path)) from failure
    if not found or flow.label not in found[0]:
        raise Invalid(f"no rows with {flow.label}", field="flow.label", place=str(path))
    return found


@dataclass
class Traffic:
    """Flows while its block lasts. `ids`: events that the broker acknowledged and that must have become features.

    `spoilt`: the fault of data that lasts; set and cleared from outside.
    """

    flow: Flow
    rows: Sequence[Mapping[str, Any]]
    pipeline: str
    prefix: str
    writer: Writer
    rest: httpx.AsyncClient
    clock: Clock
    spoilt: Spoil | None = None
    since: float = 0.0
    """When it was set, by `clock.monotonic()`."""
    ids: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def spoil(self, fault: Spoil | None) -> None:
        """Have events and labels spoilt from now on, or no more."""
        self.spoilt, self.since = fault, self.clock.monotonic()

    async def __aenter__(self) -> "Traffic":
        self._day, self._began = Day(self.flow.daily, self.rows), self.clock.monotonic()
        await self.writer.start()
        self._number = 0
        self._labels: deque[tuple[float, bytes, bytes]] = deque()
        self._stopped = asyncio.Event()
        parts = [self._events(), self._label()]
        if self.flow.calls_per_s:
            parts.append(self._call())
        self._running = [asyncio.ensure_future(part) for part in parts]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        try:
            await asyncio.gather(*self._running)
        finally:
            await self.writer.stop()

    async def _events(self) -> None:
        owed = 0.0
        while not await self._pause(_STEP_S):
            spoilt = self.spoilt
            # Where spoilt events are another source's, the usual ones flow beside them.
            beside = spoilt is not None and spoilt.source != SOURCE and spoilt.do not in ("surge", "silence")
            at_s = self.clock.monotonic() - self._began
            times = self._day.rate(at_s) * (1.0 if spoilt is None else spoiling.rate(spoilt))
            owed += self.flow.events_per_s * _STEP_S * times
            records: list[Outgoing] = []
            sent: list[str] = []
            while owed >= 1:
                owed -= 1
                row = dict(self._day.row(at_s))
                label = row.pop(self.flow.label)
                if spoilt is None or beside:
                    event = self._event(row, "")
                    sent.append(event["event_id"])
                    records += self._outgoing([event], SOURCE)
                    self._later(event, label)
                if spoilt is not None:
                    event = self._event(row, "x" if beside else "")
                    if not spoiling.is_refused(spoilt):
                        sent.append(event["event_id"])
                    progress = (self.clock.monotonic() - self.since) / spoilt.for_s
                    records += self._outgoing(spoiling.spoil(spoilt, event, progress), spoilt.source)
                    self._later(event, spoiling.told(spoilt, label))
            await self._durable(records)
            self.ids += sent

    async def _label(self) -> None:
        topic = topics.name(Topic.LABELS, self.pipeline)
        over = False
        while not over or self._labels:
            over = over or await self._pause(_STEP_S)
            due = []
            while self._labels and (over or self._labels[0][0] <= self.clock.monotonic()):
                due.append(Outgoing(topic, self._labels[0][2], self._labels.popleft()[1]))
            await self._durable(due)

    async def _call(self) -> None:
        rows = cycle({name: value for name, value in row.items() if name != self.flow.label} for row in self.rows)
        while not await self._pause(1 / self.flow.calls_per_s):
            try:
                answer = await self.rest.post(f"/v1/models/{self.pipeline}/predict", json={"rows": [next(rows)]})
            except httpx.HTTPError as failure:
                self.calls[type(failure).__name__] += 1
            else:
                self.calls[str(answer.status_code)] += 1

    async def _durable(self, records: list[Outgoing]) -> None:
        """Send until the broker has them; what is sent twice is one event, by its id."""
        while records:
            try:
                await self.writer.send_all(records)
            except Unavailable:
                await self.clock.sleep(_AGAIN_S)
            else:
                return

    async def _pause(self, seconds: float) -> bool:
        """Whether it is over."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _event(self, row: Mapping[str, Any], mark: str) -> dict[str, Any]:
        self._number += 1
        return {**row, "event_id": f"{self.prefix}{self._number:07d}{mark}",
                "entity_id": f"chaos-{self._number % self.flow.entities:05d}",
                "occurred_at": self.clock.now().isoformat()}

    def _outgoing(self, events: Sequence[dict[str, Any]], source: str) -> list[Outgoing]:
        topic = topics.name(Topic.EVENTS, self.pipeline)
        return [Outgoing(topic, json.dumps(event).encode(), str(event["entity_id"]).encode(),
                         (_JSON, ("ce_source", source.encode()))) for event in events]

    def _later(self, event: Mapping[str, Any], label: Any) -> None:
        if label is None:
            return
        body = {"event_id": event["event_id"], "entity": event["entity_id"], "label": label}
        self._labels.append((self.clock.monotonic() + self.flow.label_after_s, str(event["event_id"]).encode(),
                             json.dumps(body).encode()))
