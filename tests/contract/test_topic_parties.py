"""Who writes and reads a topic, as its file says, is who really does."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from lepton.contracts.topics import Topic, spec

ROOT = Path(__file__).resolve().parents[2]
FOLDERS: Mapping[str, Path] = {
    **{name: ROOT / "services" / name for name in ("gateway", "ingest", "trainer", "predictor", "watchdog")},
    "actuator": ROOT / "deploy" / "actuator",
}
# What every service says of itself is written for it by lepton.
BY_LEPTON = (Topic.INSTANCES, Topic.TELEMETRY)
# What a service takes part in by what it has of lepton.
LEPTON_MODULES = {"lepton.bus.commands.log": Topic.RECOVERY_COMMANDS, "lepton.bus.commands.auditing": Topic.AUDIT}
# The gateway shows how far the predictor is behind on the features; it reads none.
MENTIONED_ONLY = {("gateway", Topic.FEATURES)}


def mentioned(service: str) -> set[Topic]:
    text = "".join(path.read_text("utf-8") for path in FOLDERS[service].rglob("*.py"))
    by_lepton = {topic for module, topic in LEPTON_MODULES.items() if f"{module} import" in text}
    return by_lepton | {Topic[name] for name in set(re.findall(r"\bTopic\.([A-Z_]+)\b", text))}


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_is_named_where_it_takes_part_and_nowhere_else(service: str) -> None:
    said = {topic for topic in Topic if service in (*spec(topic).producers, *spec(topic).consumers)}
    takes_part = {topic for topic in mentioned(service) if (service, topic) not in MENTIONED_ONLY}
    assert takes_part - said - set(BY_LEPTON) == set(), f"{service} uses topics whose files do not name it"
    assert said - takes_part - set(BY_LEPTON) == set(), f"{service} is named by topics it does not use"


@pytest.mark.parametrize("topic", list(Topic))
def test_what_is_consumed_here_has_dead_letters(topic: Topic) -> None:
    consumed = [party for party in spec(topic).consumers if party != "anyone"]
    private = spec(topic).content.encoding == "private"
    assert (spec(topic).dead_letter is not None) == (bool(consumed) and not private)
