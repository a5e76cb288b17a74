"""The verbs on training runs for programs without an event loop."""

import builtins
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lepton_ai._datasets.rows import Run as Do
from lepton_ai._models import Point, Run
from lepton_ai._runs.verbs import AsyncRuns


class Runs:
    """`client.runs`; see `AsyncRuns` for what the verbs promise."""

    def __init__(self, runs: AsyncRuns, do: Do) -> None:
        self._runs = runs
        self._do = do

    def train(self, model: str, *, kind: Literal["train", "fine_tune"] = "train", family: str = "",
              parameters: Mapping[str, Any] | None = None, search: Mapping[str, Any] | None = None,
              priority: int = 0, promote: bool = True, **wanted: Any) -> Run:
        """Ask for one run and return at once."""
        asked: Run = self._do(self._runs.train(model, kind=kind, family=family, parameters=parameters, search=search,
                                               priority=priority, promote=promote, **wanted))
        return asked

    def get(self, run: str | Run) -> Run:
        """The run as it stands now."""
        found: Run = self._do(self._runs.get(run))
        return found

    def list(self, model: str = "", *, limit: int = 50) -> builtins.list[Run]:
        """Newest first, of one model or of all."""
        found: builtins.list[Run] = self._do(self._runs.list(model, limit=limit))
        return found

    def course(self, run: str | Run) -> builtins.list[Point]:
        """How it went so far, in order."""
        found: builtins.list[Point] = self._do(self._runs.course(run))
        return found

    def write_logs(self, run: str | Run, to: str | Path) -> Path:
        """Write its course for TensorBoard; the folder."""
        folder: Path = self._do(self._runs.write_logs(run, to))
        return folder

    def cancel(self, run: str | Run) -> Run:
        """Ask for its end; returns at once."""
        asked: Run = self._do(self._runs.cancel(run))
        return asked

    def follow(self, run: str | Run) -> Iterator[Run]:
        """The run each time it got on, the last time when it has ended."""
        news = self._runs.follow(run)
        while (now := self._do(_next(news))) is not None:
            yield now


async def _next(news: AsyncIterator[Run]) -> Run | None:
    return await anext(news, None)
