"""A broker restart under load, and messages nobody can use, on the real stack."""

import asyncio
import uuid

import pytest

from tests.harness.ledger import Tail, ids_of_features, ids_of_prediction, numbered_events
from tests.harness.stack import LocalStack
from tests.harness.wait import apoll_until

pytestmark = [pytest.mark.kafka, pytest.mark.mongo, pytest.mark.process, pytest.mark.timeout(240)]


async def test_a_broker_restart_loses_and_doubles_nothing(trained_stack: LocalStack) -> None:
    prefix = f"broker-{uuid.uuid4().hex[:6]}-"
    async with (Tail(trained_stack.kafka, "lepton-features-phishing", ids_of_features, prefix) as features,
                Tail(trained_stack.kafka, "lepton-predictions-phishing", ids_of_prediction, prefix) as predictions):
        sending = asyncio.create_task(numbered_events(trained_stack.kafka, "phishing", prefix, 1000, 100))
        await asyncio.sleep(2)
        await asyncio.to_thread(trained_stack.restart_broker)
        ids = await sending

        async def arrived() -> bool:
            await asyncio.gather(features.read(), predictions.read())
            return not features.missing(ids) and not predictions.missing(ids)

        await apoll_until(arrived, "every event after the broker came back", 90)
        await asyncio.gather(features.read(), predictions.read())
    assert not features.doubled()
    assert not predictions.doubled()

    async def all_ready() -> bool:
        return not await trained_stack.unready()

    try:
        await apoll_until(all_ready, "every service ready again", 90, every_s=0.5)
    except AssertionError as late:
        raise AssertionError(f"after the broker came back: {await trained_stack.unready()}") from late
