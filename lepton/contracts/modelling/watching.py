"""The `watch` block: from where on a pipeline's data, its model's answers and their quality are a symptom."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lepton.contracts.pipeline_blocks import Block, Share, Watch

LATENCIES_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
"""Lengths by which requests are counted in heartbeats."""


def _counted(given: float) -> float:
    if given not in LATENCIES_MS:
        known = ", ".join(f"{one:g}" for one in LATENCIES_MS)
        raise ValueError(f"must be one of {known}: requests are counted by these")
    return given


LatencyMs = Annotated[float, AfterValidator(_counted)]


class SharesWatch(Block):
    """How many more of the rows than usual, as a share of all, are a symptom; what is usual is learnt."""

    missing: Share = 0.2
    """Rows without a value of one field."""
    invalid: Share = 0.2
    """Rows rejected because of one field."""
    rejected: Share = 0.2
    """Rows rejected for whatever reason."""
    duplicates: Share = 0.3
    late: Share = 0.3


class VolumeWatch(Block):
    """How many rows come, against what is usual for the pipeline."""

    low: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Less than this part of the usual number."""
    high: Annotated[float, Field(gt=1, le=10_000)] = 5.0
    """More than this multiple of it."""
    over_s: Annotated[float, Field(ge=4, le=86_400)] = 60
    """For how long."""
    learn_s: Annotated[float, Field(ge=60, le=2_592_000)] = 600
    """How long rows must have come before anything is usual; it then follows slowly, ten times as long."""


class DriftWatch(Block):
    """How far fields may drift from the first rows, and answers from the first of their version."""

    rows: Annotated[int, Field(ge=100, le=10_000_000)] = 200
    """Rows of a window; each is compared with the reference."""
    reference_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 2_000
    """Fewest rows of the reference."""
    reference_s: Annotated[float, Field(ge=0, le=2_592_000)] = 3_600
    """Healthy windows refine the reference for so long."""
    psi: Annotated[float, Field(gt=0, le=100)] = 0.25
    """Population stability index of a field that is a drift."""
    chance: Annotated[float, Field(gt=0, lt=0.5)] = 0.001
    """Largest chance, over all fields of a window together, that rows like the reference's look so different."""
    windows: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Windows one after the other that must show it."""
    then: Literal["notify", "retrain"] = "notify"
    """What is done about drift of fields. Loss of quality is acted on in any case."""


class FeedbackWatch(Block):
    """How much more often than usual people may reject the champion's answers, in what they say of them (opinions)."""

    rows: Annotated[int, Field(ge=20, le=10_000)] = 50
    """Opinions of a window; each window is compared with those of the version before."""
    windows: Annotated[int, Field(ge=1, le=100)] = 2
    """Windows one after the other that must show it."""
    rise: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Larger share of rejections than that of the version before by so much."""
    chance: Annotated[float, Field(gt=0, lt=0.5)] = 0.001
    """Largest chance, over all windows of a version together, that one that is as usual looks so much worse."""
    authors: Annotated[int, Field(ge=1, le=10)] = 2
    """Of a window an author (an API key) has at most this part, and the loudest, all but one of this many, are left
    out: 2 authors at least must say it. 1 where one key speaks for many people."""


class SloWatch(Block):
    """What callers of the model are promised. An incident opens when the error budget of a month burns too fast."""

    availability: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """Share of requests that do not fail by a fault of ours."""
    latency_ms: LatencyMs | None = None
    """`latency_share` of the requests that go well take no longer."""
    latency_share: Annotated[float, Field(gt=0.5, lt=1)] = 0.99


class Watching(Watch):
    """The whole block; what rules between blocks speak of is in `Watch`."""

    shares: SharesWatch = SharesWatch()
    volume: VolumeWatch = VolumeWatch()
    drift: DriftWatch = DriftWatch()
    feedback: FeedbackWatch = FeedbackWatch()
    slo: SloWatch | None = None
