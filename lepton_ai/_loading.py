"""How a name becomes a data set Lepton has: looked up, else read, described by a Pipeline, sent and accounted for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lepton.errors import Invalid, Missing, Unavailable
from lepton_ai import _data, _infer
from lepton_ai._data import Dataset, Rows
from lepton_ai._infer import Derived
from lepton_ai._progress import Progress
from lepton_ai._transport import Transport

Source = str | Path | Rows
# Small enough to be sent again after an interruption, large enough to spare round trips.
CHUNK_ROWS: Final = 1000
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
NDJSON: Final = "application/x-ndjson"
# Rows that were sent and neither stored nor refused this long after anything last moved.
STALLED_S: Final = 60.0
_POLL_S: Final = 0.25
_DEAD_LETTERS_SHOWN: Final = 1000


class Loading:
    """Puts rows into pipelines. Loading the same rows again changes nothing and sends nothing twice."""

    def __init__(self, transport: Transport, progress: Progress) -> None:
        self._transport = transport
        self._progress = progress

    async def load(self, source: Source, name: str | None = None, label: str | None = None,
                   like: Mapping[str, Any] | None = None) -> Dataset:
        """The data set a source stands for; its columns and types must be those of `like`, a pipeline's resource.

        A name is that of a loaded data set, else of a file. Raises Missing when it is neither, Invalid when rows cannot
        be read, described, or fitted to `like`.
        """
        if isinstance(source, Rows):
            return await self.send(_infer.derive(name or "rows", source, label, like=like))
        text = str(source)
        explicit = _as_path(source)
        loaded = [] if explicit else await self._loaded(text, label, like)
        path = explicit or _data.find_file(text)
        if path is not None:
            derived = _infer.derive(name or path.stem, _data.read(path), label, like=like)
            # The rows of this very file may have been sent in part, by a program that was interrupted.
            if not loaded or derived.name in {one["name"] for one in loaded}:
                return await self.send(derived)
            self._progress.done(f"{text}: the data set loaded before is used; {path.name} differs, "
                                "give its path to load it")
        if loaded:
            return await self._known(max(loaded, key=lambda one: str(one["applied_at"])), text)
        if like is not None and (others := await self._loaded(text, label, None)):
            raise Invalid(f"the columns of data set {text} do not fit the model", field="data",
                          remedy=f"it has {_described(_types(others[0]['spec']))}; "
                                 f"the model takes {_described(_types(like))}")
        raise Missing(f"{text} is neither a loaded data set nor a file", place=str(Path.cwd()),
                      remedy=f"give a path to a {', '.join(_data.SUFFIXES)} file")

    async def variant(self, data: Dataset, task: str) -> Dataset:
        """The same rows with the label described for another task. Raises Invalid when the rows are not at hand."""
        if data.rows is None:
            raise Invalid(f"data set {data.name} was loaded for another kind of model, and its rows are not at hand",
                          field="family", remedy="load it from its file again, or choose a family of the other kind")
        return await self.send(_infer.derive(data.name, data.rows, _column(data), task=task))

    async def _loaded(self, name: str, label: str | None, like: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Pipelines that were loaded under this name (with that label, and with fields as `like`)."""
        return [one for one in await self._transport.get("/v1/pipelines")
                if one["spec"]["metadata"].get("dataset") == name and _fits(one["spec"], label, like)]

    async def _known(self, pipeline: Mapping[str, Any], name: str) -> Dataset:
        rows = await self._transport.get(f"/v1/pipelines/{pipeline['name']}/rows")
        return _dataset(pipeline["spec"], name, "as it was loaded", int(rows["accepted"]), None)

    async def send(self, derived: Derived) -> Dataset:
        """Apply the pipeline and send its rows, unless Lepton has them; return once all are accounted for."""
        await self._transport.post("/v1/pipelines", derived.spec)
        path = f"/v1/pipelines/{derived.name}"
        total = len(derived.rows)
        accepted = int((await self._transport.get(f"{path}/rows"))["accepted"])
        if accepted < total:
            await self._send_rows(derived, path)
            accepted = await self._accounted(path, total)
        self._progress.done(f"{derived.name}: {accepted} of {total} rows accepted")
        name = derived.spec["metadata"]["dataset"]
        return _dataset(derived.spec, name, derived.label_because, accepted, derived.rows)

    async def _send_rows(self, derived: Derived, path: str) -> None:
        total = len(derived.rows)
        for start in range(0, total, CHUNK_ROWS):
            rows = derived.rows.dicts(start, min(start + CHUNK_ROWS, total))
            lines = [json.dumps(derived.event(start + index, row)).encode() for index, row in enumerate(rows)]
            for chunk in _chunks(lines):
                await self._transport.call("POST", f"{path}/events", content=chunk, headers={"content-type": NDJSON})
            self._progress.show(f"{derived.name}: {start + len(rows)} of {total} rows sent")

    async def _accounted(self, path: str, total: int) -> int:
        """Wait until every row is stored or refused; return how many are stored."""
        clock = self._transport.clock
        before, moved_at = -1, clock.monotonic()
        while True:
            accepted = int((await self._transport.get(f"{path}/rows"))["accepted"])
            refused = await self.refused(path) if accepted < total else {}
            seen = accepted + sum(refused.values())
            if accepted >= total or seen >= total:
                return accepted
            if seen != before:
                before, moved_at = seen, clock.monotonic()
            elif clock.monotonic() - moved_at > STALLED_S:
                if seen - accepted >= _DEAD_LETTERS_SHOWN:
                    return accepted  # more were refused than can be counted here, and nothing moves any more
                raise Unavailable(f"{total - seen} of {total} rows are neither stored nor refused",
                                  place=path, remedy="see `lepton status`; load again once ingest is ready")
            self._progress.show(f"{accepted} of {total} rows accepted")
            await clock.sleep(_POLL_S)

    async def refused(self, path: str) -> dict[str, int]:
        """How many events were refused, by reason; the newest thousand are looked at."""
        letters = await self._transport.get(f"{path}/dead-letters", limit=_DEAD_LETTERS_SHOWN)
        reasons: dict[str, int] = {}
        for place in {str(one["place"]): one for one in letters}.values():
            field = f" ({place['field']})" if place.get("field") else ""
            reason = f"{place['reason']}{field}"
            reasons[reason] = reasons.get(reason, 0) + 1
        return reasons


