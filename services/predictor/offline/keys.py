"""Who may call an edge server: the keys of a file, or, where only this machine reaches it, anybody."""

import ipaddress
from pathlib import Path

from lepton.clock import Clock
from lepton.contracts.apikeys import KeyRecord, Scope, parse_bearer, recorded
from lepton.errors import Invalid, Missing, Refused
from lepton.store.keys import Keys
from lepton.store.memory import MemoryDatabase
from services.predictor.core.keyring import Keyring
from services.predictor.flow.access import Access

_SCOPES = (Scope.PREDICT, Scope.WRITE)
"""With `write`, a caller who brings feedback is told why there is none here, not that a key is missing."""

_ANYBODY = KeyRecord("anybody", "", "", _SCOPES)


class OpenAccess(Access):
    """Lets every caller predict, with or without a key."""

    def recall(self, header: str) -> KeyRecord | None:
        return _ANYBODY

    async def identify(self, header: str | None) -> KeyRecord:
        return _ANYBODY


class ListedKeys:
    """Puts the keys of a file where access looks them up. A resource of the service."""

    def __init__(self, keys: Keys, path: Path) -> None:
        self._keys = keys
        self._records = _read(path)

    async def start(self) -> None:
        for record in self._records:
            await self._keys.create(record.to_document())

    async def stop(self) -> None:
        """They go with the process."""


def access_for(host: str, path: Path | None, keep_s: float, clock: Clock) -> tuple[Access, ListedKeys | None]:
    """Raises Refused for a door open to others without keys, Missing or Invalid for a file of keys that is none."""
    keys, keyring = Keys(MemoryDatabase()), Keyring(keep_s)
    if path is not None:
        return Access(keys, keyring, clock), ListedKeys(keys, path)
    if not _is_here(host):
        raise Refused(f"at {host} others could call, and no keys are asked for", field="host",
                      remedy="give a file of keys, or listen on 127.0.0.1")
    return OpenAccess(keys, keyring, clock), None


def _read(path: Path) -> list[KeyRecord]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as failure:
        raise Missing(f"cannot be read: {failure.strerror}", field="keys", place=str(path)) from failure
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                key_id, secret = parse_bearer(f"Bearer {line.strip()}")
            except Refused as failure:
                raise Invalid(failure.message, field="keys", place=f"{path}, line {number}",
                              remedy="write one key a line, as `lepton key` prints it") from failure
            found.append(recorded(key_id, secret, _SCOPES))
    if not found:
        raise Invalid("the file holds no key", field="keys", place=str(path), remedy="write one a line")
    return found


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
