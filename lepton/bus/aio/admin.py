"""How topics and groups of a Kafka cluster are created, described and removed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from lepton.bus.aio.failures import outcome, unreachable
from lepton.bus.records import Place, TopicPlan
from lepton.clock import Clock
from lepton.errors import Invalid, Refused, Unavailable

REQUEST_TIMEOUT_S = 20.0
VISIBLE_WITHIN_S = 10.0
# `source` of a setting in DescribeConfigs: given for this topic, not inherited from the broker.
_SET_ON_TOPIC = 1
_PAUSE_S = 0.1


class KafkaAdmin:
    """One administrative connection, opened at first use and again after a failure."""

    def __init__(self, connection: Mapping[str, Any], clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._client: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def ping(self) -> None:
        async with self._asking("reach Kafka") as client:
            await client.describe_cluster()

    async def list_topics(self) -> list[str]:
        async with self._asking("list topics") as client:
            return sorted(await client.list_topics())

    async def describe_topics(self, names: Sequence[str]) -> dict[str, TopicPlan]:
        if not names:
            return {}
        async with self._asking("describe topics") as client:
            described = [topic for topic in await client.describe_topics(list(names)) if not topic["error_code"]]
            resources = [ConfigResource(ConfigResourceType.TOPIC, topic["topic"]) for topic in described]
            answers = await client.describe_configs(resources) if resources else []
        configs = {resource[3]: _own_settings(resource[4]) for answer in answers for resource in answer.resources}
        return {topic["topic"]: TopicPlan(topic["topic"], len(topic["partitions"]), configs.get(topic["topic"], {}),
                                          len(topic["partitions"][0]["replicas"]))
                for topic in described}

    async def create_topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        existing = await self.describe_topics([plan.name for plan in plans])
        for plan in plans:
            found = existing.get(plan.name)
            if found is not None and found.partitions != plan.partitions:
                raise Refused(f"topic {plan.name} has {found.partitions} partitions, not {plan.partitions}",
                              field="partitions", remedy="move the pipeline to a new generation")
        wanted = [plan for plan in plans if plan.name not in existing]
        if not wanted:
            return []
        async with self._asking("create topics") as client:
            answer = await client.create_topics([
                NewTopic(plan.name, plan.partitions, plan.replication, topic_configs=dict(plan.config))
                for plan in wanted])
        created = [name for name, code, *_ in answer.topic_errors if _made(name, code)]
        await self._wait_until_led([plan.name for plan in wanted])
        return created

    async def delete_topics(self, names: Sequence[str]) -> None:
        if not names:
            return
        async with self._asking("delete topics") as client:
            answer = await client.delete_topics(list(names))
            for name, code, *_ in answer.topic_error_codes:
                error = errors.for_code(code)
                if error is not errors.NoError and error is not errors.UnknownTopicOrPartitionError:
                    raise outcome(error(), f"delete topic {name}")
        await self._wait_until_forgotten(names)

    async def delete_before(self, offsets: Mapping[Place, int]) -> None:
        """Remove the records of each partition before its offset, which is then its first."""
        async with self._asking("delete records") as client:
            await client.delete_records({TopicPartition(place.topic, place.partition): RecordsToDelete(offset)
                                         for place, offset in offsets.items()})

    async def list_groups(self) -> list[str]:
        async with self._asking("list groups") as client:
            return sorted(name for name, *_ in await client.list_consumer_groups())

    async def group_offsets(self, group: str) -> dict[Place, int]:
        deadline = self._clock.monotonic() + VISIBLE_WITHIN_S
        while True:
            async with self._asking(f"read offsets of group {group}") as client:
                try:
                    found = await client.list_consumer_group_offsets(group)
                    break
                except errors.GroupCoordinatorNotAvailableError:
                    # A broker that has just started, or never had a group, is still making its offsets topic.
                    if self._clock.monotonic() > deadline:
                        raise
            await self._clock.sleep(_PAUSE_S)
        return {Place(tp.topic, tp.partition): entry.offset for tp, entry in found.items() if entry.offset >= 0}

    async def _wait_until_led(self, names: Sequence[str]) -> None:
        """A created topic can be written only when every partition has a leader and every broker has heard of it."""
        await self._wait_until(names, "without a leader", "created", lambda topic: not topic["error_code"]
                               and all(partition["leader"] >= 0 for partition in topic["partitions"]))

    async def _wait_until_forgotten(self, names: Sequence[str]) -> None:
        """The controller answers before the brokers have heard of it: until then a new one of the name is refused."""
        await self._wait_until(names, "still there", "deleted", lambda topic: bool(topic["error_code"]))

    async def _wait_until(self, names: Sequence[str], otherwise: str, done: str, holds: Callable[[Any], bool]) -> None:
        deadline = self._clock.monotonic() + VISIBLE_WITHIN_S
        while True:
            async with self._asking("describe topics") as client:
                described = await client.describe_topics(list(names))
            waiting = set(names) - {topic["topic"] for topic in described if holds(topic)}
            if not waiting:
                return
            if self._clock.monotonic() > deadline:
                raise Unavailable(f"topics {otherwise} {VISIBLE_WITHIN_S:.0f} s after they were {done}: "
                                  + ", ".join(sorted(waiting)))
            await self._clock.sleep(_PAUSE_S)

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[AIOKafkaAdminClient]:
        async with self._lock:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    yield await self._open()
            except errors.KafkaConnectionError as error:
                await self._drop()
                raise await unreachable(self._connection) from error
            except (errors.KafkaError, OSError, TimeoutError) as error:
                await self._drop()
                raise outcome(error, what) from error

    async def _open(self) -> AIOKafkaAdminClient:
        if self._client is None:
            client = AIOKafkaAdminClient(**self._connection)
            try:
                await client.start()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(errors.KafkaError, OSError):
                await client.close()


def _own_settings(entries: Sequence[Any]) -> dict[str, str]:
    return {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}


def _made(name: str, code: int) -> bool:
    """True when this call created the topic, False when someone else did at the same moment."""
    error = errors.for_code(code)
    if error is errors.NoError:
        return True
    if error is errors.TopicAlreadyExistsError:
        return False
    if error in (errors.InvalidReplicationFactorError, errors.InvalidPartitionsError, errors.InvalidConfigurationError,
                 errors.InvalidTopicError, errors.PolicyViolationError):
        raise Invalid(f"topic {name} cannot be created: {error.__name__}", place=name, remedy=error.description)
    raise outcome(error(), f"create topic {name}")
