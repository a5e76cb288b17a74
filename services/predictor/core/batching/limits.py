"""How a model's requests may wait and run, as its pipeline says it."""

from dataclasses import dataclass

from lepton.contracts.modelling.serving import Serve
from lepton.contracts.pb import grpc_service_pb2 as oip

MAX_INSTANCES = 16

FULL_BATCHES = 1
"""Where nothing else is said, a request is let in while about so many full batches run before its own: the one that is
run, behind which one may fill, so that no request that is refused leaves the model idle."""

LEAST_WAIT_S = 0.025
"""For less nobody is refused: a burst that is over so soon is no overload."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_rows` of a batch, `queue_rows` that may wait, `max_delay_s` that a request may wait for company.

    A batch that can have one of the `preferred` sizes ends there. With `priority_levels` requests of level 1 run first;
    one that names none of them has `default_level`. `instances` batches run at once where they run on threads. Who
    would wait longer than `max_wait_s` is refused; None: that follows from how fast the model is.
    """

    max_rows: int = 64
    max_delay_s: float = 0.001
    queue_rows: int = 4096
    preferred: frozenset[int] = frozenset()
    priority_levels: int = 0
    default_level: int = 0
    instances: int = 1
    max_wait_s: float | None = None

    @property
    def unordered(self) -> bool:
        """Whether requests run as they come, in batches of any size."""
        return not self.preferred and not self.priority_levels

    @property
    def plain(self) -> bool:
        """Whether one first-come queue before one thread keeps to all of this."""
        return self.unordered and self.instances == 1

    @property
    def full_rows(self) -> int:
        """Rows that are worth a run at once."""
        return min(self.preferred, default=self.max_rows)

    def wait_s(self, full_s: float) -> float:
        """Longest that a request may be expected to wait, where a full batch takes `full_s`."""
        return max(LEAST_WAIT_S, FULL_BATCHES * full_s) if self.max_wait_s is None else self.max_wait_s

    def level(self, asked: int) -> int:
        """The level of a request that asked for this one; 0 asks for none."""
        return asked if 1 <= asked <= self.priority_levels else self.default_level


def limits_of(serve: Serve) -> Limits:
    """As a pipeline's `serve` block says it."""
    one = serve.batching
    return Limits(one.max_rows, one.max_delay_ms / 1000, one.queue_rows, frozenset(one.preferred_rows),
                  one.priority_levels, one.default_level, serve.instances,
                  None if one.max_wait_ms is None else one.max_wait_ms / 1000)


def describe(told: oip.ModelConfig, limits: Limits) -> None:
    """How requests wait and run. A request that waited longer than its `timeout` is rejected."""
    batching = told.dynamic_batching
    batching.preferred_batch_size.extend(sorted(limits.preferred) or [limits.max_rows])
    batching.max_queue_delay_microseconds = round(limits.max_delay_s * 1e6)
    batching.priority_levels, batching.default_priority_level = limits.priority_levels, limits.default_level
    policy = batching.default_queue_policy
    policy.max_queue_size, policy.allow_timeout_override = limits.queue_rows, True
    policy.timeout_action = oip.ModelQueuePolicy.REJECT
    told.instance_group[0].count = limits.instances
