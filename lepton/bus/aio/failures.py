"""What a client library error means: which of Lepton's outcomes it is, and why a broker could not be reached."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from lepton.errors import Invalid, LeptonError, Missing, Refused, Unavailable

PROBE_TIMEOUT_S = 5.0

FENCED = (errors.ProducerFenced, errors.InvalidProducerEpoch)
_NOT_ALLOWED = (
    errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError, errors.TransactionalIdAuthorizationFailed,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


_send = AIOKafkaConnection.send


def _send_or_close(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Under uvloop a write to what the broker closed raises RuntimeError, which aiokafka does not expect (issue 1038).

    The task that refreshes its metadata ended by that: everything waited on, and closing raised the same once more.
    """
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        # Errors of aiokafka are RuntimeErrors too.
        if isinstance(error, errors.KafkaError):
            raise
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        where = f"{connection.host}:{connection.port}"
        raise errors.KafkaConnectionError(f"{where} closed the connection: {error}") from error


AIOKafkaConnection.send = _send_or_close


def outcome(error: BaseException, what: str) -> LeptonError:
    """The outcome `error` amounts to; `what` is the operation and its object (`write to lepton-models`)."""
    if isinstance(error, FENCED):
        return Refused(f"cannot {what}: a newer holder has taken over")
    if isinstance(error, _NOT_ALLOWED):
        return Refused(f"cannot {what}: the user lacks the right ({_name(error)})", remedy="grant it with a Kafka ACL")
    if isinstance(error, _TOO_LARGE):
        return Invalid(f"cannot {what}: larger than its topic allows", remedy="raise max.message.bytes of the topic")
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return Missing(f"cannot {what}: no such topic or partition", remedy="create it; the broker does not by itself")
    if isinstance(error, TimeoutError):
        return Unavailable(f"cannot {what}: no answer in time")
    return Unavailable(f"cannot {what}: {_name(error)}")


def _name(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def unreachable(connection: Mapping[str, Any]) -> Unavailable:
    """Why none of the bootstrap brokers could be used, found by asking each once; never contains a credential."""
    reasons = []
    for address in str(connection["bootstrap_servers"]).split(","):
        host, _, port = address.rpartition(":")
        reasons.append(f"{address} {await _probe(host, int(port), connection)}")
    return Unavailable("cannot reach Kafka: " + "; ".join(reasons),
                       remedy="check LEPTON_KAFKA_BOOTSTRAP, LEPTON_KAFKA_SECURITY, LEPTON_KAFKA_USERNAME and that the "
                              "broker runs")


async def _probe(host: str, port: int, connection: Mapping[str, Any]) -> str:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            opened = await create_conn(
                host, port, client_id="lepton-probe", request_timeout_ms=int(PROBE_TIMEOUT_S * 1000),
                ssl_context=connection["ssl_context"], security_protocol=connection["security_protocol"],
                sasl_mechanism=connection["sasl_mechanism"],
                sasl_plain_username=connection["sasl_plain_username"],
                sasl_plain_password=connection["sasl_plain_password"],
            )
            try:
                await opened.send(MetadataRequest([]))
            finally:
                opened.close()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        return _reason(error, str(connection["security_protocol"]))
    return "answers now, but did not a moment ago"


def _reason(error: Exception, security: str) -> str:
    if isinstance(error, errors.SaslAuthenticationFailed | errors.AuthenticationFailedError):
        return "refuses the user name or password"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return "does not offer this SASL mechanism (LEPTON_KAFKA_MECHANISM)"
    if isinstance(error, errors.IllegalSaslStateError):
        return f"does not speak {security} on this port (LEPTON_KAFKA_SECURITY)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a certificate that is not trusted: {error.verify_message} (LEPTON_KAFKA_CA_FILE)"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS on this port (LEPTON_KAFKA_SECURITY)"
    if isinstance(error, socket.gaierror):
        return "has no known address: the host name does not resolve"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections: nothing listens there"
    if isinstance(error, TimeoutError | errors.RequestTimedOutError):
        return f"does not answer within {PROBE_TIMEOUT_S:.0f} s"
    return f"closed the connection, as a broker does that does not speak {security} ({type(error).__name__})"
