"""A connection that the broker closed, under the loop that services run with."""

import asyncio
import struct

import pytest
import uvloop
from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

import lepton.bus.aio.failures  # noqa: F401  # mends aiokafka


async def _broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says which requests it takes (ApiVersions, version 0: Metadata in version 0), and no more."""
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    correlation = (await reader.readexactly(size))[4:8]
    said = correlation + struct.pack(">hi", 0, 1) + struct.pack(">hhh", 3, 0, 0)
    writer.write(struct.pack(">i", len(said)) + said)
    await reader.read()
    writer.close()


async def _write_to_what_is_closed() -> None:
    server = await asyncio.start_server(_broker, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        connection = await create_conn(host, port)
        connection._writer.transport.abort()
        await connection._closed_fut
        with pytest.raises(errors.KafkaConnectionError, match="closed the connection"):
            await connection.send(MetadataRequest([]))
        assert not connection.connected()


def test_a_write_to_a_closed_connection_is_a_connection_error_under_uvloop() -> None:
    uvloop.run(_write_to_what_is_closed())


def test_aiokafkas_own_errors_pass_as_they_are() -> None:
    async def send_what_no_broker_takes() -> None:
        async with await asyncio.start_server(_broker, "127.0.0.1", 0) as server:
            connection = await create_conn(*server.sockets[0].getsockname())
            connection.close()
            with pytest.raises(errors.KafkaConnectionError, match="No connection"):
                await connection.send(MetadataRequest([]))

    uvloop.run(send_what_no_broker_takes())
