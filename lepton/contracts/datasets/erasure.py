"""How a person is remembered as erased without being named: keyed hashes of entities and of their events' ids."""

import hashlib
import hmac

SALT_BYTES = 32
EVENT_KEY_BYTES = 8


def entity_key(salt: bytes, entity: str) -> str:
    """HMAC-SHA256 of the entity under its pipeline's salt (RFC 2104), lower-case hex."""
    return hmac.new(salt, b"entity:" + entity.encode(), hashlib.sha256).hexdigest()


def event_key(salt: bytes, event_id: str) -> bytes:
    """The first 64 bits of the HMAC-SHA256 of an event id: enough to know a late label of an erased event by."""
    return hmac.new(salt, b"event:" + event_id.encode(), hashlib.sha256).digest()[:EVENT_KEY_BYTES]
