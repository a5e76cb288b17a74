"""Events that a run sends can be told from all others, so that what became of each is counted."""

import httpx

from deploy.chaos.load.traffic import Traffic
from deploy.chaos.plan import Flow, Spoil
from lepton.bus.memory import MemoryBroker
from lepton.bus.records import TopicPlan
from lepton.clock import SystemClock
from lepton.contracts import topics
from lepton.contracts.topics import Topic
from tests.harness.wait import apoll_until

PREFIX = "c1234-"


async def test_events_of_another_source_beside_the_usual_ones_are_of_the_run_too() -> None:
    broker = MemoryBroker()
    await broker.create_topics([TopicPlan(topics.name(topic, "shop"), 1, {}) for topic in (Topic.EVENTS, Topic.LABELS)])
    async with httpx.AsyncClient() as rest:
        traffic = Traffic(Flow(label="y", events_per_s=100, calls_per_s=0), [{"a": 1.0, "y": True}], "shop", PREFIX,
                          broker.writer("chaos"), rest, SystemClock())
        traffic.spoil(Spoil(name="stuck", do="constant", field="a", value=7, source="chaos/other"))
        async with traffic:
            async def sent() -> bool:
                return len(traffic.ids) >= 4
            await apoll_until(sent, "some events")
    usual = [one for one in traffic.ids if one.removeprefix(PREFIX).isdigit()]
    assert len(usual) * 2 == len(traffic.ids) == len(set(traffic.ids))
    assert all(one.startswith(PREFIX) for one in traffic.ids)
