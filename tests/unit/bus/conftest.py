"""A clock that stands still, and a broker with six numbered records in two partitions."""


import pytest

from lepton.bus.memory import MemoryBroker
from lepton.bus.records import Outgoing, TopicPlan
from lepton.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def broker(clock: FakeClock) -> MemoryBroker:
    made = MemoryBroker(clock)
    await made.create_topics([TopicPlan(topic, 2, {}) for topic in ("in", "out", "state")])
    await made.writer("test").send_all([Outgoing("in", b"%d" % number, partition=number % 2) for number in range(6)])
    return made


