"""Ports are chosen free once, kept, and refused with the name of whoever took them."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import links, ports
from lepton.errors import Busy, Invalid


@pytest.fixture(autouse=True)
def no_servers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEPTON_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("LEPTON_MONGO_URL", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port this very process listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_every_door_has_a_port_of_its_own_that_is_kept(tmp_path: Path) -> None:
    made = ports.create(tmp_path)
    assert len(set(made.ports.values())) == len(made.ports)
    assert ports.load(tmp_path) == made


def test_the_addresses_are_written_for_others_to_read(tmp_path: Path) -> None:
    made = ports.create(tmp_path)
    told = json.loads((tmp_path / "stack.json").read_text())
    assert (told["rest"], told["grpc"], told["kafka"]) == (made.rest, made.grpc, made.kafka)
    assert told["admin"]["gateway"] == made.admin("gateway")


def test_where_nothing_was_brought_up_there_is_no_stack(tmp_path: Path) -> None:
    assert ports.load(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"ports": {"rest": 1}}', '{"ports": {"rest": "x"}}'])
def test_a_damaged_record_is_named_with_its_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(Invalid) as invalid:
        ports.load(tmp_path)
    assert invalid.value.place == str(tmp_path / "stack.json")
    assert invalid.value.remedy


def test_servers_of_others_take_the_place_of_ours_and_their_password_is_not_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_KAFKA_BOOTSTRAP", "broker.example:9093")
    monkeypatch.setenv("LEPTON_MONGO_URL", "mongodb://me:hunter2@db.example/")
    made = ports.create(tmp_path)
    assert (made.kafka, made.mongo) == ("broker.example:9093", "mongodb://me:hunter2@db.example/")
    assert "hunter2" not in (tmp_path / "stack.json").read_text()


def test_a_taken_port_is_named_with_who_took_it(taken: int, tmp_path: Path) -> None:
    with pytest.raises(Busy) as busy:
        ports.require_free("gateway", taken, tmp_path / "stack.json")
    assert f"port {taken} of gateway" in str(busy.value)
    assert f"pid {os.getpid()}" in str(busy.value)
    assert "stack.json" in str(busy.value)


def test_a_free_port_is_free(tmp_path: Path) -> None:
    ports.require_free("gateway", ports.create(tmp_path).ports["rest"], tmp_path / "stack.json")


def test_a_breakable_stack_has_a_way_between_any_two_and_stays_so(tmp_path: Path) -> None:
    plain = ports.create(tmp_path)
    assert links.links(plain) == ()
    made = ports.made_breakable(plain)
    assert ports.load(tmp_path) == made == ports.made_breakable(made)
    found = {(one.source, one.target): one for one in links.links(made)}
    assert set(found) == {*((name, "kafka") for name in ports.SERVICE_INSTANCES),
                          *((name, "database") for name in ports.SERVICE_INSTANCES if name != "actuator"),
                          ("gateway", "predictor-0"), ("gateway", "predictor-1")}
    assert len({one.port for one in found.values()} | set(plain.ports.values())) == len(found) + len(plain.ports)
    told = links.environment(made, "ingest")
    broker, database = (f"127.0.0.1:{found['ingest', target].port}" for target in ("kafka", "database"))
    assert told == {"LEPTON_KAFKA_BOOTSTRAP": broker,
                    "LEPTON_MONGO_URL": f"mongodb://{database}/?directConnection=true"}
    said = f"127.0.0.1:{found['gateway', 'predictor-0'].port}"
    assert links.environment(made, "predictor-0")["LEPTON_PREDICTOR_ADVERTISED"] == said
    assert links.listeners(made)["ingest"] == (found["ingest", "kafka"].listens, found["ingest", "kafka"].port)


def test_nobody_elses_broker_is_reached_by_a_way_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_KAFKA_BOOTSTRAP", "broker:9092")
    made = ports.made_breakable(ports.create(tmp_path))
    assert not [one for one in links.links(made) if one.target == "kafka"]
    assert "LEPTON_KAFKA_BOOTSTRAP" not in links.environment(made, "ingest")
