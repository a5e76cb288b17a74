"""The bytes of Kafka's second protocol of transactions (KIP-890), which aiokafka does not speak."""

from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
# Of TaggedFields in an ApiVersions response.
_FINALIZED = 2


class _VersionsResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_versions", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), _TAGS)),
        ("throttle_time_ms", Int32), _TAGS)


class _VersionsForm(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _VersionsResponse
    SCHEMA = Schema(("software", _TEXT), ("version", _TEXT), _TAGS)

    def parse_response_header(self, read_buffer: Any) -> Any:
        # The one answer whose header stayed as it was, so that it can be read before versions are known (KIP-511).
        return ResponseHeader_v0.decode(read_buffer)


class VersionsRequest(Request[_VersionsForm]):  # type: ignore[misc]
    """What a broker speaks, and which features its cluster has agreed upon."""

    API_KEY = 18
    # Older brokers do not tell features, and cannot be asked like this.
    LEAST = _VersionsForm.API_VERSION

    def build(self, request_struct_class: type[_VersionsForm]) -> _VersionsForm:
        return request_struct_class("lepton", "1", {})


def features(answer: Any) -> dict[str, int]:
    """The level of each feature that a cluster has agreed upon, from its answer to a `VersionsRequest`."""
    told = answer.tags.get(_FINALIZED)
    if told is None:
        return {}
    listed = CompactArray(("name", _TEXT), ("most", Int16), ("least", Int16), _TAGS).decode(BytesIO(told))
    return {name: most for name, most, _, _ in listed or ()}


class _ProduceResponse(Response):  # type: ignore[misc]
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(
            ("partition", Int32), ("error_code", Int16), ("offset", Int64), ("timestamp", Int64),
            ("log_start_offset", Int64), ("record_errors", CompactArray(("index", Int32), ("message", _TEXT), _TAGS)),
            ("error_message", _TEXT), _TAGS)), _TAGS)),
        ("throttle_time_ms", Int32), _TAGS)


class _ProduceForm(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = _ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT), ("acks", Int16), ("timeout", Int32),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(
            ("partition", Int32), ("records", CompactBytes), _TAGS)), _TAGS)), _TAGS)


class ProduceRequest(Request[_ProduceForm]):  # type: ignore[misc]
    """Write one batch to each partition, as part of a transaction they join by it; all replicas in sync must have it.

    `topics`: `{topic: [(partition, batch)]}`.
    """

    API_KEY = 0

    def __init__(self, transactional_id: str, timeout_ms: int, topics: dict[str, list[tuple[int, bytes]]]) -> None:
        self._told: tuple[Any, ...] = (transactional_id, -1, timeout_ms,
                      [(topic, [(number, data, {}) for number, data in batches], {})
                       for topic, batches in topics.items()], {})

    def build(self, request_struct_class: type[_ProduceForm]) -> _ProduceForm:
        return request_struct_class(*self._told)


class _OffsetsResponse(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(
            ("partition", Int32), ("error_code", Int16), _TAGS)), _TAGS)), _TAGS)


class _OffsetsForm(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 5
    RESPONSE_TYPE = _OffsetsResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT), ("group", _TEXT), ("producer_id", Int64), ("producer_epoch", Int16),
        ("generation", Int32), ("member", _TEXT), ("instance", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(
            ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT), _TAGS)), _TAGS)),
        _TAGS)


class OffsetsRequest(Request[_OffsetsForm]):  # type: ignore[misc]
    """Note a group's next offsets as part of a transaction, which the group joins by it.

    `topics`: `{topic: [(partition, offset)]}`.
    """

    API_KEY = 28

    def __init__(self, transactional_id: str, group: str, producer: tuple[int, int],
                 topics: dict[str, list[tuple[int, int]]]) -> None:
        # No generation: who may commit is the writer's epoch to say, not the group.
        self._told: tuple[Any, ...] = (transactional_id, group, *producer, -1, "", None,
                      [(topic, [(number, offset, -1, "", {}) for number, offset in offsets], {})
                       for topic, offsets in topics.items()], {})

    def build(self, request_struct_class: type[_OffsetsForm]) -> _OffsetsForm:
        return request_struct_class(*self._told)


class _EndResponse(Response):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64),
                    ("producer_epoch", Int16), _TAGS)


class _EndForm(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = _EndResponse
    SCHEMA = Schema(("transactional_id", _TEXT), ("producer_id", Int64), ("producer_epoch", Int16),
                    ("commit", Boolean), _TAGS)


class EndRequest(Request[_EndForm]):  # type: ignore[misc]
    """Commit or abort; the answer gives the writer the epoch of its next transaction."""

    API_KEY = 26

    def __init__(self, transactional_id: str, producer: tuple[int, int], *, commit: bool) -> None:
        self._told: tuple[Any, ...] = (transactional_id, *producer, commit, {})

    def build(self, request_struct_class: type[_EndForm]) -> _EndForm:
        return request_struct_class(*self._told)
