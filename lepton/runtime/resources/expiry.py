"""How many days what a process trusts still holds: signing keys by the role they act in, and the brokers' authority."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from lepton.contracts import names
from lepton.contracts.signing import TrustStore
from lepton.errors import LeptonError
from lepton.runtime.resources.reading import Reading

LOOK_EVERY_S: Final = 600.0
"""Files are read no more often; they change when a person changes them."""
_DAY_S: Final = 86_400.0

log = logging.getLogger(__name__)


class Expiry:
    """Of several keys of a role, or certificates of a file, the one that holds longest counts: the others are old."""

    def __init__(self, trust_dir: Path, ca_file: str) -> None:
        self._trust_dir = trust_dir
        self._ca_file = Path(ca_file) if ca_file else None
        self._ends: dict[str, datetime] = {}
        self._read_at: float | None = None

    def read(self, now: float, wall: datetime) -> Iterator[Reading]:
        """Days left of each at `wall`; below 0 it has expired. `now`: monotonic seconds."""
        if self._read_at is None or now - self._read_at >= LOOK_EVERY_S:
            self._read_at = now
            self._ends = self._look()
        for name, end in self._ends.items():
            yield names.CERTIFICATE_DAYS, (end - wall).total_seconds() / _DAY_S, {"certificate": name}

    def _look(self) -> dict[str, datetime]:
        ends: dict[str, datetime] = {}
        try:
            if self._trust_dir.is_dir():
                ends |= {f"signing-key/{role}": end for role, end in TrustStore.load(self._trust_dir).ends().items()}
            if self._ca_file is not None:
                ends["kafka-authority"] = max(
                    one.not_valid_after_utc for one in x509.load_pem_x509_certificates(self._ca_file.read_bytes()))
        except (LeptonError, OSError, ValueError) as failure:
            # Whoever needs the file fails by it; a heartbeat goes out without what it would have said.
            log.warning("how long keys and certificates hold is not known: %s", failure)
        return {name: end.astimezone(UTC) for name, end in sorted(ends.items())}
