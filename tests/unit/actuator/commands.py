"""Signed recovery commands for the actuator's tests."""

from datetime import datetime, timedelta
from pathlib import Path

from lepton.contracts.pb import recovery_pb2
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message


def issuer(directory: Path, name: str, role: str, now: datetime) -> Identity:
    """A new identity, trusted in `role` from a minute before `now` for a day."""
    identity = Identity.create(directory / "keys", name)
    TrustedKey(identity.key_id, identity.public_bytes(), frozenset({role}), now - timedelta(minutes=1),
               now + timedelta(days=1)).write(directory / "trust")
    return identity


def trust(directory: Path) -> TrustStore:
    return TrustStore.load(directory / "trust")


def command(identity: Identity, now: datetime, *, command_id: str = "c-1", target: str = "instance:predictor-0",
            action: recovery_pb2.RecoveryAction.ValueType = recovery_pb2.RECOVERY_ACTION_RESTART, fence: int = 1,
            expires_s: float = 30, **arguments: str) -> RecoveryCommand:
    """A command issued at `now`, with a signature that holds."""
    built = RecoveryCommand(command_id=command_id, action=action, target=target, arguments=arguments, cause="silence",
                            incident_id="i-1", issuer=identity.key_id, fence=fence)
    built.issued_at.FromDatetime(now)
    built.expires_at.FromDatetime(now + timedelta(seconds=expires_s))
    sign_message(identity, built)
    return built
