"""How a stream of bytes is sealed and opened again with bounded memory: AES-256-GCM in chunks.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar 2015) with age's choices: a key of its own for every
file, and as nonce the chunk's number and whether it is the last. So a chunk that is changed, left out, moved, repeated
or cut off is found. The header is the salt of that key, so a changed header opens nothing.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deploy.backup.archive.secret import KEY_BYTES, Secret, hkdf
from lepton.errors import Invalid, Refused

MAGIC = b"lepton-backup 1\n"
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
_LONGEST_HEADER = 64 * 1024
_REMEDY = "take another copy of it, or another backup"


class Sealer:
    """Writes to `sink`; nothing of it opens before `finish`. `facts` stand in the header, for anyone to read."""

    def __init__(self, sink: BinaryIO, secret: Secret, facts: Mapping[str, Any]) -> None:
        derivation, own = secret.new_derivation(), os.urandom(KEY_BYTES)
        nonce = os.urandom(12)
        wrapped = nonce + AESGCM(secret.derive(derivation)).encrypt(nonce, own, MAGIC)
        header = json.dumps({"facts": facts, "derivation": derivation, "key": base64.b64encode(wrapped).decode()},
                            sort_keys=True).encode()
        framed = MAGIC + len(header).to_bytes(4, "big") + header
        sink.write(framed)
        self.digest = hashlib.sha256(framed).digest()
        self._cipher = AESGCM(hkdf(own, self.digest, b"lepton-backup payload"))
        self._sink = sink
        self._buffer = bytearray()
        self._number = 0

    def write(self, data: bytes) -> None:
        self._buffer += data
        # One chunk is always kept back, since the last one is sealed as such.
        while len(self._buffer) > CHUNK_BYTES:
            self._seal(bytes(self._buffer[:CHUNK_BYTES]), last=False)
            del self._buffer[:CHUNK_BYTES]

    def finish(self) -> None:
        self._seal(bytes(self._buffer), last=True)
        self._buffer.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._sink.write(self._cipher.encrypt(_nonce(self._number, last=last), chunk, None))
        self._number += 1


class Opener:
    """Reads what a Sealer wrote. Raises Refused for a wrong secret, Invalid for a file that is damaged or cut off."""

    def __init__(self, source: BinaryIO, secret: Secret, place: str) -> None:
        header, framed = _header(source, place)
        self.facts: Mapping[str, Any] = header["facts"]
        self.digest = hashlib.sha256(framed).digest()
        self._cipher = AESGCM(hkdf(_unwrap(header, secret, place), self.digest, b"lepton-backup payload"))
        self._source = source
        self._place = place
        self._next = source.read(CHUNK_BYTES + TAG_BYTES)
        self._buffer = bytearray()
        self._number = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at the end."""
        while len(self._buffer) < size and not self._ended:
            self._open_chunk()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _open_chunk(self) -> None:
        sealed, self._next = self._next, self._source.read(CHUNK_BYTES + TAG_BYTES)
        last = not self._next
        try:
            self._buffer += self._cipher.decrypt(_nonce(self._number, last=last), sealed, None)
        except (InvalidTag, ValueError) as error:
            raise Invalid(f"the backup is damaged or cut off at chunk {self._number}", place=self._place,
                          remedy=_REMEDY) from error
        self._number += 1
        self._ended = last


def facts(source: BinaryIO, place: str) -> Mapping[str, Any]:
    """What the header says for anyone; believed only once the backup was opened."""
    found: Mapping[str, Any] = _header(source, place)[0]["facts"]
    return found


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _header(source: BinaryIO, place: str) -> tuple[dict[str, Any], bytes]:
    if source.read(len(MAGIC)) != MAGIC:
        raise Invalid("not a backup of Lepton, or of a form this version does not know", place=place)
    length = source.read(4)
    size = int.from_bytes(length, "big")
    raw = source.read(size) if size <= _LONGEST_HEADER else b""
    try:
        header = json.loads(raw)
    except ValueError:
        header = None
    if len(raw) != size or not isinstance(header, dict) or not isinstance(header.get("facts"), dict) \
            or not isinstance(header.get("derivation"), dict):
        raise Invalid("the backup's header is damaged", place=place, remedy=_REMEDY)
    return header, MAGIC + length + raw


def _unwrap(header: Mapping[str, Any], secret: Secret, place: str) -> bytes:
    try:
        wrapped = base64.b64decode(str(header.get("key")), validate=True)
        return AESGCM(secret.derive(header["derivation"])).decrypt(wrapped[:12], wrapped[12:], MAGIC)
    except (InvalidTag, ValueError) as error:
        raise Refused(f"the {secret.kind} does not open this backup, or its header was changed", place=place,
                      remedy="give the one it was made with") from error
