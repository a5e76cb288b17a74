"""API keys seen lately: which are known good, when they are to be looked up again, and which are known not to exist.

Secrets are never kept: a header is remembered by its SHA-256. A key that was good stays good while the database cannot
be asked; otherwise what the store says counts within `keep_s`.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from lepton.contracts.apikeys import KeyRecord

MAX_REMEMBERED = 10_000
"""Headers, and unknown keys, remembered; the one unused for longest goes first."""

UNKNOWN_S = 2.0
"""A key that does not exist is not asked for again this soon: junk keys must not become database load."""


@dataclass(slots=True)
class _Known:
    record: KeyRecord
    checked_at: float
    used_at: float


class Keyring:
    """All times are monotonic seconds."""

    def __init__(self, keep_s: float = 30.0, unused_s: float = 600.0) -> None:
        self._keep_s = keep_s
        self._unused_s = unused_s
        self._headers: OrderedDict[bytes, str] = OrderedDict()
        self._keys: dict[str, _Known] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self.revision = 0
        """Another one whenever what `entries` says may have changed."""

    def recall(self, header: str, now: float) -> KeyRecord | None:
        """The record of a header that was verified before; None when it must be looked up."""
        fingerprint = _fingerprint(header)
        key_id = self._headers.get(fingerprint)
        known = self._keys.get(key_id) if key_id is not None else None
        if known is None:
            return None
        self._headers.move_to_end(fingerprint)
        known.used_at = now
        return known.record

    def known(self, key_id: str) -> KeyRecord | None:
        """The record of a key that is remembered, whatever secret comes with it now."""
        known = self._keys.get(key_id)
        return None if known is None else known.record

    def remember(self, header: str, record: KeyRecord, now: float) -> None:
        """`header` carried the right secret of `record`, which the store gave at `now` unless it was `known`."""
        known = self._keys.get(record.key_id)
        self._keys[record.key_id] = _Known(record, now if known is None else known.checked_at, now)
        self._headers[_fingerprint(header)] = record.key_id
        self._unknown.pop(record.key_id, None)
        self.revision += 1
        if len(self._headers) > MAX_REMEMBERED:
            _, key_id = self._headers.popitem(last=False)
            if key_id not in self._headers.values():
                self._keys.pop(key_id, None)

    def is_unknown(self, key_id: str, now: float) -> bool:
        """Whether the store has just said that there is no such key."""
        return self._unknown.get(key_id, now) > now

    def remember_unknown(self, key_id: str, now: float) -> None:
        self._unknown[key_id] = now + UNKNOWN_S
        if len(self._unknown) > MAX_REMEMBERED:
            self._unknown.popitem(last=False)

    def due(self, now: float) -> list[str]:
        """Keys to look up again; those nobody has used for `unused_s` are forgotten instead."""
        for key_id in [key_id for key_id, known in self._keys.items() if now - known.used_at > self._unused_s]:
            self.forget(key_id)
        return [key_id for key_id, known in self._keys.items() if now - known.checked_at >= self._keep_s / 2]

    def renew(self, key_id: str, record: KeyRecord | None, now: float) -> None:
        """What the store says now; None, another secret or a revocation means the key is good no more."""
        known = self._keys.get(key_id)
        if known is None:
            return
        if record is None or record.revoked or record.secret_sha256 != known.record.secret_sha256:
            self.forget(key_id)
        else:
            known.record, known.checked_at = record, now
            self.revision += 1

    def entries(self) -> list[tuple[bytes, KeyRecord]]:
        """SHA-256 of every header that is remembered, and its record."""
        return [(fingerprint, self._keys[key_id].record) for fingerprint, key_id in self._headers.items()
                if key_id in self._keys]

    def used(self, fingerprint: bytes, now: float) -> None:
        """A header that is remembered came again, elsewhere than through `recall`."""
        known = self._keys.get(self._headers.get(fingerprint, ""))
        if known is not None:
            self._headers.move_to_end(fingerprint)
            known.used_at = now

    def forget(self, key_id: str) -> None:
        self.revision += 1
        self._keys.pop(key_id, None)
        for fingerprint in [one for one, owner in self._headers.items() if owner == key_id]:
            del self._headers[fingerprint]


def _fingerprint(header: str) -> bytes:
    return hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
