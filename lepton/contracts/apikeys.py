"""The form of API keys, what is stored of one, and the scopes a key can have."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lepton.errors import Refused

_FORM = re.compile(r"^(lk_[0-9a-f]{16})\.([A-Za-z0-9_-]{43})$")
_SALT_BYTES = 16


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    PREDICT = "predict"
    TRAIN = "train"
    ADMIN = "admin"
    """Implies every other scope."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key: enough to recognise its secret, not enough to know it.

    The hash is one SHA-256 over salt and secret. The secret is 256 random bits, so guessing is hopeless at any
    speed and a deliberately slow password hash would only make every request slow.
    """

    key_id: str
    salt: str
    secret_sha256: str
    scopes: tuple[Scope, ...]
    description: str = ""
    revoked: bool = False

    def to_document(self) -> dict[str, Any]:
        """Plain values, as a store keeps them."""
        return {**asdict(self), "scopes": [scope.value for scope in self.scopes]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "KeyRecord":
        """The inverse; other members are left aside, and a scope this version does not know gives nothing."""
        known = {scope.value for scope in Scope}
        scopes = tuple(Scope(scope) for scope in document["scopes"] if scope in known)
        return cls(document["key_id"], document["salt"], document["secret_sha256"], scopes,
                   document.get("description", ""), bool(document.get("revoked", False)))

    def allows(self, scope: Scope) -> bool:
        return not self.revoked and (scope in self.scopes or Scope.ADMIN in self.scopes)


def new_key(scopes: Iterable[Scope] = (Scope.ADMIN,), description: str = "") -> tuple[str, str, KeyRecord]:
    """`(key_id, secret, record)`. The secret exists only in this answer: show it once, store the record."""
    key_id = f"lk_{secrets.token_hex(8)}"
    secret = secrets.token_urlsafe(32)
    return key_id, secret, recorded(key_id, secret, scopes, description)


def recorded(key_id: str, secret: str, scopes: Iterable[Scope], description: str = "") -> KeyRecord:
    """What is stored of a key that exists."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return KeyRecord(key_id=key_id, salt=base64.b64encode(salt).decode(), secret_sha256=_hash(salt, secret),
                     scopes=tuple(sorted(set(scopes))), description=description)


def bearer(key_id: str, secret: str) -> str:
    """Value of an `authorization` header."""
    return f"Bearer {key_id}.{secret}"


def parse_bearer(value: str | None) -> tuple[str, str]:
    """`(key_id, secret)` of an `authorization` header. Raises Refused, which never repeats what was sent."""
    if not value:
        raise Refused("no API key was sent", field="authorization",
                      remedy="send the header `Authorization: Bearer lk_….…`")
    scheme, _, token = value.strip().partition(" ")
    found = _FORM.match(token.strip())
    if scheme.lower() != "bearer" or found is None:
        raise Refused("this is not the form of an API key", field="authorization",
                      remedy="send the header `Authorization: Bearer <key id>.<secret>`, as it was shown when made")
    return found.group(1), found.group(2)


def matches(record: KeyRecord, secret: str) -> bool:
    """Whether `secret` is the one of `record`, in time that does not depend on where they differ; False if revoked."""
    try:
        salt = base64.b64decode(record.salt, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(_hash(salt, secret), record.secret_sha256) and not record.revoked


def _hash(salt: bytes, secret: str) -> str:
    return hashlib.sha256(salt + secret.encode()).hexdigest()
