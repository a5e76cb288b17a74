"""A candidate that is worse than the champion is tried beside it, and the rollout's own verdict is waited for."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import yaml

from deploy.chaos.load.callers import asked
from deploy.chaos.models import files
from deploy.chaos.models.promoting import exported, inputs, past_the_gate, restored
from deploy.chaos.plan import Canary
from lepton.errors import Unavailable

_AGAIN_S = 0.25
_ALONE_S = 30.0
_ASKED = 20
"""Entities that are asked about: while half of all are answered by the candidate, one of them is."""
_RUNNING = "RUNNING"


async def tried(fault: Canary, rest: httpx.AsyncClient, pipeline: str, rows: Sequence[Mapping[str, Any]],
                label: str) -> str:
    """The state in which the rollout of a worse version ended; told besides, where the champion before does not answer.

    One that runs on after `fault.for_s` is ended. Raises Unavailable where a door refuses, or no rollout begins.
    """
    text = await exported(rest, pipeline)
    spec = yaml.safe_load(text)
    file = files.line(rows, inputs(spec), label, wrong=True)
    before = await asked(rest, "GET", f"/v1/models/{pipeline}")
    async with restored(rest, text):
        await past_the_gate(rest, {**spec, "serve": _serve(spec.get("serve") or {}, fault)}, file, fault.name,
                            promote=True)
        try:
            state = await _ended(rest, pipeline, max(int(one["version"]) for one in before["versions"]), fault)
        except TimeoutError:
            with contextlib.suppress(Unavailable):
                # It may have ended just now.
                await asked(rest, "POST", f"/v1/models/{pipeline}/rollout/abort", json={"note": f"chaos: {fault.name}"})
            state = _RUNNING
        row = {name: value for name, value in rows[0].items() if name != label}
        return state + await _not_alone(rest, pipeline, row, int(before["champion"]))


def _serve(serve: Mapping[str, Any], fault: Canary) -> dict[str, Any]:
    """A canary of one step that is not over before it is judged; the Pipeline's own where it has one."""
    if serve.get("rollout") == "canary":
        return dict(serve)
    trial = {"shares": [fault.share], "step_s": fault.for_s, "limit_s": 2 * fault.for_s}
    return {**serve, "rollout": "canary", "trial": trial}


async def _ended(rest: httpx.AsyncClient, pipeline: str, newest: int, fault: Canary) -> str:
    """How the rollout of a version after `newest` ended. Raises TimeoutError while it runs, Unavailable without one."""
    begun = False
    try:
        async with asyncio.timeout(fault.for_s):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await rest.get(f"/v1/models/{pipeline}/rollout")
                    told = answer.json() if answer.is_success else {"candidate": 0}
                    begun = begun or int(told["candidate"]) > newest
                    if begun and told["state"] != _RUNNING:
                        return str(told["state"])
                await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        if begun:
            raise
        raise Unavailable("no rollout began: the version took over at once, or another is being tried",
                          field=fault.name, remedy=f"see `lepton rollout status {pipeline}`") from None


async def _not_alone(rest: httpx.AsyncClient, pipeline: str, row: Mapping[str, Any], champion: int) -> str:
    """Who else answers, in words, when the champion does not answer alone soon; empty when it does."""
    other = {0}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ALONE_S):
            while other:
                with contextlib.suppress(Unavailable):
                    said = [await asked(rest, "POST", f"/v1/models/{pipeline}/predict", json={
                        "rows": [row], "entity": f"chaos-{number}"}) for number in range(_ASKED)]
                    other = {int(one["version"]) for one in said} - {champion}
                await asyncio.sleep(_AGAIN_S)
    if other == {0}:
        return ", and nobody answers"
    return f", and version {', '.join(map(str, sorted(other)))} answers instead of {champion}" if other else ""
