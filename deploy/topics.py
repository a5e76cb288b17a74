"""Creates the platform's topics from proto/topics, and says how those on the broker differ from them.

`python -m deploy.topics create|check`; the topics of a pipeline are created by the gateway when it is applied.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence

from lepton.bus import kafka
from lepton.bus.records import Broker, TopicPlan
from lepton.contracts import topics
from lepton.errors import LeptonError
from lepton.runtime import settings as runtime_settings

USAGE = "usage: python -m deploy.topics create|check"
EXIT_DIFFERENT, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 2, 3


def platform_plans(replication: int) -> list[TopicPlan]:
    return [TopicPlan(*plan) for plan in topics.plans(replication=replication)]


async def create(broker: Broker, replication: int) -> list[str]:
    """Create the platform topics that are absent; return their names. Raises Refused where partitions differ."""
    return await broker.create_topics(platform_plans(replication))


async def differences(broker: Broker, replication: int) -> list[str]:
    """One line for each way in which topics on the broker, of pipelines too, differ from proto/topics."""
    wanted = {plan.name: plan for plan in platform_plans(replication)}
    present = await broker.list_topics()
    located = {name: found for name in present if (found := topics.locate(name)) is not None}
    described = await broker.describe_topics(sorted(located))
    lines = [f"{name}: absent" for name in wanted if name not in located]
    for name, plan in sorted(described.items()):
        found = located[name]
        if found.dead_letters and topics.spec(found.topic).dead_letter is None:
            lines.append(f"{name}: no such topic is described; {found.topic} has no dead letters")
            continue
        if found.pipeline is not None:
            # Its partitions were fixed when the pipeline was applied, so only its settings can be compared here.
            pipeline = topics.plans(found.pipeline, found.generation, plan.partitions, replication)
            wanted |= {one.name: one for one in (TopicPlan(*plan) for plan in pipeline)}
        lines += _compare(wanted[name], plan)
    return lines


def _compare(wanted: TopicPlan, found: TopicPlan) -> list[str]:
    lines = []
    if wanted.partitions != found.partitions:
        lines.append(f"{wanted.name}: {found.partitions} partitions, {wanted.partitions} wanted")
    if wanted.replication != found.replication:
        lines.append(f"{wanted.name}: {found.replication} replicas, {wanted.replication} wanted")
    for key, value in wanted.config.items():
        if (actual := found.config.get(key)) != value:
            lines.append(f"{wanted.name}: {key} is {actual or 'unset'}, {value} wanted")
    return lines


async def _run(verb: str, options: runtime_settings.LeptonSettings) -> int:
    broker = kafka.connect(options.broker_options())
    try:
        await broker.ping()
        if verb == "create":
            for name in await create(broker, options.kafka_replication):
                sys.stdout.write(f"created {name}\n")
        lines = await differences(broker, options.kafka_replication)
    except LeptonError as failure:
        sys.stderr.write(f"topics: {failure}\n")
        return EXIT_UNAVAILABLE
    finally:
        await broker.close()
    for line in lines:
        sys.stdout.write(f"differs {line}\n")
    return EXIT_DIFFERENT if lines else 0


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 all is as described, 1 something differs, 2 wrong usage or settings, 3 the broker said no."""
    if list(arguments) not in (["create"], ["check"]):
        sys.stderr.write(USAGE + "\n")
        return EXIT_USAGE
    # What the client library logs of a failed connection is said once, by us, with the remedy.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(_run(arguments[0], runtime_settings.load(runtime_settings.LeptonSettings)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
