"""How parts lie in a backup, one after the other, and the signed manifest at the end that says what each must be."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deploy.backup.archive.sealing import Opener, Sealer
from deploy.backup.archive.secret import Secret
from lepton.contracts.signing import Identity
from lepton.errors import Invalid, Refused

ENDING = ".lepton-backup"
UNFINISHED = ".unfinished"
LONGEST_FRAME = 64 * 1024 * 1024
_SIGNED = b"lepton-backup manifest\n"
_BEGIN, _DATA, _MANIFEST = b"B", b"D", b"M"


@dataclass(frozen=True, slots=True)
class Part:
    """`sha256` is that of its bytes one frame after the other; `items` and `tally` are the writer's own account."""

    name: str
    size_bytes: int
    sha256: str
    items: int
    tally: str = "0"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`plan` is what is not in a part: offsets, topics' settings. `signer` has signed it; trust is another matter."""

    parts: tuple[Part, ...]
    plan: Mapping[str, Any]
    signer: str
    signature: bytes = field(repr=False)
    signed: bytes = field(repr=False)

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


class ArchiveWriter:
    """Writes a backup beside its final name and gives it that name once all of it is on the disk."""

    def __init__(self, path: Path, secret: Secret, facts: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._draft = path.with_name(path.name + UNFINISHED)
        descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._sealer = Sealer(self._file, secret, facts)
        self._parts: list[Part] = []
        self._name = ""
        self._hash = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # On a full disk what was not written yet fails here once more.
            self._file.close()
        finally:
            self._draft.unlink(missing_ok=True)

    def begin(self, name: str) -> None:
        self._name, self._hash, self._size = name, hashlib.sha256(), 0
        self._frame(_BEGIN, name.encode())

    def add(self, data: bytes) -> None:
        """A frame of the part; frames are given back as they were added."""
        self._hash.update(data)
        self._size += len(data)
        self._frame(_DATA, data)

    def end(self, items: int, tally: str = "0") -> None:
        self._parts.append(Part(self._name, self._size, self._hash.hexdigest(), items, tally))

    def finish(self, plan: Mapping[str, Any], identity: Identity) -> tuple[Part, ...]:
        """Write and sign the manifest, and give the file its name."""
        told = json.dumps({"parts": [asdict(part) for part in self._parts], "plan": plan}, sort_keys=True)
        public = base64.b64encode(identity.public_bytes()).decode()
        signature = identity.sign(_SIGNED + self._sealer.digest + told.encode())
        self._frame(_MANIFEST, json.dumps({"manifest": told, "signer": identity.key_id, "public_key": public,
                                           "signature": base64.b64encode(signature).decode()}).encode())
        self._sealer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return tuple(self._parts)

    def _frame(self, kind: bytes, data: bytes) -> None:
        if len(data) > LONGEST_FRAME:
            raise Invalid(f"a frame of {len(data)} bytes is too large for a backup", place=self._name)
        self._sealer.write(kind + len(data).to_bytes(4, "big"))
        self._sealer.write(data)


Take = Callable[[str, bytes], None]


def walk(path: Path, secret: Secret) -> Iterator[tuple[str, bytes]]:
    """Every frame of every part in order, with the part's name; memory is bounded by one frame.

    Raises Refused for a wrong secret, Invalid once something is damaged: what was given before is then as it was
    written, but not the whole.
    """
    with path.open("rb") as file:
        opener, name = Opener(file, secret, str(path)), ""
        while True:
            kind, data = _frame(opener, path)
            if kind == _MANIFEST:
                return
            if kind == _BEGIN:
                name, data = data.decode(), b""
            yield name, data


def check(path: Path, secret: Secret) -> Manifest:
    """Open every byte, compare each part with the manifest, and the manifest with its signature.

    Raises Refused for a wrong secret or signature, Invalid for anything damaged, missing or too much.
    """
    found: list[tuple[str, int, str]] = []
    digest, size, name = hashlib.sha256(), 0, ""
    with path.open("rb") as file:
        opener = Opener(file, secret, str(path))
        while True:
            kind, data = _frame(opener, path)
            if kind != _DATA and name:
                found.append((name, size, digest.hexdigest()))
            if kind == _MANIFEST:
                break
            if kind == _BEGIN:
                name, digest, size = data.decode(), hashlib.sha256(), 0
            else:
                digest.update(data)
                size += len(data)
        if opener.read(1):
            raise Invalid("something follows the manifest", place=str(path))
    manifest = _manifest(data, opener.digest, path)
    if found != [(part.name, part.size_bytes, part.sha256) for part in manifest.parts]:
        raise Invalid("the parts are not those of the manifest", place=str(path))
    return manifest


def _frame(opener: Opener, path: Path) -> tuple[bytes, bytes]:
    head = opener.read(5)
    size = int.from_bytes(head[1:], "big")
    if len(head) != 5 or head[:1] not in (_BEGIN, _DATA, _MANIFEST) or size > LONGEST_FRAME:
        raise Invalid("the backup ends without a manifest", place=str(path))
    data = opener.read(size)
    if len(data) != size:
        raise Invalid("the backup ends within a part", place=str(path))
    return head[:1], data


def _manifest(data: bytes, header: bytes, path: Path) -> Manifest:
    told = json.loads(data)
    signed = _SIGNED + header + str(told["manifest"]).encode()
    signature = base64.b64decode(told["signature"])
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(told["public_key"])).verify(signature, signed)
    except InvalidSignature as error:
        raise Refused("the manifest's signature does not hold", field="signature", place=str(path)) from error
    body = json.loads(told["manifest"])
    return Manifest(tuple(Part(**part) for part in body["parts"]), body["plan"], told["signer"], signature, signed)
