"""What is told of the predictor's work: counters and gauges for /metrics, measurements for the next heartbeat.

Requests are counted in a dictionary and handed to OpenTelemetry once an interval: its counters cost more than a row of
inference does.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Protocol

from lepton.clock import Clock
from lepton.contracts import names
from lepton.contracts.modelling.watching import LATENCIES_MS
from lepton.runtime.loops import pause
from lepton.runtime.telemetry import Telemetry

FLUSH_EVERY_S = 0.5

MAX_TIMED = 100
"""Requests whose length is recorded an interval: enough for quantiles; `lepton_predictor_requests` counts all."""

UNKNOWN_MODEL = "(unknown)"
"""What requests for models that do not exist are counted under: callers must not be able to make up series."""


class Shown(Protocol):
    """One version of one model, whether it answers, and by what it is computed."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def serving(self) -> bool: ...
    @property
    def provider(self) -> str: ...


class Works(Protocol):
    """What is asked about its work: the library, whose promises are its own."""

    def take_work(self) -> Mapping[str, tuple[int, int]]: ...
    def waiting_rows(self) -> int: ...
    def shown(self) -> Iterable[Shown]: ...
    def take_unsound(self) -> Mapping[tuple[str, int], int]: ...
    def refused(self) -> Iterable[tuple[str, int, str, str]]: ...


class Cutting(Protocol):
    """The last priority level that is answered."""

    @property
    def keep(self) -> int: ...


class Sheds(Protocol):
    """What is turned away by priority; what it promises is its own."""

    def take(self) -> tuple[Mapping[tuple[str, int, bool], int], Mapping[tuple[str, int], int]]: ...
    def standing(self) -> Mapping[str, Cutting]: ...


