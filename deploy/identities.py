"""Makes the identities of an installation: a private key a service that signs, its public key among the trusted ones.

    python -m deploy.identities KEYS_DIR TRUST_DIR
"""

import sys
from datetime import timedelta
from pathlib import Path

from lepton.clock import Clock, SystemClock
from lepton.contracts.signing import Identity, TrustedKey
from lepton.errors import LeptonError

SIGNERS = {"trainer": "trainer", "watchdog": "watchdog", "operator": "operator"}
"""Identity name -> the role it is trusted for."""

VALID_DAYS = 3650


def ensure(keys_dir: Path, trust_dir: Path, clock: Clock) -> list[str]:
    """Create what is absent, return the names created. An identity that exists keeps its key and its trust file.

    Raises Invalid when an existing file holds no key.
    """
    created = []
    for name, role in SIGNERS.items():
        path = keys_dir / f"{name}.json"
        if path.exists():
            identity = Identity.load(path)
        else:
            identity = Identity.create(keys_dir, name)
            created.append(name)
        if not (trust_dir / f"{name}.json").exists():
            now = clock.now()
            TrustedKey(identity.key_id, identity.public_bytes(), frozenset({role}), now - timedelta(minutes=5),
                       now + timedelta(days=VALID_DAYS)).write(trust_dir)
    return created


def main() -> int:
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m deploy.identities KEYS_DIR TRUST_DIR\n")
        return 2
    try:
        created = ensure(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock())
    except LeptonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"identities created: {', '.join(created) or 'none, all were there'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
