"""How a recorded file is lived again: its rows sent as events at the tempo they came in, or at a rate, and resumed."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from lepton.contracts.files.records import MAX_RECORD_BYTES
from lepton.contracts.files.rows import FileEvent, Rows, file_id
from lepton.contracts.pipeline import Pipeline, from_json
from lepton.errors import Invalid, Missing
from lepton_ai._files.reading import Record, RowFile, open_rows
from lepton_ai._files.writing import whole
from lepton_ai._transport import Transport

NDJSON: Final = "application/x-ndjson"
BATCH_ROWS: Final = 1000
TICK_S: Final = 0.05
_MILLISECONDS: Final = 1e11


@dataclass(frozen=True, slots=True)
class Tempo:
    """How fast: `rate` events a second; without it as recorded, `speed` times as fast. `now`: event times become those
    of sending. Rows before `since` are passed over. `loops`: how often the file is sent; later ones have ids of their
    own, as all have with `new_ids`. `label_after_s`: how long after its event a label that comes later is sent."""

    rate: float | None = None
    speed: float = 1.0
    now: bool = False
    since: datetime | None = None
    loops: int = 1
    new_ids: bool = False
    label_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """How far a replay has come: rows of this loop behind us, and what was done with all rows so far.

    `labelled`: the row up to which labels that come later are durable too.
    """

    run: str
    loop: int = 1
    row: int = 0
    labelled: int = 0
    sent: int = 0
    labels: int = 0
    skipped: int = 0
    refused: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.sent:,} events sent"]
        parts += [f"{count:,} {what}" for count, what in ((self.labels, "labels"), (self.skipped, "passed over"),
                                                          (self.refused, "unreadable")) if count]
        return ", ".join(parts)

    def save(self, path: Path) -> None:
        """Put it where `load` finds it; never half."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            draft.write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Played":
        """Raises Missing when nothing was left there."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as failure:
            raise Missing("there is no replay of this file to go on with", place=str(path),
                          remedy="leave out --resume") from failure


@dataclass(frozen=True, slots=True)
class _Event:
    row: int
    share: float
    at_s: float | None
    value: dict[str, Any]
    label: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Passed:
    """A row that is not sent, and the count of `Played` it belongs to (empty: none)."""

    row: int
    count: str


@dataclass(frozen=True, slots=True)
class _Label:
    """A label to be sent at `due_s` (monotonic)."""

    row: int
    due_s: float
    value: dict[str, Any]


OnPlayed = Callable[[Played], None]


class Replaying:
    """Sends one file. `told` is called after each batch that is durable, with where to go on from."""

    def __init__(self, transport: Transport, pipeline: str, path: Path, tempo: Tempo, delimiter: str | None = None,
                 ) -> None:
        self._transport = transport
        self._clock = transport.clock
        self._root = f"/v1/pipelines/{pipeline}"
        self._file: RowFile = open_rows(path, delimiter)
        self._tempo = tempo
        self._labels: deque[_Label] = deque()

    async def play(self, played: Played, told: OnPlayed) -> Played:
        """From `played` to the end. Raises Missing, Invalid, Unavailable; then the last `told` says where to go on."""
        view = await self._transport.get(self._root)
        pipeline = from_json(json.dumps(view["spec"]))
        if self._tempo.rate is None and pipeline.events.time not in self._members(pipeline):
            raise Invalid(f"the file has no event time `{pipeline.events.time}`, so it has no tempo", field="--rate",
                          remedy="give a rate: --rate 100")
        for loop in range(played.loop, self._tempo.loops + 1):
            if loop > played.loop:
                played = replace(played, loop=loop, row=0, labelled=0, share=0.0)
            played = await self._once(pipeline, played, told)
            played = await self._send_labels(played, float("inf"))
            told(played)
        return played

    def _members(self, pipeline: Pipeline) -> set[str | None]:
        if self._file.format == "jsonl":
            return {pipeline.events.time}
        return set(Rows(pipeline, "").columns(self._file.columns))

    async def _once(self, pipeline: Pipeline, played: Played, told: OnPlayed) -> Played:
        """One time through the file."""
        begun_s: float | None = None
        first_s: float | None = None
        number = passed = 0
        waiting: list[_Event] = []
        for one in self._events(pipeline, played):
            if isinstance(one, _Passed):
                passed = one.row
                if one.count:
                    played = replace(played, **{one.count: getattr(played, one.count) + 1})
                continue
            if begun_s is None:
                begun_s, first_s = self._clock.monotonic(), one.at_s
            due_s = begun_s + self._after_s(number, one, first_s)
            number += 1
            if waiting and (due_s > self._clock.monotonic() or len(waiting) >= BATCH_ROWS):
                played = await self._send(waiting, played, passed)
                told(played)
                waiting = []
            played = await self._until(played, due_s)
            if self._tempo.now:
                one.value[pipeline.events.time] = self._clock.now().isoformat()
            waiting.append(one)
        return await self._send(waiting, played, passed)

    def _after_s(self, number: int, event: _Event, first_s: float | None) -> float:
        """Seconds after the first event sent at which this one is due."""
        if self._tempo.rate is not None:
            return number / self._tempo.rate
        return max(0.0, ((event.at_s or 0.0) - (first_s or 0.0)) / self._tempo.speed) if event.at_s is not None else 0.0

    async def _until(self, played: Played, due_s: float) -> Played:
        while (now_s := self._clock.monotonic()) < due_s:
            played = await self._send_labels(played, now_s)
            await self._clock.sleep(min(TICK_S, due_s - now_s))
        return played

    async def _send(self, events: list[_Event], played: Played, passed: int) -> Played:
        if events:
            body = b"\n".join(msgspec.json.encode(event.value) for event in events)
            await self._transport.call("POST", f"{self._root}/events", content=body, headers={"content-type": NDJSON})
            due_s = self._clock.monotonic() + self._tempo.label_after_s
            self._labels += [_Label(event.row, due_s, event.label) for event in events if event.label is not None]
            passed = max(passed, events[-1].row)
            played = replace(played, share=events[-1].share, sent=played.sent + len(events))
        played = replace(played, row=max(played.row, passed))
        return await self._send_labels(played, self._clock.monotonic())

    async def _send_labels(self, played: Played, until_s: float) -> Played:
        """Those that are due by then, each not before its moment."""
        while self._labels and self._labels[0].due_s <= until_s:
            while (left_s := self._labels[0].due_s - self._clock.monotonic()) > 0:
                await self._clock.sleep(left_s)
            now_s = self._clock.monotonic()
            due = [label for label in self._labels if label.due_s <= now_s][:BATCH_ROWS]
            body = b"\n".join(msgspec.json.encode(label.value) for label in due)
            await self._transport.call("POST", f"{self._root}/labels", content=body, headers={"content-type": NDJSON})
            for _ in due:
                self._labels.popleft()
            played = replace(played, labels=played.labels + len(due), labelled=due[-1].row)
        return played if self._labels else replace(played, labelled=played.row)

    def _events(self, pipeline: Pipeline, played: Played) -> Iterator[_Event | _Passed]:
        """Events behind `played.row`. Labels of rows before it that were not sent yet are due at once."""
        events = pipeline.events
        rows = Rows(pipeline, file_id(pipeline.name, 0, f"{self._file.path.name}/{played.run}"))
        members = rows.columns(self._file.columns) if self._file.columns else []
        later = events.label.field if events.label is not None and events.label.arrives == "later" else None
        suffix = f"~{played.run}" if self._tempo.new_ids else ""
        suffix += f"~{played.loop}" if played.loop > 1 else ""
        for record in self._file.records():
            if record.number <= played.labelled:
                continue
            try:
                event = self._event(rows, members, record)
            except Invalid:
                yield _Passed(record.number, "refused" if record.number > played.row else "")
                continue
            value = msgspec.json.decode(event.value)
            at_s = _seconds(value.get(events.time))
            if self._tempo.since is not None and at_s is not None and at_s < self._tempo.since.timestamp():
                yield _Passed(record.number, "skipped" if record.number > played.row else "")
                continue
            value[events.id] = event.event_id + suffix
            truth = value.pop(later, None) if later is not None else None
            label = None if truth is None else {"event_id": value[events.id], "entity": value.get(
                events.entity_member), "label": truth}
            if record.number > played.row:
                yield _Event(record.number, record.share, at_s, value, label)
            elif label is not None:
                self._labels.append(_Label(record.number, self._clock.monotonic(), label))

    def _event(self, rows: Rows, members: list[str | None], record: Record) -> FileEvent:
        if record.problem is not None:
            raise record.problem
        if record.values is not None:
            return rows.from_row({member: record.values[name] for name, member in zip(
                self._file.columns, members, strict=True) if member is not None}, record.number)
        if len(record.text) > MAX_RECORD_BYTES:
            raise Invalid("the record is longer than a megabyte")
        if self._file.format == "csv":
            return rows.from_csv(record.text, members, record.number, self._file.delimiter)
        return rows.from_json(record.text, record.number)


def _seconds(time: Any) -> float | None:
    """Seconds since the epoch of an event time as events say it; None for what is none."""
    if isinstance(time, int | float) and not isinstance(time, bool):
        return time / 1000 if abs(time) >= _MILLISECONDS else float(time)
    if isinstance(time, str):
        with suppress(ValueError):
            moment = datetime.fromisoformat(time)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
