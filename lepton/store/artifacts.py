"""Bytes by their SHA-256: what is stored under a name is what the name says, or it is not returned.

The database layout is GridFS's (`fs.files`, `fs.chunks`), so its ordinary tools read it. Chunk ids follow from the
digest, so an upload that was killed half-way, or two uploads at once, end in the same documents.
"""

import asyncio
import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from lepton.errors import Invalid, Missing, Unavailable
from lepton.store.documents import DocumentDatabase

# GridFS's own default: far below a document's limit, few round trips for a model.
CHUNK_SIZE_BYTES = 255 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")


# Of as many, a digest takes a millisecond.
_INLINE_BYTES = 1 << 20


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def digest_of(data: bytes) -> str:
    """`sha256_hex`, of much data on a thread: of a model of 100 MB it would hold up an event loop for 0.1 s."""
    return sha256_hex(data) if len(data) <= _INLINE_BYTES else await asyncio.to_thread(sha256_hex, data)


class Damaged(Unavailable):
    """What is stored under a digest is not what the digest says; to be had again once it is stored again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes as they were listed; `put` tells this storing of them from a later one."""

    digest: str
    size_bytes: int
    put: str


class Artifacts:
    """Bytes in the database."""

    def __init__(self, database: DocumentDatabase) -> None:
        self._files = database.collection("fs.files")
        self._chunks = database.collection("fs.chunks")

    async def put(self, data: bytes, kind: str = "") -> str:
        """Store and return the digest; what is stored already and whole is left alone, what is broken is repaired.

        `kind` says who may remove it with `remove`; bytes that were stored under two kinds are nobody's to remove.
        """
        digest = await digest_of(data)
        if await self._renew(digest, kind) and await self._read(digest) == data:
            return digest
        for number, start in enumerate(range(0, len(data), CHUNK_SIZE_BYTES)):
            await self._chunks.put({
                "_id": f"{digest}-{number:06d}", "files_id": digest, "n": number,
                "data": data[start:start + CHUNK_SIZE_BYTES]})
        # Last, so that a file exists only once all its chunks do.
        await self._files.put({"_id": digest, "filename": digest, "length": len(data), "chunkSize": CHUNK_SIZE_BYTES,
                               "kind": kind, "put": uuid.uuid4().hex})
        return digest

    async def get(self, digest: str) -> bytes:
        """Raises Missing when it is not stored, Damaged when what is stored has another digest."""
        _check(digest)
        data = await self._read(digest)
        if data is None:
            raise Missing(f"there is no artefact {digest}")
        if await digest_of(data) != digest:
            raise Damaged(f"the stored bytes of artefact {digest} are damaged",
                          remedy="store it again; its writer still has it, or a backup does")
        return data

    async def delete(self, digest: str) -> None:
        """Remove it; removing what is not there is harmless."""
        _check(digest)
        await self._files.delete({"_id": digest})
        await self._chunks.delete({"files_id": digest})

    async def of_kind(self, kind: str) -> list[Stored]:
        """Everything stored under a kind, by digest."""
        return [Stored(str(one["_id"]), int(one["length"]), str(one["put"]))
                for one in await self._files.find({"kind": kind})]

    async def remove(self, stored: Stored) -> bool:
        """Remove it unless it was put again since it was listed; whether it is gone.

        Whoever puts the same bytes while this goes on finds them whole afterwards.
        """
        data = await self._read(stored.digest)
        if not await self._files.delete({"_id": stored.digest, "put": stored.put}):
            return False
        await self._chunks.delete({"files_id": stored.digest})
        again = await self._files.get(stored.digest)
        if again is not None and data is not None:
            await self.put(data, str(again.get("kind", "")))
            return False
        return True

    async def _renew(self, digest: str, kind: str) -> bool:
        """Note that the bytes are wanted anew, so that nobody removes them by what was known before; False when there
        are none."""
        put = uuid.uuid4().hex
        return await self._files.swap(digest, {"kind": kind}, {"put": put}) or \
            await self._files.swap(digest, {}, {"kind": "", "put": put})

    async def _read(self, digest: str) -> bytes | None:
        if await self._files.get(digest) is None:
            return None
        chunks = await self._chunks.find({"files_id": digest}, order="n")
        return b"".join(chunk["data"] for chunk in chunks)


class FileArtifacts:
    """Bytes in a folder of this machine: a cache that survives a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, data: bytes) -> str:
        """Store and return the digest; a reader never sees half a file."""
        digest = await digest_of(data)
        await asyncio.to_thread(self._write, digest, data)
        return digest

    async def get(self, digest: str) -> bytes:
        """Raises Missing when it is not here, or was damaged (then it is removed)."""
        _check(digest)
        return await asyncio.to_thread(self._load, digest)

    async def delete(self, digest: str) -> None:
        """Remove it; removing what is not there is harmless."""
        _check(digest)
        await asyncio.to_thread((self._folder / digest).unlink, missing_ok=True)

    def path(self, digest: str) -> Path:
        """Where `digest` is, once stored; the caller may not write there."""
        _check(digest)
        return self._folder / digest

    def _write(self, digest: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f".{digest}.{os.getpid()}"
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._folder / digest)

    def _load(self, digest: str) -> bytes:
        path = self._folder / digest
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise Missing(f"there is no artefact {digest} in {self._folder}") from error
        if sha256_hex(data) != digest:
            path.unlink(missing_ok=True)
            raise Missing(f"artefact {digest} in {self._folder} was damaged and is removed")
        return data


def _check(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Invalid("an artefact is named by its SHA-256 in lower-case hex", field="sha256")
