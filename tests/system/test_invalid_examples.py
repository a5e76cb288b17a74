"""Every message that proto/examples calls invalid, sent to the real stack, ends in its topic's dead letters."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from lepton.contracts.topics import Topic, dead_letter_name, name, spec
from tests.harness import examples
from tests.harness.records import raw_records
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process]

REFUSABLE = [example for topic in Topic if spec(topic).dead_letter is not None for example in examples.invalid(topic)]


def topic_name(topic: Topic) -> str:
    return name(topic, examples.pipeline().metadata.name) if topic.endswith("<pipeline>") else name(topic)


@pytest.fixture(scope="module")
def sent(stack: LocalStack) -> list[examples.Example]:
    """All refusable examples, sent once to a stack that runs the examples' pipeline."""
    asyncio.run(send_all(stack))
    return REFUSABLE


async def send_all(stack: LocalStack) -> None:
    await stack.post_text("/v1/pipelines", (examples.FOLDER / "pipeline.yaml").read_text("utf-8"))
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        for example in REFUSABLE:
            await producer.send_and_wait(topic_name(example.topic), example.value, key=example.key,
                                         headers=list(example.headers))
    finally:
        await producer.stop()


@pytest.mark.parametrize("example", REFUSABLE, ids=str)
async def test_it_is_dead_lettered_with_its_bytes_and_reason(
        stack: LocalStack, sent: list[examples.Example], example: examples.Example) -> None:
    topic = topic_name(example.topic)

    async def found() -> list[dict[str, Any]]:
        records = await raw_records(stack.kafka, dead_letter_name(topic))
        return [dict(record.headers) for record in records if (record.value or b"") == example.value]

    letters = await apoll_until(found, f"{example} in {dead_letter_name(topic)}", 30, every_s=0.3)
    reasons = [headers["lepton-dead-reason"].decode() for headers in letters]
    assert any(example.reason in reason for reason in reasons), reasons
    assert all(headers["lepton-dead-place"].decode().startswith(f"{topic}/") for headers in letters)
    if example.field:
        assert any(headers.get("lepton-dead-field", b"").decode() == example.field for headers in letters)
