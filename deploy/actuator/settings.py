"""What the actuator can be told beyond what every service can."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from lepton.runtime.settings import LeptonSettings


class ActuatorSettings(LeptonSettings):
    """Defaults fit the local stack."""

    service: ClassVar[str] = "actuator"

    supervisor_socket: Path = Path(".local/supervisor.sock")
    """Unix socket of the process manager that holds the units."""

    units: str = Field(default="gateway=1..1,ingest=1..1,trainer=1..1,watchdog=1..1,predictor=1..2")
    """Services that may be restarted and scaled, each with the least and the most instances that may run."""

    start_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """Seconds a process may take to be running again after it was started."""

    clock_skew_s: float = Field(default=2.0, ge=0, le=60)
    """How far the clocks of two machines may differ before a command counts as expired or as from the future."""

    watched: str = ""
    """Who is ended when it runs and answers no more, and is then brought back by the process manager, by the name of
    its program and instance and with its door for operators: watchdog=http://127.0.0.1:8081; commas between several."""

    hung_s: float = Field(default=10.0, ge=5, le=600)
    """Seconds without an answer after which it is ended; a minute while it has not been ready since its start."""
