"""The secret a backup is sealed under: a key file or a passphrase, and how a key follows from either."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from lepton.errors import Invalid, Missing, Refused

KEY_BYTES = 32
SALT_BYTES = 16
# 64 MiB and about a quarter of a second for each guess; OWASP's recommendation is the same or less.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**16, 8, 1
# A header is read before it can be believed: it may not make us use all memory.
SCRYPT_N_MAX = 2**20
MIN_PASSPHRASE = 12
_KEY_FILE = "lepton-backup-key-1:"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """`material` is the key itself, or the passphrase in UTF-8."""

    kind: Literal["key", "passphrase"]
    material: bytes

    def new_derivation(self) -> dict[str, Any]:
        """How `derive` is to make a key for one backup: it stands in the backup's header and tells no secret."""
        salt = base64.b64encode(os.urandom(SALT_BYTES)).decode()
        if self.kind == "key":
            return {"from": "key", "salt": salt}
        return {"from": "passphrase", "salt": salt, "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P}

    def derive(self, how: Mapping[str, Any]) -> bytes:
        """The key that a backup's own key is wrapped in. Raises Refused when the header asks for the other kind."""
        if how.get("from") != self.kind:
            raise Refused(f"the backup is sealed under a {how.get('from')}, and a {self.kind} was given",
                          remedy="give --key-file or --passphrase-file, as when it was made")
        try:
            salt = base64.b64decode(str(how["salt"]), validate=True)
            if self.kind == "key":
                return hkdf(self.material, salt, b"lepton-backup wrap")
            cost = (int(how["n"]), int(how["r"]), int(how["p"]))
            if not (2 <= cost[0] <= SCRYPT_N_MAX and 1 <= cost[1] <= 16 and 1 <= cost[2] <= 4):
                raise Invalid("the header asks for a key derivation out of bounds", field="derivation")
            return Scrypt(salt=salt, length=KEY_BYTES, n=cost[0], r=cost[1], p=cost[2]).derive(self.material)
        except (KeyError, ValueError, TypeError) as error:
            raise Invalid("the header does not say how its key is made", field="derivation") from error


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869), 32 bytes."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key)


def write_key(path: Path) -> None:
    """A new random key in a new file, readable by its owner alone. Raises Refused when the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Refused("a file of this name exists, and backups may depend on it", place=str(path),
                      remedy="choose another name") from error
    with os.fdopen(descriptor, "w") as sink:
        sink.write(_KEY_FILE + base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")


def read_key(path: Path) -> Secret:
    """Raises Missing, or Invalid when the file holds no key; its content is never repeated."""
    text = _read(path)
    try:
        material = base64.b64decode(text.removeprefix(_KEY_FILE), validate=True)
    except ValueError:
        material = b""
    if not text.startswith(_KEY_FILE) or len(material) != KEY_BYTES:
        raise Invalid("not a backup key", place=str(path), remedy="make one with `lepton backup key FILE`")
    return Secret("key", material)


def read_passphrase(path: Path) -> Secret:
    """The first line of the file. Raises Missing, or Invalid when it is too short to be one."""
    phrase = _read(path).split("\n", 1)[0]
    if len(phrase) < MIN_PASSPHRASE:
        raise Invalid(f"a passphrase needs {MIN_PASSPHRASE} characters or more", place=str(path))
    return Secret("passphrase", phrase.encode())


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise Invalid("not text", place=str(path)) from None
    except OSError as error:
        raise Missing(f"cannot be read: {error.strerror}", place=str(path)) from error
