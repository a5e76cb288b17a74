"""A broker that asks who is there: what works, and that each refusal says its reason without a secret."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from lepton.bus import kafka
from lepton.bus.records import Outgoing, TopicPlan
from lepton.errors import Invalid, LeptonError, Unavailable
from lepton.runtime.settings import BrokerOptions
from tests.harness.bus import read_all
from tests.harness.guarded import Guarded, guarded_kafka, make_authority
from tests.harness.servers import free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.process]

PASSWORD = "right-password"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that asks for a user name and a password."""
    with guarded_kafka(tmp_path_factory.mktemp("guarded"), PASSWORD, tls=False) as running:
        yield running.bootstrap


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The same over TLS, with an authority of its own."""
    with guarded_kafka(tmp_path_factory.mktemp("sealed"), PASSWORD, tls=True) as running:
        yield running


def options(bootstrap: str, **changes: object) -> BrokerOptions:
    given: dict[str, object] = {"security": "SASL_PLAINTEXT", "username": "lepton",
                                "password": SecretStr(PASSWORD)}
    return BrokerOptions(bootstrap=bootstrap, client_id="access", **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_the_right_password_opens_everything(request: pytest.FixtureRequest, tls: bool) -> None:
    if tls:
        sealed: Guarded = request.getfixturevalue("sealed")
        broker = kafka.connect(options(sealed.bootstrap, security=sealed.security, ca_file=str(sealed.ca_file)))
    else:
        broker = kafka.connect(options(request.getfixturevalue("guarded")))
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


async def test_a_certificate_of_an_unknown_authority_is_refused_with_its_reason(
        sealed: Guarded, tmp_path: Path) -> None:
    other = make_authority(tmp_path, "somebody")
    for ca_file in ("", str(other)):
        broker = kafka.connect(options(sealed.bootstrap, security="SASL_SSL", ca_file=ca_file))
        for attempt in (broker.ping, broker.writer("access").start):
            with pytest.raises(Unavailable, match="not trusted"):
                await attempt()
        await broker.close()


async def test_speaking_plainly_to_a_broker_that_speaks_tls_is_told(sealed: Guarded) -> None:
    broker = kafka.connect(options(sealed.bootstrap))
    with pytest.raises(Unavailable, match="does not speak SASL_PLAINTEXT"):
        await broker.ping()
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
