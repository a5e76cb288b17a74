"""The shape of the tree: import rules, five services alike, topics whose parties are real, sizes, generated pages."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton import errors
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from tools import envexample

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "ingest", "trainer", "predictor", "watchdog")
OUTCOMES = (errors.Invalid, errors.Missing, errors.Refused, errors.Busy, errors.Unavailable)
# `lepton.bus.presence.announce` writes these for whoever calls it.
BY_ANNOUNCING = frozenset({Topic.TELEMETRY, Topic.INSTANCES})


def test_the_import_rules_hold() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_holds_the_rooms_all_five_have(service: str) -> None:
    folder = ROOT / "services" / service
    names = {path.name.removesuffix(".py") for path in folder.iterdir() if path.name != "__pycache__"}
    # torch elastic starts the trainer's worker by its module name. The wire is the predictor's native door, in Rust;
    # offline is its other assembly, around one exported version.
    optional = {"trainer": {"worker"}, "predictor": {"wire", "offline"}}.get(service, set())
    assert names - optional == {"README.md", "__init__", "__main__", "app", "settings", "flow", "edge", "core"}
    edge = {path.name.removesuffix(".py") for path in (folder / "edge").iterdir()}
    assert {"errors", "recovery"} <= edge


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_in_a_docstring_what_it_reads_and_writes_and_nothing_else(service: str) -> None:
    tree = ast.parse((ROOT / "services" / service / "__init__.py").read_text())
    assert len(tree.body) == 1
    said = ast.get_docstring(tree) or ""
    assert "Reads: " in said and "Writes: " in said


@pytest.mark.parametrize("service", SERVICES)
def test_every_outcome_has_a_row_in_every_errors_table(service: str) -> None:
    module = importlib.import_module(f"services.{service}.edge.errors")
    tables = [{row[0] if isinstance(row, tuple) else row for row in value} for name, value in vars(module).items()
              if name.isupper() and isinstance(value, dict | tuple) and value and _is_about_outcomes(value)]
    assert any(set(OUTCOMES) <= table for table in tables), f"no table of {module.__name__} covers every outcome"


def _is_about_outcomes(table: object) -> bool:
    first = next(iter(table)) if isinstance(table, dict | tuple) else None
    kind = first[0] if isinstance(first, tuple) else first
    return isinstance(kind, type) and issubclass(kind, Exception)


def _folder(party: str) -> Path:
    return ROOT / "deploy" / "actuator" if party == "actuator" else ROOT / "services" / party


def _mentions(party: str) -> set[Topic]:
    """Topics a party's code names, those it writes by announcing itself, and that whose reader is lepton's."""
    found: set[Topic] = set()
    for path in _folder(party).rglob("*.py"):
        text = path.read_text("utf-8")
        if "lepton.bus.presence import" in text:
            found |= BY_ANNOUNCING
        if "lepton.bus.commands.log import" in text:
            found.add(Topic.RECOVERY_COMMANDS)
        if "lepton.bus.commands.auditing import" in text:
            found.add(Topic.AUDIT)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Topic":
                found.add(Topic[node.attr])
    return found


def _parties() -> Iterator[tuple[Topic, str, str]]:
    for topic in Topic:
        for role in ("producers", "consumers"):
            for party in getattr(topics.spec(topic), role):
                if party != "anyone":
                    yield topic, role, party


@pytest.mark.parametrize("party", [*SERVICES, "actuator"])
def test_who_a_topic_names_as_party_has_code_that_names_the_topic(party: str) -> None:
    named = _mentions(party)
    absent = sorted({f"{topic} ({role})" for topic, role, one in _parties() if one == party and topic not in named})
    assert not absent, f"{party} never names {absent}"


def test_every_topic_is_read_or_says_why_it_is_kept() -> None:
    unread = {topic for topic in Topic if not topics.spec(topic).consumers}
    assert unread == {Topic.WATCHDOG_JOURNAL}, "this is kept for replaying an incident"


def test_sizes_stay_within_the_budget() -> None:
    # In a process of its own: CPython before 3.11.9 miscounts the depth of syntax trees when others are made meanwhile.
    done = subprocess.run([sys.executable, "-m", "tools.budget"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_environment_is_what_the_settings_say() -> None:
    assert envexample.TARGET.read_text("utf-8") == envexample.render(), "run `python -m tools.envexample`"
