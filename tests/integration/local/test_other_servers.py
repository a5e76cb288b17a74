"""The stack on a broker and a database that are somebody else's, named by settings: a password, no server of ours."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import ports, processes
from tests.harness.guarded import Guarded, guarded_kafka
from tests.harness.servers import start_database
from tests.harness.stack import LocalStack

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]

PASSWORD = "hunter2 100%"


@pytest.fixture
def guarded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """A broker that asks for a user name and a password; over TLS unless the test says otherwise."""
    with guarded_kafka(tmp_path / "kafka", PASSWORD, tls=getattr(request, "param", True)) as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path, guarded: Guarded) -> Iterator[LocalStack]:
    database = start_database(tmp_path / "database")
    running = LocalStack(tmp_path / "home", tmp_path / "config", {
        "LEPTON_KAFKA_BOOTSTRAP": guarded.bootstrap, "LEPTON_KAFKA_SECURITY": "SASL_SSL",
        "LEPTON_KAFKA_CA_FILE": str(guarded.ca_file), "LEPTON_KAFKA_USERNAME": "lepton",
        "LEPTON_KAFKA_PASSWORD": PASSWORD,
        "LEPTON_MONGO_URL": f"mongodb://{database.address}", "LEPTON_MONGO_DATABASE": "elsewhere"})
    try:
        yield running
    finally:
        running.down()
        assert database.process.poll() is None, "a database that is not ours was ended"
        database.stop()


def test_the_services_use_them_over_tls_and_none_of_ours_is_started(elsewhere: LocalStack, guarded: Guarded) -> None:
    said = elsewhere.up()
    assert guarded.bootstrap in said
    names = {process.name for process in processes.manager(elsewhere.home).processes()}
    assert not names & {"kafka", "database"}
    answer = httpx.get(f"{elsewhere.rest}/v1/pipelines", headers=dict(elsewhere.grpc_metadata), timeout=10)
    assert answer.status_code == 200
    assert elsewhere.command("status").returncode == 0
    for kept in ("stack.json", "supervisord.conf", "logs/gateway.log", "logs/ingest.log"):
        assert "hunter2" not in (elsewhere.home / kept).read_text()


@pytest.mark.parametrize("guarded", [False], indirect=True, ids=["without TLS"])
def test_a_wrong_password_is_one_clear_line(guarded: Guarded, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local", "up", "--home", str(home)], cwd=Path(__file__).parents[3], timeout=120,
        capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "LEPTON_KAFKA_BOOTSTRAP": guarded.bootstrap,
             "LEPTON_KAFKA_SECURITY": "SASL_PLAINTEXT", "LEPTON_KAFKA_USERNAME": "lepton",
             "LEPTON_KAFKA_PASSWORD": "wrong-one"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "refuses the user name or password" in line
    assert "wrong-one" not in done.stdout + done.stderr
    assert ports.load(home)
    assert not processes.find_processes(home)
