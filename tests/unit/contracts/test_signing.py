"""A signature holds for one message, by one trusted key, in one role, for a while."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lepton.contracts.pb.models_pb2 import VERSION_STATUS_ROLLED_BACK, ModelManifest, ModelState, ModelVersion
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand
from lepton.contracts.signing import (
    Identity,
    Role,
    TrustedKey,
    TrustStore,
    sign_manifest,
    sign_message,
    verify_manifest,
    verify_message,
)
from lepton.errors import Invalid, LeptonError, Missing, Refused

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def trusted(identity: Identity, *roles: Role, **changes: object) -> TrustedKey:
    values: dict[str, object] = {"not_before": NOW - DAY, "not_after": NOW + DAY, "revoked": False} | changes
    return TrustedKey(identity.key_id, identity.public_bytes(), frozenset(roles), **values)  # type: ignore[arg-type]


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.create(tmp_path / "keys", "watchdog")


@pytest.fixture
def command(identity: Identity) -> RecoveryCommand:
    message = RecoveryCommand(command_id="1", target="model:a", arguments={"b": "1", "a": "2"})
    sign_message(identity, message)
    return message


def store(*keys: TrustedKey) -> TrustStore:
    return TrustStore({key.key_id: key for key in keys})


def test_a_signed_message_is_accepted_in_the_role_of_its_key(identity: Identity, command: RecoveryCommand) -> None:
    assert command.key_id == "watchdog"
    verify_message(store(trusted(identity, "watchdog")), "watchdog", command, NOW)


def test_changing_anything_breaks_the_signature(identity: Identity, command: RecoveryCommand) -> None:
    trust = store(trusted(identity, "watchdog"))
    for change in (RecoveryCommand(target="model:b"), RecoveryCommand(fence=2), RecoveryCommand(cause="x")):
        changed = RecoveryCommand()
        changed.CopyFrom(command)
        changed.MergeFrom(change)
        with pytest.raises(Refused, match="does not hold"):
            verify_message(trust, "watchdog", changed, NOW)


def test_unknown_revoked_expired_and_misused_keys_are_refused(identity: Identity, command: RecoveryCommand) -> None:
    for trust, reason in [
        (store(), "not trusted"),
        (store(trusted(identity, "watchdog", revoked=True)), "revoked"),
        (store(trusted(identity, "trainer", "operator")), "may not act as watchdog"),
        (store(trusted(identity, "watchdog", not_after=NOW)), "not valid at this time"),
        (store(trusted(identity, "watchdog", not_before=NOW + DAY)), "not valid at this time"),
    ]:
        with pytest.raises(Refused, match=reason):
            verify_message(trust, "watchdog", command, NOW)


def test_another_key_under_the_same_name_is_refused(tmp_path: Path, command: RecoveryCommand) -> None:
    other = Identity.create(tmp_path / "other", "watchdog")
    with pytest.raises(Refused, match="does not hold"):
        verify_message(store(trusted(other, "watchdog")), "watchdog", command, NOW)


def test_states_are_signed_like_commands(identity: Identity) -> None:
    state = ModelState(model="a", revision=3)
    sign_message(identity, state)
    verify_message(store(trusted(identity, "trainer")), "trainer", state, NOW)


def test_a_manifest_signature_outlives_a_change_of_status(identity: Identity) -> None:
    version = ModelVersion(model="a", version=2, manifest=ModelManifest(model="a", version=2, sha256="x"))
    sign_manifest(identity, version)
    version.status = VERSION_STATUS_ROLLED_BACK
    trust = store(trusted(identity, "trainer"))
    verify_manifest(trust, version, NOW)
    version.manifest.sha256 = "y"
    with pytest.raises(Refused, match="does not hold"):
        verify_manifest(trust, version, NOW)


def test_a_manifest_of_another_version_is_refused(identity: Identity) -> None:
    version = ModelVersion(model="a", version=3, manifest=ModelManifest(model="a", version=2))
    sign_manifest(identity, version)
    with pytest.raises(Refused, match="another model version"):
        verify_manifest(store(trusted(identity, "trainer")), version, NOW)


def test_an_identity_is_a_private_file_that_is_never_overwritten(tmp_path: Path, identity: Identity) -> None:
    path = tmp_path / "keys" / "watchdog.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load(path).public_bytes() == identity.public_bytes()
    assert "private" not in repr(identity)
    with pytest.raises(Refused, match="exists"):
        Identity.create(tmp_path / "keys", "watchdog")
    with pytest.raises(Invalid, match="key id"):
        Identity.create(tmp_path / "keys", "../x")


@pytest.mark.parametrize(("content", "error"), [
    (None, Missing), ("{", Invalid), ("[]", Invalid), ('{"key_id": "a", "private_key": "AAAA"}', Invalid),
    ('{"key_id": "a", "private_key": "%%"}', Invalid),
])
def test_a_file_without_a_private_key_is_named_but_not_shown(
        tmp_path: Path, content: str | None, error: type[LeptonError]) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error) as caught:
        Identity.load(path)
    assert caught.value.place == str(path)
    assert "AAAA" not in str(caught.value)


def test_trusted_keys_are_read_from_their_folder(tmp_path: Path, identity: Identity, command: RecoveryCommand) -> None:
    trusted(identity, "watchdog").write(tmp_path / "trust")
    verify_message(TrustStore.load(tmp_path / "trust"), "watchdog", command, NOW)
    with pytest.raises(Missing, match="folder"):
        TrustStore.load(tmp_path / "nowhere")


@pytest.mark.parametrize(("change", "field"), [
    ({"extra": 1}, "extra"), ({"key_id": "other"}, "key_id"), ({"key_id": "A B"}, "key_id"),
    ({"public_key": "AAAA"}, "public_key"), ({"public_key": "%"}, "public_key"), ({"roles": []}, "roles"),
    ({"roles": ["root"]}, "roles"), ({"roles": "watchdog"}, "roles"), ({"revoked": "no"}, "revoked"),
    ({"not_after": "soon"}, "not_after"), ({"not_before": None}, "not_before"),
])
def test_a_damaged_trusted_key_stops_the_load(
        tmp_path: Path, identity: Identity, change: dict[str, object], field: str) -> None:
    data = json.loads(trusted(identity, "watchdog").to_json()) | change
    (tmp_path / "watchdog.json").write_text(json.dumps(data))
    with pytest.raises(Invalid) as caught:
        TrustStore.load(tmp_path)
    assert caught.value.field == field


def test_a_time_without_zone_is_read_as_utc(tmp_path: Path, identity: Identity, command: RecoveryCommand) -> None:
    data = json.loads(trusted(identity, "watchdog").to_json()) | {"not_before": "2026-05-01T00:00:00"}
    (tmp_path / "watchdog.json").write_text(json.dumps(data))
    verify_message(TrustStore.load(tmp_path), "watchdog", command, NOW)
