"""The verbs on training runs, for programs that run an event loop."""

import asyncio
import builtins
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from lepton_ai._models import Point, Run, point_from, run_from
from lepton_ai._runs import boards
from lepton_ai._transport import Transport

LOOK_EVERY_S: Final = 0.5


class AsyncRuns:
    """`client.runs`. Every verb raises Missing for a run or model there is not, and Unavailable."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def train(self, model: str, *, kind: Literal["train", "fine_tune"] = "train", family: str = "",
                    parameters: Mapping[str, Any] | None = None, search: Mapping[str, Any] | None = None,
                    priority: int = 0, promote: bool = True, **wanted: Any) -> Run:
        """Ask for one run and return at once; `follow` shows how it goes.

        `wanted` is what else `POST /v1/models/{model}/train` takes: `snapshot`, `data_pipeline`, `parent_version`,
        `parent_model`, `transfer`, `max_rows`, `command_id`. Raises Invalid for what the model's Pipeline cannot be
        trained with.
        """
        body = {"kind": kind, "family": family, "parameters": dict(parameters or {}), "search": dict(search or {}),
                "priority": priority, "promote": promote, "command_id": f"sdk-{uuid.uuid4().hex}", **wanted}
        asked = await self._transport.post(f"/v1/models/{model}/train", body)
        return await self.get(str(asked["run_id"]))

    async def get(self, run: str | Run) -> Run:
        """The run as it stands now."""
        return run_from(await self._transport.get(f"/v1/runs/{_id(run)}"))

    async def list(self, model: str = "", *, limit: int = 50) -> builtins.list[Run]:
        """Newest first, of one model or of all."""
        of: dict[str, str | int] = {"model": model} if model else {}
        return [run_from(one) for one in await self._transport.get("/v1/runs", limit=limit, **of)]

    async def course(self, run: str | Run) -> builtins.list[Point]:
        """How it went so far, in order: its figures epoch by epoch, a thousand points at most."""
        told = await self._transport.get(f"/v1/runs/{_id(run)}/course")
        return [point_from(point) for point in told["points"]]

    async def write_logs(self, run: str | Run, to: str | Path) -> Path:
        """Write its course for TensorBoard to `to`/MODEL/RUN and return that folder.

        Asked again, the file holds what was told since as well. Raises Missing where tensorboard is not installed.
        """
        return await asyncio.to_thread(boards.write, await self.get(run), await self.course(run), Path(to))

    async def cancel(self, run: str | Run) -> Run:
        """Ask for its end; returns at once with what it was when asked. Raises Refused when it is over."""
        await self._transport.post(f"/v1/runs/{_id(run)}/cancel", {})
        return await self.get(run)

    async def follow(self, run: str | Run) -> AsyncIterator[Run]:
        """The run each time it got on, the last time when it has ended."""
        before = None
        while True:
            now = await self.get(run)
            if now != before:
                yield now
            if now.ended:
                return
            before = now
            await self._transport.clock.sleep(LOOK_EVERY_S)


def _id(run: str | Run) -> str:
    return run if isinstance(run, str) else run.run_id
