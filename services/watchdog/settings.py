"""What the watchdog can be told beyond what every service can."""

from typing import Any, ClassVar, Literal, get_args

import msgspec
from pydantic import Field, SecretStr, ValidatorFunctionWrapHandler, field_validator
from pydantic_settings import SettingsConfigDict

from lepton.contracts.modelling import healing
from lepton.runtime.settings import LeptonSettings
from services.watchdog.core.alerting.routes import Route
from services.watchdog.core.thresholds.limits import Limits

Action = Literal["restart", "scale_in", healing.Action]
"""Those that a Pipeline has a word in, and those that are no Pipeline's."""

Dry = Literal["drain", Action]
"""Those that need not be done; what takes an order back (`cancel`, `resume`, `restore`) undoes what was."""


class WatchdogSettings(LeptonSettings):
    """Defaults fit two busy cores: five missed heartbeats are silence, and a restart has fifteen seconds to show."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

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

    dry_run: bool | list[Dry] = False
    """What is told and not commanded, whatever a Pipeline says: true is all; or actions as JSON: `["restart"]`."""

    maintenance: list[healing.Maintenance] = Field(default_factory=list)
    """When nothing is done about what belongs to no pipeline, as JSON, UTC: `[{"from": "22:30", "to": "01:00"}]`."""

    approval: list[Action] = Field(default_factory=list)
    """Actions that wait for a person's word, whatever a Pipeline says, as JSON: `["restart"]`."""

    approval_s: float = Field(default=3600.0, ge=1, le=604_800)
    """Seconds such an action waits; then it is left to a person."""

    limits: dict[str, float] = Field(default_factory=dict)
    """From where on load is a symptom, as JSON: `{"cpu": 0.95, "disk_ahead_s": 7200}`; see docs/watchdog/signals.md."""

    replicas: dict[Literal["predictor", "ingest"], tuple[int, int]] = Field(default_factory=dict)
    """Fewest and most processes of services that may be scaled, as JSON: `{"predictor": [1, 4]}`; see capacity.md."""

    notify: SecretStr = SecretStr("")
    """Apprise addresses that are told of every alert, separated by spaces; a Pipeline names its own besides."""

    routes: SecretStr = SecretStr("")
    """Who is told of what, as JSON: `[{"to": ["mailtos://u:p@h"], "severity": ["critical"]}]`; see alerts.md."""

    alert_group_s: float = Field(default=5.0, ge=0, le=3600)
    """Seconds that an alert waits for others of its group, to be told in one message."""

    alert_repeat_s: float = Field(default=14_400.0, ge=0)
    """Seconds after which an incident that is still open is told again; 0: never."""

    alert_rate: int = Field(default=20, ge=1, le=10_000)
    """Messages that one address gets in a minute at most; what is more waits and is told together."""

    def alert_routes(self) -> list[Route]:
        """Addresses that are told of everything, then those of `routes`."""
        text = self.routes.get_secret_value()
        told = msgspec.json.decode(text, type=list[Route]) if text else []
        everything = tuple(self.notify.get_secret_value().split())
        return [Route(everything), *told] if everything else told

    def told_only(self) -> bool | tuple[str, ...]:
        """Whether everything, or which actions, are told and not commanded."""
        return self.dry_run if isinstance(self.dry_run, bool) else tuple(self.dry_run)

    @field_validator("dry_run", mode="wrap")
    @classmethod
    def _dry(cls, given: Any, check: ValidatorFunctionWrapHandler) -> Any:
        # Of a union, pydantic would tell what is wrong with each of its halves.
        try:
            return check(msgspec.json.decode(given) if isinstance(given, str) and given.startswith("[") else given)
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError('is neither true nor false nor JSON of actions such as ["restart"]; there are '
                             f"{', '.join(get_args(Dry))}") from error

    @field_validator("maintenance")
    @classmethod
    def _lasting(cls, given: list[healing.Maintenance]) -> list[healing.Maintenance]:
        for one in given:
            if one.begin == one.end:
                raise ValueError(f"a window from {one.begin} to {one.end} has no length; of a whole day are two: "
                                 "from 00:00 to 12:00 and from 12:00 to 00:00")
        return given

    @field_validator("routes")
    @classmethod
    def _routed(cls, given: SecretStr) -> SecretStr:
        # The decoder's words name a place and no value: addresses do not show.
        if given.get_secret_value():
            msgspec.json.decode(given.get_secret_value(), type=list[Route])
        return given

    @field_validator("replicas")
    @classmethod
    def _bounded(cls, given: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        for service, (least, most) in given.items():
            if not 1 <= least <= most:
                raise ValueError(f"{service}: {least} to {most} processes; the fewest are 1 or more, the most no fewer")
        return given

    @field_validator("limits")
    @classmethod
    def _known(cls, given: dict[str, float]) -> dict[str, float]:
        msgspec.convert(given, Limits, strict=False)
        return given
