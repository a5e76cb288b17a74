"""Variables of programs reach them as they are, by the process manager's own reading, or are refused."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs
from supervisor.options import UnhosedConfigParser

from deploy.local import processes
from lepton.errors import Invalid


@dataclass(frozen=True)
class Program:
    environment: Mapping[str, str]
    name: str = "watchdog"
    command: tuple[str, ...] = (sys.executable,)
    restarted: bool = False
    stop_s: int = 2


def read_back(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What the manager gives the program of its own variables."""
    processes.write_configuration(home, home, [Program(environment)], {})
    parser = UnhosedConfigParser()
    parser.expansions = {}
    parser.read([str(home / "supervisord.conf")])
    found: dict[str, str] = dict_of_key_value_pairs(parser.get("program:watchdog", "environment") % {})
    return found


@pytest.mark.parametrize("value", [
    '{"predictor": [1, 2], "ingest": [1, 4]}', '["restart"]', "plain", "", "it's, 100 % of a=b", "a;b#c",
    "/path/with spaces/and:colons", "mongodb://127.0.0.1:27017/?a=b&c=d", "{ümlaut}"])
def test_a_value_is_carried_as_it_is(tmp_path: Path, value: str) -> None:
    environment = {"LEPTON_WATCHDOG_REPLICAS": value, "LEPTON_INSTANCE": "watchdog", "LEPTON_A": "last"}
    assert read_back(tmp_path, environment) == environment


@pytest.mark.parametrize("value", ["{\"it's\": 1}", "'quoted'", '"restart"', "two\nlines", "a ; remark", "a # remark"])
def test_what_cannot_be_carried_is_refused_with_the_name_of_the_variable(tmp_path: Path, value: str) -> None:
    with pytest.raises(Invalid, match=r"cannot carry this value; field: LEPTON_X; at: watchdog; remedy: .*lepton up"):
        read_back(tmp_path, {"LEPTON_X": value})