def _as_path(source: str | Path) -> Path | None:
    """The source as a path where it can only be meant as one: a Path, or text with a folder or a known extension."""
    if isinstance(source, Path):
        return source
    written_as_one = "/" in source or source.lower().endswith((*_data.SUFFIXES, ".ndjson"))
    return Path(source) if written_as_one and Path(source).is_file() else None


def _chunks(lines: list[bytes]) -> list[bytes]:
    chunks: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if chunks[-1] and size + len(line) > MAX_CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(line)
        size += len(line) + 1
    return [b"\n".join(chunk) for chunk in chunks]


def _dataset(spec: Mapping[str, Any], name: str, because: str, accepted: int, rows: Rows | None) -> Dataset:
    label = (spec["events"].get("label") or {}).get("field")
    return Dataset(name=name, pipeline=spec["metadata"]["name"], label=label, label_because=because, accepted=accepted,
                   fields=_types(spec), rows=rows)


def _types(spec: Mapping[str, Any]) -> dict[str, str]:
    label = (spec["events"].get("label") or {}).get("field")
    return {name: told["type"] for name, told in spec["events"]["fields"].items() if name != label}


def _fits(spec: Mapping[str, Any], label: str | None, like: Mapping[str, Any] | None) -> bool:
    own = spec["events"].get("label") or {}
    if label is not None and own.get("field") not in (label, _data.field_name(label)):
        return False
    if like is None:
        return True
    return _types(spec) == _types(like) and _kind_of_label(spec) == _kind_of_label(like)


def _kind_of_label(spec: Mapping[str, Any]) -> tuple[str | None, str | None]:
    label = spec["events"].get("label") or {}
    field = label.get("field")
    return field, label.get("type") or spec["events"]["fields"].get(field, {}).get("type")


def _column(data: Dataset) -> str | None:
    return data.rows.columns.get(data.label) if data.rows is not None and data.label is not None else None


def _described(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in fields.items())


