"""REST route of alerts from elsewhere: what Prometheus posts to Alertmanager (its API, version 2), and what this
posts to a webhook (version 4: prometheus.io/docs/alerting/latest/configuration/#webhook_config), Grafana's being of
that form under a version of its own, 1 (grafana.com/docs/grafana/latest/alerting, webhook notifier)."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    WrapValidator,
    field_validator,
)

from services.gateway.edge.http.callers import TheGateway, Writes
from services.gateway.flow.intake.alerts import STANDS_FOR, OutsideAlert

router = APIRouter(prefix="/api/v2", tags=["alerts"])

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Words = Annotated[str, StringConstraints(max_length=4_096)]
MOST = 1_000
MOST_OF_A_WEBHOOK = 10_000
"""A group is posted whole and not again once it was refused: one of any likely size is taken."""
VERSIONS = ("4", "1")
UNSET_YEAR = 1
"""A Go program's time that was not set, 0001-01-01T00:00:00Z: what Alertmanager's clients send for no end."""


class PostedAlert(BaseModel):
    """An alert; members that are not named here are passed over, as Alertmanager does."""

    model_config = ConfigDict(extra="ignore")

    labels: dict[Name, Words] = Field(max_length=64, examples=[
        {"alertname": "HighErrorRate", "severity": "critical", "instance": "web-1"}])
    annotations: dict[Name, Words] = Field(default={}, max_length=64, examples=[{"summary": "5 % of requests fail"}])
    starts_at: AwareDatetime | None = Field(default=None, alias="startsAt")
    ends_at: AwareDatetime | None = Field(default=None, alias="endsAt", description="Later than now: it fires.")

    @field_validator("labels")
    @classmethod
    def _named(cls, given: dict[str, str]) -> dict[str, str]:
        if not given.get("alertname"):
            raise ValueError("there is no label alertname: give each alert one, it says what is wrong")
        return given

    def as_alert(self) -> OutsideAlert:
        return OutsideAlert(self.labels, self.annotations, _set(self.starts_at), _set(self.ends_at))


class ToldAlert(PostedAlert):
    """An alert of a webhook, which is told once and, when it is over, once more."""

    status: Literal["firing", "resolved"]
    fingerprint: str = Field(default="", max_length=64, description="The same of a firing alert and of its end.")

    def as_alert(self) -> OutsideAlert:
        # One that is over is so from now on, whatever the clock of its sender says.
        over = self.status == "resolved"
        return OutsideAlert(self.labels, self.annotations, _set(self.starts_at), None if over else _set(self.ends_at),
                            timedelta() if over else STANDS_FOR, self.fingerprint)


class Webhook(BaseModel):
    """A group of alerts as Alertmanager, Grafana, or a Lepton, tells it to a webhook."""

    model_config = ConfigDict(extra="ignore")

    version: str = Field(json_schema_extra={"enum": list(VERSIONS)})
    alerts: list[ToldAlert] = Field(max_length=MOST_OF_A_WEBHOOK)

    @field_validator("version")
    @classmethod
    def _known(cls, given: str) -> str:
        if given not in VERSIONS:
            raise ValueError("only version 4, and Grafana's version 1, are known here: post one, or an array of alerts")
        return given


def _set(at: datetime | None) -> datetime | None:
    return None if at is None or at.year == UNSET_YEAR else at


_ALERTS = TypeAdapter(Annotated[list[PostedAlert], Field(max_length=MOST)])
_WEBHOOK = TypeAdapter(Webhook)


def _by_form(posted: object, _: object) -> list[PostedAlert] | Webhook:
    """What is wrong is said of the form that was meant, not of both."""
    if isinstance(posted, list):
        return _ALERTS.validate_python(posted)
    if not isinstance(posted, dict) or "alerts" not in posted:
        raise ValueError("neither alerts nor a webhook's document: post an array of alerts (Alertmanager's API, "
                         "version 2), or the document of its webhook, which has them under alerts")
    return _WEBHOOK.validate_python(posted)


Posted = Annotated[list[PostedAlert] | Webhook, WrapValidator(_by_form)]

_TAKEN: dict[int | str, dict[str, Any]] = {200: {"description": "All are durable; what is open shows as incidents."}}


@router.post("/alerts", summary="Post alerts of another monitoring system", responses=_TAKEN)
async def post_alerts(posted: Annotated[Posted, Body(description="An array of alerts, or the document of a webhook.")],
                      gateway: TheGateway, _: Writes) -> Response:
    """Opens an incident for each thing that fires, and closes it when all about it are over. Needs scope `write`."""
    await gateway.alerts.take([one.as_alert() for one in (posted if isinstance(posted, list) else posted.alerts)])
    return Response(status_code=200)
