"""How far each uploaded file has come: bytes taken in, rows made durable, and the record that waits for its end."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lepton.clock import Clock
from lepton.errors import Missing, Refused
from lepton.store.documents import Document, DocumentDatabase


@dataclass(frozen=True, slots=True)
class Upload:
    """One file on its way into one pipeline generation. The first eight members never change.

    `offset`: bytes that need not be sent again; `rest`: the last of them, which begin a record whose end is still to
    come; `rows`: records behind us, of which the gateway itself `refused` some; `columns`: members the columns of a CSV
    are (empty text: none), empty before its first line; `ignored`: columns that are no members; `too_long`: the record
    at `offset` was refused for its length, and its end is still to come.
    """

    id: str
    pipeline: str
    generation: int
    name: str
    format: str
    size: int
    sha256: str
    delimiter: str = ","
    created_by: str = ""
    created_s: float = 0.0
    changed_s: float = 0.0
    revision: int = 0
    offset: int = 0
    rest: bytes = b""
    rows: int = 0
    refused: int = 0
    total_rows: int = 0
    """Known for Parquet, once the whole file is here; else 0."""
    columns: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    too_long: bool = False
    done: bool = False


_NAMES = frozenset(field.name for field in fields(Upload))


class Uploads:
    """Written by the gateway only. Every change counts a revision, so of two writers at once one is refused."""

    def __init__(self, database: DocumentDatabase, clock: Clock) -> None:
        self._documents = database.collection("uploads")
        self._clock = clock

    async def begin(self, upload: Upload) -> Upload:
        """The upload of that id as it stands: the one given, unless it was begun before."""
        now = self._clock.now().timestamp()
        new = replace(upload, created_s=now, changed_s=now, revision=1)
        if await self._documents.insert(_document(new)):
            return new
        return await self.get(upload.id)

    async def get(self, upload_id: str) -> Upload:
        """Raises Missing."""
        document = await self._documents.get(upload_id)
        if document is None:
            raise Missing(f"there is no upload {upload_id}", field="upload")
        return _upload(document)

    async def advance(self, before: Upload, **changes: Any) -> Upload:
        """Change it from the state that was read. Raises Refused when another changed it first, Missing."""
        after = replace(before, **changes, changed_s=self._clock.now().timestamp(), revision=before.revision + 1)
        given = _document(after)
        written = {name: given[name] for name in (*changes, "changed_s", "revision")}
        if not await self._documents.swap(before.id, {"revision": before.revision}, written):
            await self.get(before.id)
            raise Refused(f"upload {before.id} was changed by another", field="upload", remedy="read it, then go on")
        return after

    async def list(self, pipeline: str, limit: int = 100) -> list[Upload]:
        """Those of a pipeline, newest first."""
        found = await self._documents.find({"pipeline": pipeline}, order="-created_s", limit=limit)
        return [_upload(document) for document in found]


def _document(upload: Upload) -> Document:
    values = asdict(upload)
    return {"_id": values.pop("id"), **{
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}}


def _upload(document: Document) -> Upload:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                              for name, value in document.items() if name in _NAMES}
    return Upload(id=document["_id"], **values)
