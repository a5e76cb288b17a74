"""Predictions that a backup keeps, and that a stack brought back must repeat."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from deploy.backup.site import Site
from lepton.contracts import apikeys
from lepton.contracts.features import decode_table
from lepton.errors import LeptonError, Unavailable
from lepton.store.artifacts import Artifacts
from lepton.store.mongo import Database

ROWS = 5
# Another processor may add numbers in another order.
TOLERANCE = 1e-6
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a version of a model answered for some rows."""

    model: str
    version: int
    rows: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]


def to_bytes(kept: Sequence[Kept]) -> bytes:
    return json.dumps([asdict(one) for one in kept]).encode()


def from_bytes(data: bytes) -> list[Kept]:
    return [Kept(**one) for one in json.loads(data or b"[]")]


async def keep(site: Site) -> tuple[list[Kept], list[str]]:
    """What every champion answers for the newest rows stored; and, a line each, why there is nothing of others."""
    if not site.rest or site.api_key_file is None or not site.api_key_file.exists():
        return [], ["no predictions are kept: the gateway's address or an API key is not known"]
    kept, said = [], []
    database = site.database()
    try:
        async with _client(site) as gateway:
            for model in (await _asked(gateway, "GET", "/v1/status"))["models"]:
                name, version = str(model["model"]), int(model["champion"] or 0)
                rows = await _rows(database, name) if version else []
                if not rows:
                    said.append(f"no prediction of {name} is kept: it has no champion, or no rows")
                    continue
                try:
                    kept.append(Kept(name, version, rows, await _answers(gateway, name, version, rows)))
                except LeptonError as error:
                    said.append(f"no prediction of {name} is kept: {error.message}")
    except LeptonError as error:
        said.append(f"no predictions are kept: {error.message}")
    finally:
        await database.close()
    return kept, said


async def differences(site: Site, kept: Sequence[Kept]) -> list[str]:
    """A line for each kept prediction that the stack does not repeat. Raises Unavailable when it cannot be asked."""
    found = []
    async with _client(site) as gateway:
        for one in kept:
            now = await _answers(gateway, one.model, one.version, one.rows)
            if not _same(list(one.answers), now):
                found.append(f"{one.model} version {one.version} answered {one.answers}, and now {now}")
    return found


async def _rows(database: Database, pipeline: str) -> list[Mapping[str, Any]]:
    newest = await database.collection("segments").find({"stream": "features", "pipeline": pipeline},
                                                        order="-stored_at_s", limit=1)
    if not newest:
        return []
    table = decode_table(await Artifacts(database).get(str(newest[0]["digest"])))
    ours = table.select([name for name in table.column_names if not name.startswith("_")])
    rows = [{name: value for name, value in row.items() if value is not None}
            for row in ours.slice(0, ROWS).to_pylist()]
    plain: list[Mapping[str, Any]] = json.loads(json.dumps(rows, default=str))
    return plain


async def _answers(gateway: httpx.AsyncClient, model: str, version: int,
                   rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    told = await _asked(gateway, "POST", f"/v1/models/{model}/predict", {"rows": rows, "version": version})
    return list(told["rows"])


async def _asked(gateway: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    try:
        answer = await gateway.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise Unavailable(f"the gateway does not answer: {type(error).__name__}") from error
    if not answer.is_success:
        raise Unavailable(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return answer.json()


def _client(site: Site) -> httpx.AsyncClient:
    text = site.api_key_file.read_text().strip() if site.api_key_file is not None else ""
    key_id, secret = apikeys.parse_bearer(f"Bearer {text}")
    return httpx.AsyncClient(base_url=site.rest, headers={"authorization": apikeys.bearer(key_id, secret)},
                             timeout=_TIMEOUT_S)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
