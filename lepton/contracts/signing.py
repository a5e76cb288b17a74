"""Ed25519 identities, the keys one trusts and for what, and which bytes of a message a signature covers."""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import Message

from lepton.contracts.pb.models_pb2 import ModelVersion
from lepton.errors import Invalid, Missing, Refused

Role = Literal["trainer", "watchdog", "operator"]
"""trainer: models and registry states; watchdog and operator: recovery commands."""

_KEY_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")


class SignedMessage(Protocol):
    """A message with fields `key_id` and `signature` (RecoveryCommand, ModelState)."""

    key_id: str
    signature: bytes

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A private key and the id others know it by."""

    key_id: str
    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Identity({self.key_id})"

    @classmethod
    def create(cls, directory: Path, name: str) -> "Identity":
        """A new identity in `<directory>/<name>.json`, readable by its owner alone. Raises Refused when it exists."""
        identity = cls(_checked_id(name), Ed25519PrivateKey.generate())
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"{name}.json"
        try:
            # Created closed: a later chmod would leave a moment in which anyone could read it.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Refused("an identity of this name exists", place=str(path), remedy="load it, or remove it") from error
        with os.fdopen(descriptor, "w") as file:
            json.dump({"key_id": name, "private_key": _b64(identity.private.private_bytes_raw())}, file)
        return identity

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Raises Missing when there is no file, Invalid when it holds no key."""
        data = _read_json(path)
        raw = _bytes(data, "private_key", path)
        if len(raw) != 32:
            raise Invalid("not an Ed25519 private key", field="private_key", place=str(path))
        return cls(_checked_id(str(data.get("key_id")), path), Ed25519PrivateKey.from_private_bytes(raw))

    def public_bytes(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, what it may sign, and when. Signatures hold from `not_before` until before `not_after`."""

    key_id: str
    public_key: bytes
    roles: frozenset[str]
    not_before: datetime
    not_after: datetime
    revoked: bool = False

    def to_json(self) -> str:
        return json.dumps({"key_id": self.key_id, "public_key": _b64(self.public_key), "roles": sorted(self.roles),
                           "not_before": self.not_before.isoformat(), "not_after": self.not_after.isoformat(),
                           "revoked": self.revoked}, indent=2)

    def write(self, directory: Path) -> Path:
        """Put this key among the trusted ones; the file is what `TrustStore.load` reads."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.key_id}.json"
        path.write_text(self.to_json() + "\n")
        return path


class TrustStore:
    """The public keys an operator put on this machine; never read from a database or a topic."""

    def __init__(self, keys: Mapping[str, TrustedKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def load(cls, directory: Path) -> "TrustStore":
        """Every `<key_id>.json` in `directory`. Raises Missing without the directory, Invalid on a file it cannot use:
        a damaged file must not silently take trust away, nor a misnamed one give it."""
        if not directory.is_dir():
            raise Missing("there is no folder of trusted keys", place=str(directory), remedy="set LEPTON_TRUST_DIR")
        keys = [_trusted_key(path) for path in sorted(directory.glob("*.json"))]
        return cls({key.key_id: key for key in keys})

    def ends(self) -> dict[str, datetime]:
        """By role, from when on nobody can act in it any more: the latest end of its keys that were not revoked."""
        ends: dict[str, datetime] = {}
        for key in self._keys.values():
            for role in () if key.revoked else key.roles:
                ends[role] = max(ends.get(role, key.not_after), key.not_after)
        return ends

    def verify(self, key_id: str, role: Role, data: bytes, signature: bytes, now: datetime) -> None:
        """Raises Refused, with the reason, unless `key_id` may act as `role` at `now` and signed exactly `data`."""
        key = self._keys.get(key_id)
        if key is None:
            raise Refused("signed by a key that is not trusted here", field="key_id", place=key_id or "(empty)")
        if key.revoked:
            raise Refused("the key was revoked", field="key_id", place=key_id)
        if role not in key.roles:
            raise Refused(f"the key may not act as {role}", field="key_id", place=key_id)
        if not key.not_before <= now < key.not_after:
            raise Refused("the key is not valid at this time", field="key_id", place=key_id)
        try:
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, data)
        except InvalidSignature as error:
            raise Refused("the signature does not hold", field="signature", place=key_id,
                          remedy="the message was changed, or signed by another key of this name") from error


def sign_message(identity: Identity, message: SignedMessage) -> None:
    """Set `key_id` and `signature`; the signature covers all of the message but itself."""
    message.key_id = identity.key_id
    message.signature = identity.sign(_unsigned(message))


def verify_message(trust: TrustStore, role: Role, message: SignedMessage, now: datetime) -> None:
    """Raises Refused unless the message is as its signer, trusted in `role`, wrote it."""
    trust.verify(message.key_id, role, _unsigned(message), message.signature, now)


def sign_manifest(identity: Identity, version: ModelVersion) -> None:
    """Sign `version.manifest` into `version`; status may change later without a new signature."""
    version.key_id = identity.key_id
    version.signature = identity.sign(version.manifest.SerializeToString(deterministic=True))


def verify_manifest(trust: TrustStore, version: ModelVersion, now: datetime) -> None:
    """Raises Refused unless a trainer signed this manifest and it is about the model and version it is listed under."""
    trust.verify(version.key_id, "trainer", version.manifest.SerializeToString(deterministic=True),
                 version.signature, now)
    # A true manifest under another name or number would pass one model off as another.
    if (version.manifest.model, version.manifest.version) != (version.model, version.version):
        raise Refused("the manifest is of another model version", field="manifest",
                      place=f"{version.manifest.model} v{version.manifest.version}")


def _unsigned(message: SignedMessage) -> bytes:
    whole = cast(Message, message)
    copy = type(whole)()
    copy.CopyFrom(whole)
    copy.ClearField("signature")
    return copy.SerializeToString(deterministic=True)


def _trusted_key(path: Path) -> TrustedKey:
    data = _read_json(path)
    unknown = set(data) - {"key_id", "public_key", "roles", "not_before", "not_after", "revoked"}
    if unknown:
        raise Invalid("unknown entry in a trusted key", field=sorted(unknown)[0], place=str(path))
    key_id = _checked_id(str(data.get("key_id")), path)
    if key_id != path.stem:
        raise Invalid("a trusted key must be in a file of its name", field="key_id", place=str(path))
    public = _bytes(data, "public_key", path)
    if len(public) != 32:
        raise Invalid("not an Ed25519 public key", field="public_key", place=str(path))
    roles = data.get("roles")
    if not isinstance(roles, list) or not roles or not set(roles) <= set(get_args(Role)):
        raise Invalid(f"roles must be some of {', '.join(get_args(Role))}", field="roles", place=str(path))
    revoked = data.get("revoked", False)
    if not isinstance(revoked, bool):
        raise Invalid("must be true or false", field="revoked", place=str(path))
    return TrustedKey(key_id, public, frozenset(roles), _time(data, "not_before", path),
                      _time(data, "not_after", path), revoked)


def _checked_id(name: str, path: Path | None = None) -> str:
    if not _KEY_ID.match(name):
        raise Invalid("a key id is lower-case letters, digits and dashes", field="key_id",
                      place=str(path) if path else None)
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Missing("there is no such key", place=str(path)) from error
    except ValueError as error:
        # The content may be a private key: say where, never what.
        raise Invalid("not readable as JSON", place=str(path)) from error
    if not isinstance(data, dict):
        raise Invalid("must be a JSON object", place=str(path))
    return data


def _bytes(data: Mapping[str, Any], field: str, path: Path) -> bytes:
    try:
        return base64.b64decode(str(data.get(field, "")), validate=True)
    except ValueError:
        raise Invalid("not base64", field=field, place=str(path)) from None


def _time(data: Mapping[str, Any], field: str, path: Path) -> datetime:
    try:
        at = datetime.fromisoformat(str(data.get(field)))
    except ValueError as error:
        raise Invalid("must be an RFC 3339 time", field=field, place=str(path)) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
