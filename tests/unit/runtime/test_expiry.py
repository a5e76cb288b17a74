"""Heartbeats tell for how long what a process trusts still holds."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from lepton.contracts.signing import Identity, TrustedKey
from lepton.runtime.resources.expiry import LOOK_EVERY_S, Expiry

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def trust(folder: Path, name: str, role: str, days: float, *, revoked: bool = False) -> None:
    identity = Identity(name, Ed25519PrivateKey.generate())
    TrustedKey(name, identity.public_bytes(), frozenset({role}), NOW - timedelta(days=400), NOW + timedelta(days=days),
               revoked).write(folder)


def certificate(days: float) -> bytes:
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "brokers")])
    return x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), NOW - timedelta(days=400),
        NOW + timedelta(days=days)).sign(key, None).public_bytes(Encoding.PEM)


def told(expiry: Expiry, now: float) -> dict[str, float]:
    return {attributes["certificate"]: round(days, 3) for _, days, attributes in expiry.read(now, NOW)}


def test_the_key_and_the_certificate_that_hold_longest_count(tmp_path: Path) -> None:
    for name, days in (("trainer", -3.0), ("trainer-2", 30.0)):
        trust(tmp_path / "trust", name, "trainer", days)
    trust(tmp_path / "trust", "watchdog", "watchdog", -1.5)
    trust(tmp_path / "trust", "watchdog-stolen", "watchdog", 900, revoked=True)
    (tmp_path / "ca.pem").write_bytes(certificate(2) + certificate(12.25))
    expiry = Expiry(tmp_path / "trust", str(tmp_path / "ca.pem"))
    assert told(expiry, 0.0) == {"kafka-authority": 12.25, "signing-key/trainer": 30.0, "signing-key/watchdog": -1.5}
    trust(tmp_path / "trust", "watchdog", "watchdog", 100)
    assert told(expiry, LOOK_EVERY_S - 1)["signing-key/watchdog"] == -1.5
    assert told(expiry, LOOK_EVERY_S)["signing-key/watchdog"] == 100


def test_what_cannot_be_read_is_said_in_the_log_and_stops_no_heartbeat(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert told(Expiry(tmp_path / "none", ""), 0.0) == {}
    trust(tmp_path / "trust", "trainer", "trainer", 30)
    (tmp_path / "ca.pem").write_text("no certificate")
    with caplog.at_level(logging.WARNING):
        assert told(Expiry(tmp_path / "trust", str(tmp_path / "ca.pem")), 0.0) == {"signing-key/trainer": 30.0}
    assert "is not known" in caplog.text
