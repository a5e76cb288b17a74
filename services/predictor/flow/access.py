"""Who a caller is, by API key: looked up once, then remembered, and kept while the database is away."""

from lepton.clock import Clock
from lepton.contracts.apikeys import KeyRecord, Scope, matches, parse_bearer
from lepton.errors import Missing, Refused
from lepton.store.keys import Keys
from services.predictor.core.keyring import Keyring


class Access:
    """Keys as the store has them, at most `keep_s` of the keyring ago while the database answers."""

    def __init__(self, keys: Keys, keyring: Keyring, clock: Clock) -> None:
        self._keys = keys
        self._keyring = keyring
        self._clock = clock

    def recall(self, header: str) -> KeyRecord | None:
        """The key of a header that was identified before, without asking the database."""
        return self._keyring.recall(header, self._clock.monotonic())

    @property
    def revision(self) -> int:
        """Another one whenever `admitted` may say something else."""
        return self._keyring.revision

    def admitted(self, scope: Scope) -> list[bytes]:
        """SHA-256 of each header that was identified and may be used for `scope`."""
        return [fingerprint for fingerprint, record in self._keyring.entries() if record.allows(scope)]

    def used(self, fingerprint: bytes) -> None:
        """A header of `admitted` came by another way than `recall`."""
        self._keyring.used(fingerprint, self._clock.monotonic())

    async def identify(self, header: str | None) -> KeyRecord:
        """Raises Refused for a missing, malformed, unknown, wrong or revoked key; Unavailable when a key not seen
        before cannot be looked up."""
        key_id, secret = parse_bearer(header)
        now = self._clock.monotonic()
        if self._keyring.is_unknown(key_id, now):
            raise _unknown()
        # Wrong secrets for a key that is known must not become load on the database.
        record = self._keyring.known(key_id)
        if record is None:
            try:
                record = KeyRecord.from_document(await self._keys.get(key_id))
            except Missing:
                self._keyring.remember_unknown(key_id, now)
                raise _unknown() from None
        if not matches(record, secret):
            raise _unknown()
        self._keyring.remember(header or "", record, now)
        return record

    async def renew(self) -> None:
        """Look remembered keys up again; one that was revoked or deleted is good no more.

        Raises Unavailable when the database is away: all that were good stay so.
        """
        for key_id in self._keyring.due(self._clock.monotonic()):
            try:
                record: KeyRecord | None = KeyRecord.from_document(await self._keys.get(key_id))
            except Missing:
                record = None
            self._keyring.renew(key_id, record, self._clock.monotonic())


def _unknown() -> Refused:
    # The same answer for an unknown id, a wrong secret and a revoked key: nobody learns which ids exist.
    return Refused("this API key is not known", field="authorization",
                   remedy="check key id and secret, or have a new key made")
