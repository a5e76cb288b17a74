"""The stack on a broker and a database that are somebody else's, named by settings: a password, no server of ours."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import ports, processes
from deploy.local.servers import kafka
from tests.harness.servers import free_ports, start_database
from tests.harness.stack import LocalStack
from tests.harness.wait import poll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]

_GUARDED = """\
listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="lepton" password="hunter2 100%" user_lepton="hunter2 100%";
"""


@pytest.fixture
def guarded_kafka(tmp_path: Path) -> Iterator[str]:
    """host:port of a broker that asks for a user name and a password."""
    port, controller_port = free_ports(2)
    config = kafka.configure(tmp_path / "kafka", port, controller_port)
    config.write_text(config.read_text() + _GUARDED.format(port=port, controller_port=controller_port))
    process = subprocess.Popen(kafka.command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    poll_until(lambda: kafka.answers(port), "the guarded broker", 60)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture
def elsewhere(tmp_path: Path, guarded_kafka: str) -> Iterator[LocalStack]:
    database = start_database(tmp_path / "database")
    running = LocalStack(tmp_path / "home", tmp_path / "config", {
        "LEPTON_KAFKA_BOOTSTRAP": guarded_kafka, "LEPTON_KAFKA_SECURITY": "SASL_PLAINTEXT",
        "LEPTON_KAFKA_USERNAME": "lepton", "LEPTON_KAFKA_PASSWORD": "hunter2 100%",
        "LEPTON_MONGO_URL": f"mongodb://{database.address}", "LEPTON_MONGO_DATABASE": "elsewhere"})
    try:
        yield running
    finally:
        running.down()
        assert database.process.poll() is None, "a database that is not ours was ended"
        database.stop()


def test_the_services_use_them_and_none_of_ours_is_started(elsewhere: LocalStack, guarded_kafka: str) -> None:
    said = elsewhere.up()
    assert guarded_kafka in said
    names = {process.name for process in processes.manager(elsewhere.home).processes()}
    assert not names & {"kafka", "database"}
    answer = httpx.get(f"{elsewhere.rest}/v1/pipelines", headers=dict(elsewhere.grpc_metadata), timeout=10)
    assert answer.status_code == 200
    assert elsewhere.command("status").returncode == 0
    for kept in ("stack.json", "supervisord.conf", "logs/gateway.log", "logs/ingest.log"):
        assert "hunter2" not in (elsewhere.home / kept).read_text()


def test_a_wrong_password_is_one_clear_line(guarded_kafka: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local", "up", "--home", str(home)], cwd=Path(__file__).parents[3], timeout=120,
        capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "LEPTON_KAFKA_BOOTSTRAP": guarded_kafka,
             "LEPTON_KAFKA_SECURITY": "SASL_PLAINTEXT", "LEPTON_KAFKA_USERNAME": "lepton",
             "LEPTON_KAFKA_PASSWORD": "wrong-one"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "refuses the user name or password" in line
    assert "wrong-one" not in done.stdout + done.stderr
    assert ports.load(home)
    assert not processes.find_processes(home)
