import socket
import ssl

import pytest
from aiokafka import errors
from aiokafka.producer.sender import AddPartitionsToTxnHandler, Sender
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.transaction import AddPartitionsToTxnResponse_v0
from aiokafka.structs import TopicPartition

from lepton.bus.aio.failures import _reason, outcome
from lepton.bus.aio.writer import NEXT_TRANSACTION_S
from lepton.errors import Invalid, LeptonError, Missing, Refused, Unavailable


@pytest.mark.parametrize(("error", "expected"), [
    (errors.ProducerFenced(), Refused),
    (errors.InvalidProducerEpoch(), Refused),
    (errors.TopicAuthorizationFailedError("in"), Refused),
    (errors.GroupAuthorizationFailedError("g"), Refused),
    (errors.MessageSizeTooLargeError(), Invalid),
    (errors.UnknownTopicOrPartitionError(), Missing),
    (TimeoutError(), Unavailable),
    (errors.NotEnoughReplicasError(), Unavailable),
    (errors.OutOfOrderSequenceNumber(), Unavailable),
    (ConnectionResetError("gone"), Unavailable),
])
def test_each_client_error_is_one_of_our_outcomes(error: Exception, expected: type[LeptonError]) -> None:
    found = outcome(error, "write to in")
    assert type(found) is expected
    assert found.message.startswith("cannot write to in: ")


@pytest.mark.parametrize(("error", "expected"), [
    (errors.SaslAuthenticationFailed("nope"), "user name or password"),
    (errors.AuthenticationFailedError("nope"), "user name or password"),
    (errors.UnsupportedSaslMechanismError(), "SASL mechanism"),
    (errors.IllegalSaslStateError(), "does not speak PLAINTEXT"),
    (ssl.SSLError("wrong version"), "does not speak TLS"),
    (socket.gaierror(-2, "unknown"), "does not resolve"),
    (ConnectionRefusedError(), "nothing listens"),
    (TimeoutError(), "does not answer"),
    (errors.RequestTimedOutError(), "does not answer"),
    (errors.KafkaConnectionError("closed"), "closed the connection"),
])
def test_each_way_of_not_being_reached_has_words(error: Exception, expected: str) -> None:
    assert expected in _reason(error, "PLAINTEXT")


def test_a_certificate_nobody_signed_is_named() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    assert "not trusted: self-signed certificate" in _reason(error, "SSL")


async def test_the_next_transaction_is_tried_again_soon_while_the_broker_ends_the_last_one() -> None:
    sender = Sender(None, acks=-1, txn_manager=TransactionManager("w", 1000), message_accumulator=None,
                    retry_backoff_ms=100, request_timeout_ms=1000)
    answer = AddPartitionsToTxnResponse_v0(0, [("t", [(0, errors.ConcurrentTransactions.errno)])])
    again_in = AddPartitionsToTxnHandler(sender, {TopicPartition("t", 0)}).handle_response(answer)
    assert again_in == NEXT_TRANSACTION_S < 0.02
