"""Starter models from the user's side: made once, served, tagged, and there again at the next call."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from lepton.errors import Invalid
from lepton_ai import LeptonClient
from lepton_ai.cli.app import app
from tests.unit.lepton_ai.doors import KEY_ID, SECRET, Desk, open_door


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def rest(desk: Desk) -> Iterator[str]:
    with open_door(desk) as credentials:
        yield credentials.rest


def test_a_starter_is_made_once_and_then_the_one_there_is(desk: Desk, rest: str) -> None:
    with LeptonClient(KEY_ID, SECRET, rest) as client:
        model = client.starter("wine")
        assert (model.name, model.version) == ("starter-wine", 1)
        assert len(desk.events["starter-wine"]) == 178
        cultivars = {event["cultivar"] for event in desk.events["starter-wine"].values()}
        assert cultivars == {"class_0", "class_1", "class_2"}
        assert desk.models["starter-wine"]["champion"] == 1
        assert desk.asked["POST /v1/models/starter-wine/versions/1/tags"] == 1
        assert client.starter("wine") == model
        assert len(desk.commands) == 1
        pupil = client.fine_tune(model, [{"alcohol": float(one), "cultivar": f"class_{one % 2}"} for one in range(20)],
                                 label="cultivar", own=True, transfer={"head": "replace"})
        assert pupil.name != "starter-wine"
        assert (desk.commands[1]["parent_model"], desk.commands[1]["parent_version"]) == ("starter-wine", 1)
        with pytest.raises(Invalid, match="no starter"):
            client.starter("iris")


def test_the_command_line_lists_starters_and_makes_one(desk: Desk, rest: str) -> None:
    where = ["--key", KEY_ID, "--secret", SECRET, "--region", rest, "models", "starter"]
    listed = CliRunner().invoke(app, where).stdout
    assert all(name in listed for name in ("breast-cancer", "wine", "diabetes", "digits"))
    assert not desk.commands
    made = CliRunner().invoke(app, [*where, "digits"])
    assert "model starter-digits version 1 (cnn" in made.stdout, made.output
    event = next(iter(desk.events["starter-digits"].values()))
    assert len(event["pixels"]) == 64
    assert isinstance(event["digit"], int)
