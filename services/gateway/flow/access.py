"""Who may come in, how often; the keys they come with, and the first one."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lepton.bus.commands.audit import Audit
from lepton.clock import Clock
from lepton.contracts.apikeys import KeyRecord, Scope, new_key, parse_bearer
from lepton.errors import Missing, Refused, Unavailable
from lepton.store.keys import Keys
from services.gateway.core.auth import Caller, recognise, require
from services.gateway.core.clients import Clients
from services.gateway.core.limits import Limits

# An unknown id is not asked for again this soon: junk keys must not become load on the database.
UNKNOWN_S = 2.0
MAX_KNOWN = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    record: KeyRecord | None
    read_at: float


class Access:
    """The policy point: every request passes `enter`."""

    def __init__(self, keys: Keys, limits: Limits, clients: Clients, audit: Audit, clock: Clock,
                 cache_s: float = 30.0) -> None:
        self._keys = keys
        self._limits = limits
        self._clients = clients
        self._audit = audit
        self._clock = clock
        self._cache_s = cache_s
        self._known: dict[str, _Known] = {}

    async def enter(self, authorization: str | None, scope: Scope) -> Caller:
        """Who asks, if they may.

        Raises Refused (no valid key; a scope is lacking), Busy (too often), Unavailable (a key never seen before
        while the database is away).
        """
        key_id, secret = parse_bearer(authorization)
        caller = recognise(await self._record(key_id), secret)
        require(caller, scope)
        now = self._clock.monotonic()
        self._clients.enter(key_id, now)
        self._limits.take(key_id, now)
        return caller

    def throttle(self, key_id: str, rate_per_s: float, for_s: float, since: datetime) -> str:
        """Let the key make so many requests a second for `for_s` from `since` on; what came of it."""
        left_s = for_s - (self._clock.now() - since).total_seconds()
        if left_s <= 0:
            return f"the time in which {key_id} was throttled is over"
        self._clients.throttle(key_id, rate_per_s, self._clock.monotonic() + left_s)
        return f"{key_id} may make {rate_per_s:g} requests a second here for {left_s:.0f} s"

    def release(self, key_id: str) -> str:
        """End its throttle; what came of it."""
        return f"{key_id} is throttled no more" if self._clients.release(key_id) else f"{key_id} was not throttled"

    async def _record(self, key_id: str) -> KeyRecord | None:
        known = self._known.get(key_id)
        now = self._clock.monotonic()
        if known is not None:
            good_for_s = self._cache_s if known.record is not None else min(self._cache_s, UNKNOWN_S)
            if now - known.read_at < good_for_s:
                return known.record
        try:
            record: KeyRecord | None = KeyRecord.from_document(await self._keys.get(key_id))
        except Missing:
            record = None
        except Unavailable:
            if known is None or known.record is None:
                raise
            # The database is away: what was known good stays good, so that data and predictions keep flowing.
            return known.record
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key_id] = _Known(record, now)
        return record

    async def create(self, caller: Caller, scopes: Sequence[Scope], description: str) -> dict[str, Any]:
        """A new key. Its secret exists only in this answer."""
        key_id, secret, record = new_key(scopes, description)
        await self._audit.record(caller.key_id, "key.create", key_id, ",".join(record.scopes))
        document = self._document(record, caller.key_id)
        await self._keys.create(document)
        return {**_shown(document), "key": f"{key_id}.{secret}"}

    async def list(self) -> list[dict[str, Any]]:
        """Every key, without anything that would let one use it."""
        return [_shown(document) for document in await self._keys.list()]

    async def revoke(self, caller: Caller, key_id: str) -> None:
        """Take effect at once here, and within the cache time in other processes. Raises Missing, Refused."""
        if key_id == caller.key_id:
            raise Refused("a key cannot revoke itself", field="key_id", remedy="revoke it with another admin key")
        await self._keys.get(key_id)
        await self._audit.record(caller.key_id, "key.revoke", key_id)
        await self._keys.revoke(key_id)
        self._known.pop(key_id, None)

    async def bootstrap(self, file: Path) -> bool:
        """Make the first admin key and write it to `file`, if no key exists; True when this process made it.

        The secret is on disk, as a draft, before its record is in the database: a process killed in between leaves
        a draft, which the next start puts in place if its record made it, and never a key that nobody knows.
        """
        if await self._keys.any():
            await self._finish_draft(file)
            return False
        key_id, secret, record = new_key([Scope.ADMIN], "made at first start")
        draft = file.with_name(f".{file.name}.{key_id}")
        _write_secret(draft, f"{key_id}.{secret}\n")
        if not await self._keys.create_first(self._document(record, "bootstrap")):
            draft.unlink()
            if not await self._keys.any():
                log.warning("every API key is revoked and a first one was made before: nobody can come in",
                            extra={"remedy": "remove the document `first` from the collection `first_key`"})
            return False
        draft.replace(file)
        log.info("made the first admin key %s", key_id, extra={"file": str(file)})
        return True

    async def _finish_draft(self, file: Path) -> None:
        known = {document["key_id"] for document in await self._keys.list()}
        for draft in file.parent.glob(f".{file.name}.*"):
            if draft.name.removeprefix(f".{file.name}.") in known:
                draft.replace(file)

    def _document(self, record: KeyRecord, by: str) -> dict[str, Any]:
        return {**record.to_document(), "created_by": by, "created_at": self._clock.now().isoformat()}


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    shown = ("key_id", "scopes", "description", "revoked", "created_by", "created_at")
    return {name: document.get(name) for name in shown}


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Created closed: a later chmod would leave a moment in which anyone could read it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
