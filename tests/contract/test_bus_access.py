"""A broker that asks who is there: what works, and that each refusal says its reason without a secret."""

import subprocess
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from deploy.local.servers import kafka as server
from lepton.bus import kafka
from lepton.bus.records import Outgoing, TopicPlan
from lepton.errors import Invalid, LeptonError, Unavailable
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import read_all
from tests.harness.servers import free_ports
from tests.harness.wait import poll_until

pytestmark = [pytest.mark.kafka, pytest.mark.process]

SASL = """\
listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="lepton" password="right-password" user_lepton="right-password";
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that asks for a user name and a password."""
    port, controller_port = free_ports(2)
    config = server.configure(tmp_path_factory.mktemp("guarded"), port, controller_port)
    config.write_text(config.read_text() + SASL.format(port=port, controller_port=controller_port))
    process = subprocess.Popen(server.command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    poll_until(lambda: server.answers(port), "the guarded broker", 60)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def options(bootstrap: str, **changes: object) -> BrokerOptions:
    given: dict[str, object] = {"security": "SASL_PLAINTEXT", "username": "lepton",
                                "password": SecretStr("right-password")}
    return BrokerOptions(bootstrap=bootstrap, client_id="access", **{**given, **changes})  # type: ignore[arg-type]


async def test_the_right_password_opens_everything(guarded: str) -> None:
    broker = kafka.connect(options(guarded))
    await broker.create_topics([TopicPlan("guarded", 1, {})])
    writer = broker.transactional_writer("guarded")
    await writer.start()
    await writer.commit([Outgoing("guarded", b"in")], {}, "guarded")
    await writer.stop()
    assert [record.value for record in await read_all(broker, "guarded")] == [b"in"]
    await broker.close()


@pytest.mark.parametrize(("changes", "reason"), [
    ({"password": SecretStr("wrong-password")}, "refuses the user name or password"),
    ({"mechanism": "SCRAM-SHA-256"}, "does not offer this SASL mechanism"),
    ({"security": "PLAINTEXT"}, "does not speak PLAINTEXT"),
    ({"security": "SASL_SSL"}, "does not speak TLS|does not speak SASL_SSL"),
])
async def test_a_refusal_names_its_reason_and_no_secret(guarded: str, changes: dict[str, object], reason: str) -> None:
    broker = kafka.connect(options(guarded, **changes))
    reader = broker.reader(["guarded"], group=None, client_id="access")
    for attempt in (broker.ping, broker.writer("access").start, broker.transactional_writer("access").start,
                    reader.start):
        with pytest.raises(Unavailable, match=reason) as caught:
            await attempt()
        assert guarded in str(caught.value)
        assert "password" not in str(caught.value).replace("user name or password", "")
    await broker.close()


async def test_an_unknown_host_and_a_closed_port_are_told_apart() -> None:
    port, = free_ports(1)
    with pytest.raises(Unavailable, match="refuses connections: nothing listens there"):
        await kafka.connect(options(f"127.0.0.1:{port}")).ping()
    with pytest.raises(Unavailable, match="does not resolve"):
        await kafka.connect(options("no-such-host.invalid:9092")).ping()


def test_an_authority_file_that_is_none_is_told_at_once() -> None:
    with pytest.raises(Invalid, match="authority file") as caught:
        kafka.connect(options("127.0.0.1:9092", security="SASL_SSL", ca_file="/no/such/file.pem"))
    assert isinstance(caught.value, LeptonError)
    assert caught.value.field == "LEPTON_KAFKA_CA_FILE"
