"""The AsyncAPI document is fresh, whole, and valid by AsyncAPI's own schema."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lepton.contracts.topics import Topic, dead_letter_name, spec
from tools import asyncapi

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tools" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(asyncapi.DOCUMENT.read_text("utf-8"))
    return told


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def test_the_document_says_what_the_topic_files_say() -> None:
    assert asyncapi.DOCUMENT.read_text("utf-8") == asyncapi.render(), "run python -m tools.asyncapi"


def test_a_stale_document_is_reported(monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(asyncapi, "DOCUMENT", ROOT / "docs" / "no-such-document.yaml")
    assert asyncapi.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().out


def test_every_topic_and_its_dead_letters_are_channels(document: dict[str, Any]) -> None:
    wanted = {topic.stem for topic in Topic}
    wanted |= {dead_letter_name(topic.stem) for topic in Topic if spec(topic).dead_letter is not None}
    assert set(document["channels"]) == wanted


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_document_is_valid_by_asyncapis_schema(document: dict[str, Any]) -> None:
    if not SCHEMA.exists():
        installed = subprocess.run(["tools/buf.sh", "install"], cwd=ROOT, capture_output=True, text=True, check=True,
                                   timeout=150)
        if "Node is not installed" in installed.stderr:
            pytest.skip("not checked against AsyncAPI's schema: Node is not installed")
    schema = json.loads(SCHEMA.read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(document)] == []
    document_without_channel = {**document, "channels": {"x": {"adress": "lepton-models"}}}
    assert list(validator.iter_errors(document_without_channel))
