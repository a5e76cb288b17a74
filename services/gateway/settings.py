"""What the gateway can be told beyond what every service can."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lepton.runtime.settings import LeptonSettings


class GatewaySettings(LeptonSettings):
    """Defaults fit a laptop: one admin key is made at first start, limits are far above a person's use."""

    service: ClassVar[str] = "gateway"

    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the REST door; 0 takes a free one."""

    bootstrap_file: Path = Path(".local/admin-key")
    """Where the admin key made at first start is written, readable by its owner alone."""

    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Largest request body; a larger one is refused with 413 before it is read whole."""

    max_upload_bytes: int = Field(default=8 * 1024 * 1024 * 1024, ge=1024)
    """Largest file an upload may be; a Parquet file lies in `state_dir` until its rows are written."""

    rate_per_s: float = Field(default=500.0, gt=0)
    """Requests a second one key may make for long."""

    rate_burst: int = Field(default=1000, ge=1)
    """Requests one key may make at once after a pause."""

    predict_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Seconds a prediction may take, retry included."""

    key_cache_s: float = Field(default=30.0, ge=0, le=3600)
    """Seconds a key record is used before it is read again: how late a revocation elsewhere takes effect here."""
