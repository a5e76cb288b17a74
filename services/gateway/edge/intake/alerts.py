"""REST route of alerts from elsewhere, where Prometheus and others expect Alertmanager (its API, version 2)."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.gateway.edge.http.callers import TheGateway, Writes
from services.gateway.flow.intake.alerts import OutsideAlert

router = APIRouter(prefix="/api/v2", tags=["alerts"])

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Words = Annotated[str, StringConstraints(max_length=4_096)]
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
            raise ValueError("there is no label alertname")
        return given

    def as_alert(self) -> OutsideAlert:
        return OutsideAlert(self.labels, self.annotations, _set(self.starts_at), _set(self.ends_at))


def _set(at: datetime | None) -> datetime | None:
    return None if at is None or at.year == UNSET_YEAR else at


_TAKEN: dict[int | str, dict[str, Any]] = {200: {"description": "All are durable; what is open shows as incidents."}}


@router.post("/alerts", summary="Post alerts of another monitoring system", responses=_TAKEN)
async def post_alerts(posted: Annotated[list[PostedAlert], Body(max_length=1_000)], gateway: TheGateway,
                      _: Writes) -> Response:
    """Opens an incident for each thing that fires, and closes it when all about it are over. Needs scope `write`."""
    await gateway.alerts.take([one.as_alert() for one in posted])
    return Response(status_code=200)
