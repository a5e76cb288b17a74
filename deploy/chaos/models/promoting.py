"""A version that is a fault is made champion by the doors that people use: the Pipeline, the import, the promotion."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import yaml

from deploy.chaos.load.callers import answered, asked, run_ended
from deploy.chaos.models import files
from deploy.chaos.plan import Misserve
from lepton.errors import Invalid, Refused, Unavailable

Corrupt = Callable[[str], Awaitable[None]]
"""Changes the artefact of a digest in the store."""

_AGAIN_S = 0.1
_RUN_S = 600.0
_REFUSED = frozenset({400, 401, 403, 409, 422})
_TIMES = 3
"""The trainer may hear of the import before it hears that the gate is open."""
_OPEN = {"beat_champion_by": -1e9}
"""What is left of a gate that somebody opened."""


@asynccontextmanager
async def promoted(fault: Misserve, rest: httpx.AsyncClient, pipeline: str, rows: Sequence[Mapping[str, Any]],
                   label: str, corrupt: Corrupt) -> AsyncIterator[None]:
    """The fault's version answers, or is tried, when the block begins; at its end the Pipeline is as it was.

    The gate is open only until the version is in. While the block lasts nothing is trained by rows: an ordinary run
    would soon take the version's place, and hide whether it is noticed. Raises Unavailable where a door refuses.
    """
    before = await exported(rest, pipeline)
    spec = yaml.safe_load(before)
    file = made(fault, rows, inputs(spec), label)
    async with restored(rest, before):
        await past_the_gate(rest, spec, file, fault.name, promote=fault.do != "corrupt_model")
        if fault.do == "corrupt_model":
            await _promoted_corrupt(rest, pipeline, corrupt)
        yield


async def exported(rest: httpx.AsyncClient, pipeline: str) -> str:
    """The Pipeline as it stands. Raises Unavailable where the gateway does not say."""
    return (await answered(rest, "GET", f"/v1/pipelines/{pipeline}/export")).text


@asynccontextmanager
async def restored(rest: httpx.AsyncClient, before: str) -> AsyncIterator[None]:
    """The Pipeline `before` is applied when the block ends."""
    try:
        yield
    finally:
        await _apply(rest, before)


def inputs(spec: Mapping[str, Any]) -> list[str]:
    """The fields that a model of the Pipeline takes, in their order."""
    return [name for name, one in spec["events"]["fields"].items() if one.get("input", True)]


async def past_the_gate(rest: httpx.AsyncClient, spec: Mapping[str, Any], file: bytes, name: str, *,
                        promote: bool) -> None:
    """The version is in; the Pipeline is `spec` then, but that nothing is trained by rows."""
    during = _during(spec)
    await _apply(rest, _text({**during, "gate": _opened(spec["gate"])}))
    await _imported(rest, spec["metadata"]["name"], file, name, promote=promote)
    await _apply(rest, _text(during))


def made(fault: Misserve, rows: Sequence[Mapping[str, Any]], fields: Sequence[str], label: str) -> bytes:
    """The file of the fault's version. Raises Invalid."""
    if fault.do == "nan_model" and fault.field not in fields:
        raise Invalid(f"the Pipeline has no field `{fault.field}`", field=f"{fault.name}.field",
                      remedy=f"name one of: {', '.join(fields)}")
    return files.line(rows, fields, label, wrong=fault.do == "bad_model",
                      hole=(fault.field, fault.value) if fault.do == "nan_model" else None,
                      products=fault.products if fault.do == "slow_model" else 0)


def _during(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The Pipeline while the fault lasts."""
    model = {**spec["model"], "train": {**spec["model"]["train"], "every_rows": 0}}
    return {**spec, "model": model}


def _opened(gate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in gate.items() if key not in ("at_least", "at_most", "significance")} | _OPEN


async def _imported(rest: httpx.AsyncClient, pipeline: str, file: bytes, name: str, *, promote: bool) -> None:
    for _ in range(_TIMES):
        body = await asked(rest, "POST", f"/v1/models/{pipeline}/import", content=file, params={
            "classes": list(files.CLASSES), "origin": f"chaos: {name}", "promote": str(promote).lower()})
        state = await run_ended(rest, body["run_id"], _RUN_S, name)
        if state != "REJECTED":
            break
    if state != "SUCCEEDED":
        raise Unavailable(f"the version that is the fault was not taken in: its import ended {state}", field=name,
                          remedy=f"see `lepton runs show {body['run_id']}`")


async def _promoted_corrupt(rest: httpx.AsyncClient, pipeline: str, corrupt: Corrupt) -> None:
    """The newest version, changed where it is stored before any predictor has asked for it, becomes champion."""
    newest = max((await asked(rest, "GET", f"/v1/models/{pipeline}"))["versions"], key=lambda one: int(one["version"]))
    await corrupt(newest["sha256"])
    await asked(rest, "POST", f"/v1/models/{pipeline}/promote", json={"version": newest["version"]})


def _text(spec: Mapping[str, Any]) -> str:
    # The order of fields is part of what a model takes.
    return yaml.safe_dump(dict(spec), sort_keys=False)


async def _apply(rest: httpx.AsyncClient, text: str) -> None:
    """Tried for a while: what was changed must not stay so because a fault hit this call too."""
    try:
        async with asyncio.timeout(_RUN_S):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await rest.post("/v1/pipelines", content=text.encode())
                    if answer.is_success:
                        return
                    if answer.status_code in _REFUSED:
                        raise Refused(f"the Pipeline was not taken: {answer.text[:200]}", place="/v1/pipelines")
                await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        raise Unavailable("the Pipeline could not be applied", place="/v1/pipelines",
                          remedy="apply your own again") from None
