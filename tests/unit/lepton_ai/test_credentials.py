"""Where credentials come from, and what is never sent."""

from pathlib import Path

import pytest

from lepton.errors import Invalid, Missing
from lepton_ai._credentials import file_path, resolve

KEY, SECRET = "lk_0123456789abcdef", "x" * 43
FILE = f"""[default]
AWS_ACCESS_KEY_ID = {KEY}
AWS_SECRET_ACCESS_KEY = {SECRET}
REGION_NAME = local

[region local]
rest = http://127.0.0.1:8080
grpc = 127.0.0.1:8001

[region north]
rest = https://north.example/
"""
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "REGION_NAME")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = file_path(environment)
    path.parent.mkdir(parents=True)
    path.write_text(FILE, "utf-8")
    return environment


def test_names_lead_to_the_credentials_file(env: dict[str, str]) -> None:
    found = resolve(*NAMES, environment=env)
    assert (found.key_id, found.secret, found.rest, found.grpc) == (KEY, SECRET, "http://127.0.0.1:8080",
                                                                   "127.0.0.1:8001")
    assert found.authorization == f"Bearer {KEY}.{SECRET}"


def test_values_need_no_file(tmp_path: Path) -> None:
    found = resolve(KEY, SECRET, "http://127.0.0.1:1/", {"XDG_CONFIG_HOME": str(tmp_path)})
    assert (found.key_id, found.rest, found.grpc) == (KEY, "http://127.0.0.1:1", "")


def test_an_environment_variable_wins_over_the_file(env: dict[str, str]) -> None:
    other = "lk_" + "f" * 16
    assert resolve(*NAMES, environment={**env, "AWS_ACCESS_KEY_ID": other}).key_id == other
    assert resolve(*NAMES, environment={**env, "REGION_NAME": "north"}).rest == "https://north.example"


def test_real_aws_credentials_in_the_environment_are_not_sent(env: dict[str, str]) -> None:
    real = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "REGION_NAME": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE"}
    assert resolve(*NAMES, environment={**env, **real}) == resolve(*NAMES, environment=env)


def test_real_aws_credentials_alone_are_refused_unsaid(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        resolve(*NAMES, environment={"XDG_CONFIG_HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"})
    assert "AKIA" not in str(refused.value)


def test_a_name_that_leads_nowhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="make up"):
        resolve(*NAMES, environment={"HOME": str(tmp_path)})


def test_a_misspelt_secret_is_not_repeated(env: dict[str, str]) -> None:
    with pytest.raises(Missing) as refused:
        resolve(KEY, "almost-a-secret", "local", env)
    assert "almost" not in str(refused.value)


def test_an_unknown_region_is_named(env: dict[str, str]) -> None:
    with pytest.raises(Missing, match="'south'"):
        resolve(KEY, SECRET, "south", env)


@pytest.mark.parametrize(("right", "wrong", "what"), [
    (f"= {KEY}", "= AKIA", "key id in the credentials file"),
    ("rest = http://127.0.0.1:8080", "rest = there", "no gateway"),
    ("[default]", f"{SECRET}", "cannot be read"),
])
def test_a_broken_file_is_said_without_its_secrets(right: str, wrong: str, what: str, env: dict[str, str]) -> None:
    file_path(env).write_text(FILE.replace(right, wrong, 1), "utf-8")
    with pytest.raises(Invalid, match=what) as refused:
        resolve(*NAMES, environment=env)
    assert SECRET not in str(refused.value)


def test_the_secret_is_not_in_the_representation(env: dict[str, str]) -> None:
    assert SECRET not in repr(resolve(*NAMES, environment=env))
