"""A recovery command is carried out only when it is trusted, in time, and under the newest lease."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lepton.contracts.admission import LONGEST, Admission
from lepton.contracts.pb.recovery_pb2 import RecoveryCommand, RecoveryResult
from lepton.contracts.signing import Identity, TrustedKey, TrustStore, sign_message
from lepton.errors import Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Identity]:
    return {name: Identity.create(tmp_path, name) for name in ("watchdog", "operator", "trainer", "stranger")}


@pytest.fixture
def admission(keys: dict[str, Identity]) -> Admission:
    return Admission(TrustStore({name: TrustedKey(name, keys[name].public_bytes(), frozenset({name}),
                                                  NOW - timedelta(days=1), NOW + timedelta(days=1))
                                 for name in ("watchdog", "operator", "trainer")}))


def signed(identity: Identity, *, issued_s: float = 0, valid_s: float = 60, fence: int = 0,
           command_id: str = "c1") -> RecoveryCommand:
    command = RecoveryCommand(command_id=command_id, target="model:m", fence=fence)
    command.issued_at.FromDatetime(NOW + timedelta(seconds=issued_s))
    command.expires_at.FromDatetime(NOW + timedelta(seconds=issued_s + valid_s))
    sign_message(identity, command)
    return command


def test_a_watchdog_and_an_operator_may_issue(admission: Admission, keys: dict[str, Identity]) -> None:
    assert admission.check_signer(signed(keys["watchdog"]), NOW) == "watchdog"
    assert admission.check_signer(signed(keys["operator"]), NOW) == "operator"


@pytest.mark.parametrize(("name", "why"), [("trainer", "may not act"), ("stranger", "not trusted")])
def test_nobody_else_may(admission: Admission, keys: dict[str, Identity], name: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        admission.check_signer(signed(keys[name]), NOW)


def test_a_changed_command_is_refused(admission: Admission, keys: dict[str, Identity]) -> None:
    command = signed(keys["watchdog"])
    command.target = "model:other"
    with pytest.raises(Refused, match="signature does not hold"):
        admission.check_signer(command, NOW)


@pytest.mark.parametrize(("issued_s", "valid_s", "why"), [
    (-120, 60, "expired 60.0 s ago"), (60, 60, "from the future"), (0, LONGEST.total_seconds() + 1, "longer than")])
def test_a_command_counts_only_in_its_time(admission: Admission, keys: dict[str, Identity], issued_s: float,
                                           valid_s: float, why: str) -> None:
    with pytest.raises(Refused, match=why):
        admission.admit(signed(keys["watchdog"], issued_s=issued_s, valid_s=valid_s), "watchdog", NOW)
    # Clocks of two machines may differ a little.
    admission.admit(signed(keys["watchdog"], issued_s=4), "watchdog", NOW)
    admission.admit(signed(keys["watchdog"], issued_s=-64), "watchdog", NOW)


def test_a_watchdog_that_lost_its_lease_is_refused(admission: Admission, keys: dict[str, Identity]) -> None:
    admission.admit(signed(keys["watchdog"], fence=4), "watchdog", NOW)
    admission.admit(signed(keys["watchdog"], fence=4), "watchdog", NOW)
    with pytest.raises(Refused, match="lease 3 is older than 4"):
        admission.admit(signed(keys["watchdog"], fence=3), "watchdog", NOW)
    admission.admit(signed(keys["operator"]), "operator", NOW)


def test_a_used_id_is_known_until_it_expires(admission: Admission, keys: dict[str, Identity]) -> None:
    command, result = signed(keys["watchdog"]), RecoveryResult(command_id="c1", evidence="done")
    assert admission.done_before(command) == (False, None)
    admission.keep(command, result, NOW)
    assert admission.done_before(command) == (True, result)
    with pytest.raises(Refused, match="another command had this id"):
        admission.done_before(signed(keys["operator"], valid_s=30))
    admission.keep(signed(keys["watchdog"], command_id="c2", issued_s=70), None, NOW + timedelta(seconds=70))
    assert admission.done_before(command) == (False, None)
