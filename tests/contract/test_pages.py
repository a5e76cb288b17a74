"""What the pages of models and examples print can be typed: programs, options, files, names, fields, waits."""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer

from lepton.contracts import pipeline
from lepton.contracts.pipeline import Pipeline
from lepton_ai._library.starters import STARTERS
from lepton_ai.cli.app import app
from tests.harness.pages import ROOT, commands

PAGES = sorted([*(ROOT / "docs/examples").glob("*.md"), *(ROOT / "docs/models").glob("*.md")])
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
LEPTON, PYTHON = ".venv/bin/lepton", ".venv/bin/python"
_SHELL = {"make", "curl", "eval", "unzip", ".venv/bin/tensorboard", "pip", "echo", "model_signing", "python"}
_MODEL = re.compile(r"/v1/models/([^/]+)")
_LINK = re.compile(r"\]\(([^)#]+)")


@pytest.fixture(scope="module")
def specs() -> dict[str, Pipeline]:
    """Every Pipeline that an example ships."""
    found = [pipeline.parse(path.read_text()) for path in (ROOT / "examples").glob("*/*.yaml")]
    return {one.metadata.name: one for one in found}


@lru_cache(maxsize=1)
def lepton() -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """The command line, whose commands only note that they were called, and with what."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def told(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for one, inner in command.commands.items():
                told(inner, f"{name} {one}".strip())
        else:
            command.callback = lambda **given: seen.append((name, given))
    whole = typer.main.get_command(app)
    told(whole, "")
    return whole, seen


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and what it would be called with. Raises what it says to wrong words."""
    whole, seen = lepton()
    whole.main(words[1:], standalone_mode=False)
    return seen[-1]


def named(words: list[str]) -> set[str]:
    """Pipelines, or their models, that a command speaks of."""
    if words[0] == "curl":
        return {found for word in words for found in _MODEL.findall(word)}
    if words[0] != LEPTON:
        return set()
    told = parsed(words)[1]
    which = str(told.get("which") or "").partition("@")[0]
    first = str(told.get("start") or "").partition(":")[0]
    name = told.get("name") if words[1:3] != ["models", "starter"] else None
    return {str(one) for one in (told.get("pipeline"), name, which, first) if one}


@PAGE
def test_each_command_is_of_a_program_that_is_there(page: Path) -> None:
    for words in commands(page):
        program = next(word for word in words if not re.match(r"[A-Z_]+=", word))
        assert program in {LEPTON, PYTHON} | _SHELL
        if program == PYTHON and words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None


@PAGE
def test_each_lepton_command_and_option_exists_and_its_files_too(page: Path, specs: dict[str, Pipeline]) -> None:
    for words in commands(page):
        if words[0] == LEPTON:
            name, told = parsed([word for word in words if not word.startswith(">")])
            if name == "apply":
                assert (ROOT / told["file"]).is_file()
        assert named(words) <= {*specs, *(f"starter-{name}" for name in STARTERS)}


@PAGE
def test_a_row_that_is_asked_about_has_fields_of_its_pipeline(page: Path, specs: dict[str, Pipeline]) -> None:
    for words in commands(page):
        if words[0] == LEPTON and words[1] == "predict":
            told = parsed(words)[1]
            rows = [json.loads(row) for row in told["rows"] if not row.startswith("$(")]
            assert {field for row in rows for field in row} <= set(specs[told["name"]].inputs)


@PAGE
def test_what_was_uploaded_is_waited_for_before_the_model_is_asked(page: Path) -> None:
    waits: set[str] = set()
    for words in commands(page):
        if words[0] == LEPTON and words[1:3] == ["models", "wait"]:
            waits -= named(words)
        elif words[0] == LEPTON and words[1] == "upload":
            waits |= named(words)
        else:
            assert not named(words) & waits


@PAGE
def test_key_and_address_are_set_before_they_are_used(page: Path) -> None:
    known = False
    for words in commands(page):
        known = known or words[0] == "eval"
        assert known or not any("$KEY" in word or "$REST" in word for word in words)


@PAGE
def test_each_link_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert all((page.parent / link).exists() for link in links)


def test_examples_beside_a_family_in_the_readme_are_of_that_family() -> None:
    shown: set[str] = set()
    for families, links in families_in_readme():
        for link in links:
            if (folder := ROOT / "examples" / Path(link).stem).is_dir():
                shipped = [pipeline.parse(path.read_text()).model for path in folder.glob("*.yaml")]
                found = families & {model.family for model in shipped if model}
                assert found, f"{link} is of none of {families}"
                shown |= found
    assert {"linear_regression", "cnn", "gru", "recommender", "q_learning", "auto", "torch_module"} <= shown


def families_in_readme() -> Iterator[tuple[set[str], list[str]]]:
    """Of each row of its table of families those it names, and where its examples lie."""
    table = (ROOT / "README.md").read_text("utf-8").partition("| family | for | example |\n")[2].partition("\n\n")[0]
    for row in table.splitlines()[1:]:
        named, _, links = row.strip("|").rsplit("|", 2)
        yield set(re.findall("`([a-z_]+)`", named)), _LINK.findall(links)


@PAGE
def test_a_second_pipeline_of_an_example_is_applied_on_its_page(page: Path) -> None:
    applied = {parsed(words)[1]["file"] for words in commands(page) if words[:2] == [LEPTON, "apply"]}
    others = {one for one in (ROOT / "examples" / page.stem).glob("*.yaml") if one.name != "pipeline.yaml"}
    assert others <= {ROOT / one for one in applied}


def test_readme_leads_to_every_page() -> None:
    links = set(_LINK.findall((ROOT / "README.md").read_text("utf-8")))
    assert {str(page.relative_to(ROOT)) for page in PAGES} <= links
