"""The `serve` block: how requests are batched, on how many processes, and how a new version comes into production."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from lepton.contracts.pipeline_blocks import Block

FASTEST_S, SLOWER = 1e-5, 1.25
"""Place i of a rollout's counted runs holds those of at most FASTEST_S x SLOWER^i seconds, and of more than i - 1's."""
PLACES = 68
"""The last place holds what took 31 s and more: no request waits so long."""


Rollout = Literal["immediate", "canary", "shadow", "ab"]


class Replicas(Block):
    min: Annotated[int, Field(ge=1, le=100)] = 1
    max: Annotated[int, Field(ge=1, le=100)] = 1


class Batching(Block):
    max_rows: Annotated[int, Field(ge=1, le=65_536)] = 64
    max_delay_ms: Annotated[float, Field(ge=0, le=1000)] = 1
    queue_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    max_wait_ms: Annotated[float, Field(ge=0, le=3_600_000)] | None = None
    """A request that would wait longer for its batch is refused at once; by how fast the model is where left out."""
    preferred_rows: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...],
                              Field(strict=False, max_length=16)] = ()
    """A batch that can have one of these sizes ends there, and does not wait for more."""
    priority_levels: Annotated[int, Field(ge=0, le=16)] = 0
    """Levels that the request parameter `priority` may name; of what waits, level 1 runs first. 0: first come."""
    default_priority: Annotated[int, Field(ge=1, le=16)] | None = None
    """Level of a request that names none; the last one where this is left out."""

    @property
    def default_level(self) -> int:
        """0 where there are no levels."""
        return min(self.default_priority or self.priority_levels, self.priority_levels)


class Remembered(Block):
    """The newest features of entities, which each predictor keeps for requests that name an entity."""

    remember: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Entities of which the newest accepted row is kept; 0: none."""
    max_age_s: Annotated[float, Field(gt=0, le=604_800)] = 86_400
    """A row that occurred longer ago does not count any more."""


class Stream(Block):
    """How the answers to a pipeline's accepted rows are written to its predictions topic."""

    results: Literal["records", "batches"] = "records"
    """A record a row, keyed by its entity; or Arrow batches of up to 4,096 rows, without a key, at a fraction of the
    cost."""


class Trial(Block):
    """How a candidate is tried beside the champion before it takes over, and what it must not do worse."""

    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...],
                      Field(strict=False, min_length=1, max_length=20)] = (0.05, 0.25, 0.5)
    """Share of entities the candidate answers. Canary: step by step, after the last step all. A/B: only the last."""
    step_s: Annotated[float, Field(gt=0, le=604_800)] = 300
    """Shortest time of a step."""
    min_answers: Annotated[int, Field(ge=1, le=10_000_000)] = 500
    """Fewest rows the candidate has answered, or a shadow been compared on, in a step."""
    max_failures: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """How much larger than the champion's its share of failed runs may be."""
    max_slower: Annotated[float, Field(ge=1, le=100)] = 1.5
    """How many times as long as the champion's 95th percentile its own may be; a millisecond more is always allowed."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Shadow: share of rows it must answer as the champion does."""
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance, over the whole rollout, of leaving a candidate that does nothing worse than is allowed."""
    limit_s: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400
    """A step that has no verdict by then ends the rollout, and the champion stays."""


class Serve(Block):
    rollout: Rollout = "immediate"
    trial: Trial | None = None
    """With its defaults where it is left out."""
    replicas: Replicas = Replicas()
    batching: Batching = Batching()
    entities: Remembered = Remembered()
    stream: Stream = Stream()
    interval: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """Share of rows whose number is to lie between the `low` and `high` that are answered beside it; None: no bounds
    are."""
    instances: Annotated[int, Field(ge=1, le=16)] = 1
    """Batches of the model that run at once in one process, where they are long enough for threads."""


def check_serve(serve: Serve, task: str | None, streamed: bool = False) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What cannot be: path, message and remedy of each. `streamed`: versions come of `model.train.stream`."""
    if serve.interval is not None and task != "regression":
        yield ("serve", "interval"), "only an answered number lies between bounds", "remove it"
    elif serve.interval is not None and streamed:
        yield ("serve", "interval"), "what is learnt from a stream has no bounds", "remove it, or model.train.stream"
    if serve.replicas.min > serve.replicas.max:
        yield ("serve", "replicas", "min"), "more than max", "lower it"
    if serve.batching.queue_rows < serve.batching.max_rows:
        yield (("serve", "batching", "queue_rows"), "one full batch does not fit the queue",
               "raise it to at least max_rows")
    if max(serve.batching.preferred_rows, default=0) > serve.batching.max_rows:
        yield ("serve", "batching", "preferred_rows"), "no batch may be that large", "raise max_rows, or leave it out"
    if (serve.batching.default_priority or 0) > serve.batching.priority_levels:
        yield (("serve", "batching", "default_priority"), "there is no such level",
               "raise priority_levels, or lower it")
    if serve.rollout == "ab" and task not in ("regression", "classification"):
        yield ("serve", "rollout"), "no label says which of two answers was better", "declare one, or use canary"
    if serve.trial is None:
        return
    if serve.rollout == "immediate":
        yield ("serve", "trial"), "nothing is tried where the rollout is immediate", "say `rollout: canary`"
    if any(one >= other for one, other in itertools.pairwise(serve.trial.shares)):
        yield ("serve", "trial", "shares"), "a step must be larger than the one before", "sort them, each once"
    if serve.trial.limit_s <= serve.trial.step_s:
        yield ("serve", "trial", "limit_s"), "a step would end before it may", "raise it above step_s"
