"""The real broker: turns connection settings into readers and writers on Apache Kafka."""

import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from lepton.bus.aio.admin import KafkaAdmin
from lepton.bus.aio.client import Subscription
from lepton.bus.aio.exact import ExactWriter
from lepton.bus.aio.reader import KafkaReader
from lepton.bus.aio.writer import KafkaTransactionalWriter, KafkaWriter
from lepton.bus.records import Assigned, Place, Reader, Revoked, TopicPlan, TransactionalWriter, Writer
from lepton.clock import Clock, SystemClock
from lepton.errors import Invalid
from lepton.runtime.settings import BrokerOptions

# It repeats "not found" many times a second while we wait for a topic; we say so once, with the remedy.
logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)


def connect(options: BrokerOptions, clock: Clock | None = None) -> "KafkaBroker":
    """A broker to open writers and readers on; nothing is contacted before `ping` or the first of them starts."""
    return KafkaBroker(options, clock or SystemClock())


class KafkaBroker:
    """See `records.Broker` for the promises."""

    def __init__(self, options: BrokerOptions, clock: Clock) -> None:
        self._connection = _connection(options)
        self._clock = clock
        self._admin = KafkaAdmin(self._connection, clock)

    def writer(self, client_id: str) -> Writer:
        return KafkaWriter({**self._connection, "client_id": client_id})

    def transactional_writer(self, transactional_id: str) -> TransactionalWriter:
        return KafkaTransactionalWriter(self._connection, transactional_id, self._clock)

    def reader(self, topics: Sequence[str], *, group: str | None, client_id: str, start: str = "earliest",
               member: bool = True, on_assigned: Assigned | None = None, on_revoked: Revoked | None = None) -> Reader:
        subscription = Subscription(tuple(topics), group, client_id, start, member and group is not None, on_assigned,
                                    on_revoked)
        return KafkaReader(self._connection, subscription, self._clock)

    async def create_topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        return await self._admin.create_topics(plans)

    async def describe_topics(self, names: Sequence[str]) -> Mapping[str, TopicPlan]:
        return await self._admin.describe_topics(names)

    async def delete_topics(self, names: Sequence[str]) -> None:
        await self._admin.delete_topics(names)

    async def list_topics(self) -> list[str]:
        return await self._admin.list_topics()

    async def group_offsets(self, group: str) -> Mapping[Place, int]:
        return await self._admin.group_offsets(group)

    async def list_groups(self) -> list[str]:
        """Every consumer group the cluster knows, of other programs too."""
        return await self._admin.list_groups()

    def exact_writer(self, transactional_id: str) -> ExactWriter:
        """A writer that lays records at the offsets they had elsewhere, for bringing a topic back."""
        return ExactWriter(self._connection, self._admin, transactional_id, self._clock)

    async def ping(self) -> None:
        await self._admin.ping()

    async def close(self) -> None:
        await self._admin.close()


def _connection(options: BrokerOptions) -> dict[str, Any]:
    """Arguments every aiokafka client takes."""
    sasl = options.security.startswith("SASL")
    return {
        "bootstrap_servers": options.bootstrap,
        "client_id": options.client_id,
        "security_protocol": options.security,
        "ssl_context": _tls(options) if options.security.endswith("SSL") else None,
        "sasl_mechanism": options.mechanism,
        "sasl_plain_username": options.username if sasl else None,
        "sasl_plain_password": options.password.get_secret_value() if sasl and options.password else None,
    }


def _tls(options: BrokerOptions) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the authority file cannot be used: {type(error).__name__}", field="LEPTON_KAFKA_CA_FILE",
                      place=options.ca_file, remedy="give a PEM file of certificates") from error
