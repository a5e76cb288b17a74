"""What ingest can be told beyond what every service can."""

from typing import ClassVar, Literal

from pydantic import Field

from lepton.runtime.settings import LeptonSettings


class IngestSettings(LeptonSettings):
    service: ClassVar[str] = "ingest"

    batch_records: int = Field(default=64_000, ge=1, le=100_000)
    """Most records of one poll, which holds what was fetched of several partitions; twice as many are in memory."""

    loops: Literal["auto", "native", "python"] = "auto"
    """What reads records and events: native (lepton/native, where it is built), python, or whichever there is."""

    summary_interval_s: float = Field(default=2.0, gt=0, le=3600)
    """Seconds between two summaries of data quality of a pipeline."""

    rollups: bool = True
    """Whether this process may be the one that rolls summaries up per minute and hour."""

    rollup_interval_s: float = Field(default=5.0, gt=0, le=300)
    """Seconds between two writes of roll-ups that changed."""

    segment_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    """Rows after which a segment is written at once."""

    segment_interval_s: float = Field(default=0.5, gt=0, le=3600)
    """Seconds after which a segment is written with the rows there are."""

    retention_interval_s: float = Field(default=15.0, gt=0, le=86_400)
    """Seconds between two looks for stored rows past their pipeline's retention."""

    clock_skew_s: float = Field(default=5.0, ge=0, le=300)
    """How far the clocks of issuers of recovery commands may differ from the broker's."""

    source_backlog: int = Field(default=50_000, ge=1, le=10_000_000)
    """Events of a pipeline that may wait to be accepted before its sources wait too."""

    source_lease_s: float = Field(default=15.0, ge=2, le=600)
    """Seconds after which another process takes over the sources of one that is gone."""

    log_roots: str = Field(default="", pattern=r"^(/[^:]*(:/[^:]*)*)?$")
    """Folders, separated by colons, in which sources of kind log may read; none when empty."""

    http_max_bytes: int = Field(default=16_777_216, ge=1024, le=1_073_741_824)
    """Largest answer of an API that is taken."""
