"""The Faust app is told of the bus what every other client is told, and keeps its secrets."""

import ssl

import pytest
from pydantic import SecretStr

from lepton.bus.care import Care
from lepton.bus.records import Record
from lepton.clock import FakeClock
from lepton.errors import Invalid
from lepton.runtime.settings import BrokerOptions
from services.ingest.edge.rolling.worker import Connection, Worker, credentials


def options(security: str, mechanism: str = "PLAIN") -> BrokerOptions:
    return BrokerOptions("h1:1,h2:2", "ingest", security, mechanism, "u", SecretStr("hush"))  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("security", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_passwords_are_passed_on_and_not_shown(security: str, mechanism: str) -> None:
    told = credentials(options(security, mechanism))
    assert (told.protocol.value, told.mechanism.value) == (security, mechanism)
    assert (told.username, told.password) == ("u", "hush")
    assert isinstance(told.ssl_context, ssl.SSLContext) == security.endswith("SSL")
    assert "hush" not in repr(told)


def test_tls_alone_and_plain_text_need_no_password() -> None:
    told = credentials(options("SSL"))
    assert told.protocol.value == "SSL" and told.context.verify_mode is ssl.CERT_REQUIRED
    assert credentials(options("PLAINTEXT")) is None


def test_the_app_asks_for_nothing_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: Record, __: Invalid) -> None:
        raise AssertionError

    # A variable that Faust itself would read.
    monkeypatch.setenv("PROCESSING_GUARANTEE", "exactly_once")
    monkeypatch.setenv("BROKER_URL", "kafka://elsewhere:1")
    worker = Worker(Connection(options("SASL_PLAINTEXT")), ["lepton-quality-shop"], refuse, Care(FakeClock()))
    conf = worker.app.conf
    assert conf.processing_guarantee.value == "at_least_once"
    assert [str(url) for url in conf.broker] == ["kafka://h1:1", "kafka://h2:2"]
    # Topics are created by the platform, with its replication and settings.
    assert (conf.topic_allow_declare, conf.topic_disable_leader, conf.web_enabled) == (False, True, False)