class Measures:
    """`provider` is the execution provider models are loaded with here."""

    def __init__(self, telemetry: Telemetry, library: Works, clock: Clock, provider: str) -> None:
        self._library = library
        self._clock = clock
        self._telemetry = telemetry
        self._requests = telemetry.counter(names.PREDICTION_REQUESTS, "Requests answered, by outcome")
        self._by_wire = telemetry.counter(names.WIRE_REQUESTS, "Requests that the native wire answered by itself")
        self._seconds = telemetry.histogram(names.PREDICTION_SECONDS, "From a request's arrival to its answer, sampled")
        self._scored = telemetry.counter(names.SCORED_ROWS, "Streamed rows answered")
        self._unscored = telemetry.counter(names.ROWS_WITHOUT_MODEL, "Streamed rows passed over for want of a model")
        self._refused = telemetry.counter(names.MODELS_REFUSED, "Versions not loaded because something did not hold")
        self._unsound = telemetry.counter(names.UNSOUND_ROWS, "Rows answered with what is no number")
        self._dropped = telemetry.counter(names.LOG_DROPPED, "Answers to requests that the sampled log had no room for")
        telemetry.gauge(names.PROVIDER, lambda: [(1.0, {"provider": provider})],
                        "1 for the execution provider models run on")
        # Read from the exporters' threads: what they see is replaced whole, never changed.
        telemetry.gauge(names.MODEL_VERSION, lambda: self._versions, "Version that answers")
        telemetry.gauge(names.WAITING_ROWS, lambda: self._waiting_rows, "Rows of requests that wait for a batch")
        self._shed = telemetry.counter(names.SHED_REQUESTS, "Requests turned away for their low priority")
        telemetry.gauge(names.SHEDDING, lambda: self._standing, "Last priority level that is answered")
        self._batches = telemetry.counter(names.BATCHES, "Batches of requests run")
        self._rows = telemetry.counter(names.BATCH_ROWS, "Rows run in batches of requests")
        self._counted: dict[tuple[str, str, str], int] = {}
        self._timed: list[tuple[str, float]] = []
        self._versions: tuple[tuple[float, Mapping[str, str]], ...] = ()
        self._waiting_rows = 0.0
        self._standing: tuple[tuple[float, Mapping[str, str]], ...] = ()
        self.shedding: Sheds | None = None
        self.gather: Callable[[], float] = lambda: 0.0
        """Called before each flush: whoever counts by itself hands it in, and says how many rows wait there."""

    def request(self, model: str, version: str, outcome: str, took_s: float) -> None:
        """One request was answered or refused; called for each, so it must stay cheap."""
        key = (model, version, outcome)
        self._counted[key] = self._counted.get(key, 0) + 1
        if outcome == "ok" and len(self._timed) < MAX_TIMED:
            self._timed.append((model, took_s))

    def requests(self, model: str, version: str, outcomes: Mapping[str, int], timed: Iterable[float]) -> None:
        """Requests that the wire counted, by outcome, and the seconds some of those took that went well."""
        self._by_wire.add(sum(outcomes.values()), {"model": model})
        for outcome, number in outcomes.items():
            key = (model, version, outcome)
            self._counted[key] = self._counted.get(key, 0) + number
        self._timed.extend((model, took_s) for took_s in islice(timed, max(0, MAX_TIMED - len(self._timed))))

    def scored(self, model: str, version: int, rows: int) -> None:
        self._scored.add(rows, {"model": model, "version": str(version)})
        self._telemetry.count(names.SCORED_ROWS, rows, model=model)

    def unscored(self, pipeline: str, rows: int) -> None:
        self._unscored.add(rows, {"pipeline": pipeline})
        self._telemetry.count(names.ROWS_WITHOUT_MODEL, rows, pipeline=pipeline)

    def refused(self, model: str) -> None:
        """A version, or a whole registry state, was not taken up."""
        self._refused.add(1, {"model": model})

    def dropped(self, model: str) -> None:
        self._dropped.add(1, {"model": model})

    def flush(self) -> None:
        """Hand on what was counted since the last flush."""
        waiting = self.gather()
        counted, self._counted = self._counted, {}
        for (model, version, outcome), number in counted.items():
            self._requests.add(number, {"model": model, "version": version, "outcome": outcome})
            self._telemetry.count(names.PREDICTION_REQUESTS, number, model=model, outcome=outcome)

        timed, self._timed = self._timed, []
        for model, took_s in timed:
            self._seconds.record(took_s, {"model": model})
            place = bisect_left(LATENCIES_MS, took_s * 1000)
            up_to_ms = f"{LATENCIES_MS[place]:g}" if place < len(LATENCIES_MS) else "more"
            self._telemetry.count(names.PREDICTION_TIMES, 1, model=model, up_to_ms=up_to_ms)
        for model, (batches, rows) in self._library.take_work().items():
            self._batches.add(batches, {"model": model})
            self._rows.add(rows, {"model": model})
        self._complain()
        self._tell_shed()
        self._waiting_rows = float(self._library.waiting_rows()) + waiting
        self._telemetry.measure(names.WAITING_ROWS, self._waiting_rows)
        self._versions = tuple((float(shown.version), {"model": shown.model, "provider": shown.provider})
                               for shown in self._library.shown() if shown.serving)

    def _tell_shed(self) -> None:
        """What came by priority, and what was turned away of it."""
        if self.shedding is None:
            return
        asked, turned_away = self.shedding.take()
        for (model, level, named), number in asked.items():
            self._telemetry.count(names.LEVEL_REQUESTS, number, model=model, level=str(level),
                                  named="true" if named else "false")
        for (model, level), number in turned_away.items():
            self._shed.add(number, {"model": model, "level": str(level)})
        self._standing = tuple((float(cut.keep), {"model": model})
                               for model, cut in self.shedding.standing().items())

    def _complain(self) -> None:
        """Of versions that are none to answer with."""
        for (model, version), rows in self._library.take_unsound().items():
            self._unsound.add(rows, {"model": model, "version": str(version)})
            self._telemetry.count(names.UNSOUND_ROWS, rows, model=model, version=str(version))
            self._telemetry.error("unsound_answers", f"v{version} answered {rows} rows with what is no number", model)
        for model, version, reason, lost in self._library.refused():
            self._telemetry.measure(names.REFUSED_VERSION, version, model=model, reason=reason, lost=lost)

    async def run(self, stop: asyncio.Event) -> None:
        """A loop for the service: flush until `stop`, and once more."""
        while not await pause(stop, FLUSH_EVERY_S, self._clock):
            self.flush()
        self.flush()
