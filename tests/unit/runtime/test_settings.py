from typing import ClassVar

import pytest
from pydantic import Field

from lepton.runtime.settings import LeptonSettings, load, variables


class KilnSettings(LeptonSettings):
    service: ClassVar[str] = "kiln"

    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the kiln."""

    colours: tuple[str, ...] = ("red",)
    """Colours it may glow in."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    for name in os.environ:
        if name.startswith("LEPTON_"):
            monkeypatch.delenv(name)


def test_without_an_environment_defaults_fit_a_laptop() -> None:
    settings = load(KilnSettings)
    assert (settings.instance, settings.host, settings.port) == ("kiln", "127.0.0.1", 8080)
    assert settings.broker_options().client_id == "kiln"


def test_shared_fields_have_the_shared_prefix_and_own_fields_the_service_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_INSTANCE", "kiln-3")
    monkeypatch.setenv("LEPTON_KILN_PORT", "9000")
    monkeypatch.setenv("LEPTON_KILN_COLOURS", '["white", "blue"]')
    monkeypatch.setenv("LEPTON_GATEWAY_PORT", "1")
    settings = load(KilnSettings)
    assert (settings.instance, settings.port, settings.colours) == ("kiln-3", 9000, ("white", "blue"))


def test_a_shared_field_given_for_one_service_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_ADMIN_PORT", "1000")
    monkeypatch.setenv("LEPTON_KILN_ADMIN_PORT", "2000")
    assert load(KilnSettings).admin_port == 2000
    assert variables(KilnSettings, "admin_port") == ("LEPTON_KILN_ADMIN_PORT", "LEPTON_ADMIN_PORT")


def test_a_list_that_is_no_json_is_a_problem_like_others(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEPTON_KILN_COLOURS", "white, blue")
    with pytest.raises(SystemExit):
        load(KilnSettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kiln: LEPTON_KILN_COLOURS: Input should be a valid tuple; remedy: ")


def test_every_problem_is_named_with_its_remedy_and_the_exit_code_is_2(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEPTON_KILN_PORT", "high")
    monkeypatch.setenv("LEPTON_TRACE_RATIO", "7")
    monkeypatch.setenv("LEPTON_KILN_PROT", "1")
    with pytest.raises(SystemExit) as stopped:
        load(KilnSettings)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert any("LEPTON_KILN_PORT" in line and "Port of the kiln" in line and "remedy" in line for line in lines)
    assert any("LEPTON_TRACE_RATIO" in line and "less than or equal to 1" in line for line in lines)
    assert any("LEPTON_KILN_PROT: no such setting; remedy: did you mean LEPTON_KILN_PORT?" in line for line in lines)


def test_a_secret_never_appears_in_a_problem(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEPTON_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("LEPTON_KAFKA_SECURITY", "SASL_SSL")
    with pytest.raises(SystemExit):
        load(KilnSettings)
    shown = capsys.readouterr().err
    assert "LEPTON_KAFKA_USERNAME" in shown
    assert "hunter2" not in shown
    monkeypatch.setenv("LEPTON_KAFKA_USERNAME", "kiln")
    assert "hunter2" not in repr(load(KilnSettings)) + repr(load(KilnSettings).broker_options())
