"""The credentials file: what `up` writes, what it leaves alone, who may read it."""

import stat
from pathlib import Path

import pytest

from deploy.local import credentials, ports
from deploy.local.ports import Stack
from lepton.contracts import apikeys
from lepton.errors import Invalid, Missing


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LEPTON_KAFKA_BOOTSTRAP", raising=False)
    return ports.create(tmp_path)


def new_key() -> credentials.Key:
    key_id, secret, _ = apikeys.new_key()
    return credentials.Key(key_id, secret)


def test_what_was_written_is_found_again(installation: Stack) -> None:
    key = new_key()
    assert credentials.stored() is None
    assert credentials.write(installation, key)
    assert credentials.stored() == key
    assert installation.grpc in credentials.path().read_text()


def test_only_the_owner_may_read_it(installation: Stack) -> None:
    credentials.write(installation, new_key())
    assert stat.S_IMODE(credentials.path().stat().st_mode) == 0o600


def test_writing_the_same_again_changes_nothing(installation: Stack) -> None:
    key = new_key()
    credentials.write(installation, key)
    assert not credentials.write(installation, key)


def test_what_the_user_put_there_stays(installation: Stack) -> None:
    credentials.path().parent.mkdir(parents=True)
    credentials.path().write_text("[default]\nOTHER = 50%\n[region far]\nrest = http://10.0.0.1\n")
    credentials.write(installation, new_key())
    kept = credentials.path().read_text()
    assert "OTHER = 50%" in kept
    assert "[region far]\nrest = http://10.0.0.1" in kept


def test_without_a_new_key_the_old_one_stays(installation: Stack) -> None:
    key = new_key()
    credentials.write(installation, key)
    credentials.write(installation, None)
    assert credentials.stored() == key


def test_the_key_the_gateway_made_is_read(installation: Stack) -> None:
    key = new_key()
    installation.bootstrap_file.write_text(f"{key.text}\n")
    assert credentials.from_bootstrap(installation) == key


def test_a_gateway_that_made_no_key_is_explained(installation: Stack) -> None:
    with pytest.raises(Missing, match="had keys before"):
        credentials.from_bootstrap(installation)


def test_a_damaged_file_is_named_and_not_quoted(installation: Stack) -> None:
    credentials.path().parent.mkdir(parents=True)
    credentials.path().write_text("hunter2 without a section")
    with pytest.raises(Invalid) as invalid:
        credentials.write(installation, new_key())
    assert str(credentials.path()) in str(invalid.value)
    assert "hunter2" not in str(invalid.value)


def test_a_key_does_not_show_in_a_traceback() -> None:
    assert "secret" not in repr(new_key())
