"""What the watchdog can be told beyond what every service can."""

from typing import ClassVar

from pydantic import Field, SecretStr

from lepton.runtime.settings import LeptonSettings


class WatchdogSettings(LeptonSettings):
    """Defaults fit two busy cores: five missed heartbeats are silence, and a restart has fifteen seconds to show."""

    service: ClassVar[str] = "watchdog"

    tick_s: float = Field(default=0.25, gt=0, le=10)
    """Seconds between two looks at everything."""

    silence_s: float = Field(default=2.5, gt=0, le=3600)
    """Seconds without a heartbeat after which a process is restarted."""

    start_grace_s: float = Field(default=15.0, gt=0, le=3600)
    """The same for a process that is starting."""

    unheard_s: float = Field(default=20.0, gt=0, le=3600)
    """Seconds an announced process, never heard by this watchdog, may take for its first heartbeat."""

    verify_s: float = Field(default=15.0, gt=0, le=900)
    """Seconds a restarted process has until it must be ready."""

    restarts: int = Field(default=6, ge=0, le=1000)
    """Restarts of one process within ten minutes; past that a person is told."""

    all_restarts: int = Field(default=30, ge=0, le=10_000)
    """Restarts of all processes together within ten minutes."""

    lease_s: float = Field(default=5.0, ge=1, le=300)
    """Seconds after which another watchdog may act when this one falls silent."""

    notify: SecretStr = SecretStr("")
    """Apprise addresses that are told of every alert, separated by spaces; a Pipeline names its own besides."""
