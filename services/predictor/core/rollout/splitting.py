"""Which version of a rollout answers an entity: always the same one, and ever more entities as the share grows."""

import hashlib
from collections.abc import Sequence

_RANGE = 2.0**64


def place(rollout: str, key: str) -> float:
    """Where a key stands in [0, 1), evenly spread; another rollout shuffles all anew.

    BLAKE2b, so that who chooses keys cannot choose their places.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=rollout.encode()[:64])
    return int.from_bytes(digest.digest(), "big") / _RANGE


def picked(rollout: str, keys: Sequence[str], share: float) -> list[bool]:
    """For each key, whether the candidate answers it; each different key is looked at once."""
    places = {key: place(rollout, key) < share for key in set(keys)}
    return [places[key] for key in keys]
