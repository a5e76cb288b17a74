"""What is there is not overwritten, and files of a backup go where they belong and nowhere else."""

from pathlib import Path

import pytest

from deploy.backup import files, verbs
from deploy.backup.archive import parts
from deploy.backup.archive.secret import Secret
from deploy.backup.settings import BackupSettings
from deploy.backup.site import files_of
from lepton.contracts.signing import Identity, TrustedKey
from lepton.errors import Invalid, Refused
from tests.unit.backup.conftest import Write
from tests.unit.backup.test_folder import NOON


def test_a_home_that_holds_a_stack_is_refused_unless_it_is_named(write: Write, secret: Secret, tmp_path: Path) -> None:
    path = write({})
    backup = verbs.Checked(path, secret, parts.check(path, secret))
    home = tmp_path / "shop"
    (home / "kafka").mkdir(parents=True)
    for name in ("", "shot", str(home)):
        with pytest.raises(Refused, match=r"the stack shop is not empty: it has kafka.*--replace shop"):
            verbs.restore(home, backup, BackupSettings(), replace=name)
    assert [path.name for path in home.iterdir()] == ["kafka"]


def test_keys_come_back_readable_by_their_owner_alone(write: Write, secret: Secret, tmp_path: Path) -> None:
    path = write({"files/keys/trainer.json": [b"private"], "files/trust/trainer.json": [b"public"],
                  "files/admin-key": [b"k"], "database/runs": [b"no file"]})
    home = tmp_path / "home"
    assert files.write(path, secret, files_of(home)) == ["keys/trainer.json", "trust/trainer.json", "admin-key"]
    assert (home / "keys" / "trainer.json").read_bytes() == b"private"
    assert all((home / name).stat().st_mode & 0o077 == 0 for name in ("keys/trainer.json", "admin-key"))


@pytest.mark.parametrize("name", ["files/keys/../../x", "files/other/x", "files//etc/x", "files/keys/a/b"])
def test_a_file_that_leads_elsewhere_is_refused(name: str, write: Write, secret: Secret, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="belongs nowhere"):
        files.write(write({name: [b"x"]}), secret, files_of(tmp_path / "home"))


def test_a_backup_signed_by_nobody_who_is_trusted_is_refused(
        write: Write, secret: Secret, identity: Identity, tmp_path: Path) -> None:
    path, trust = write({}), tmp_path / "trust"
    key = TrustedKey(identity.key_id, identity.public_bytes(), frozenset({"operator"}), NOON.replace(year=2025),
                     NOON.replace(year=2027))
    key.write(trust)
    assert verbs.check(path, secret, trust).manifest.signer == "operator"
    other = Identity.create(tmp_path / "others", "operator")
    TrustedKey("operator", other.public_bytes(), key.roles, key.not_before, key.not_after).write(trust)
    with pytest.raises(Refused, match="signature does not hold"):
        verbs.check(path, secret, trust)
