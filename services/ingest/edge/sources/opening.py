"""Which connection a source's spec asks for, with the secrets that only this process knows."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from lepton.bus.records import Broker
from lepton.clock import Clock
from lepton.contracts.source_blocks import HttpSource, KafkaSource, LogSource, SourceSpec, SqlSource
from lepton.runtime.settings import BrokerOptions
from services.ingest.edge.sources.http import HttpOrigin
from services.ingest.edge.sources.kafka import KafkaOrigin
from services.ingest.edge.sources.log import LogOrigin
from services.ingest.edge.sources.sql import SqlOrigin
from services.ingest.flow.pulling.origin import OpenOrigin, Origin

Secret = Callable[[str], str]
"""Value of an environment variable. Raises Missing."""
Connect = Callable[[BrokerOptions], Broker]


def opener(broker: Broker, connect: Connect, secret: Secret, roots: list[Path], max_bytes: int,
           clock: Clock) -> OpenOrigin:
    """`broker`: the platform's, read where a Kafka source names no other, which `connect` reaches."""
    def open_origin(source: SourceSpec, client_id: str) -> Origin:
        if isinstance(source, SqlSource):
            return SqlOrigin(source, secret(source.url_from))
        if isinstance(source, HttpSource):
            token = secret(source.token_from) if source.token_from is not None else None
            return HttpOrigin(source, token, max_bytes, clock)
        if isinstance(source, LogSource):
            return LogOrigin(source, roots, clock)
        if source.bootstrap is None:
            return KafkaOrigin(source, client_id, lambda: broker, owned=False)
        options = _options(source, source.bootstrap, client_id, secret)
        return KafkaOrigin(source, client_id, lambda: connect(options), owned=True)

    return open_origin


def _options(source: KafkaSource, bootstrap: str, client_id: str, secret: Secret) -> BrokerOptions:
    """Of a foreign broker, which never hears the platform's own user and password."""
    password = SecretStr(secret(source.password_from)) if source.password_from is not None else None
    return BrokerOptions(bootstrap, client_id, source.security, source.mechanism, source.username or "", password)
