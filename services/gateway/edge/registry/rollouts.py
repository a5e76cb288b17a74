"""REST routes of rollouts: how far a candidate is, what both versions did so far, and its end in one call."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.contracts.pb.models_pb2 import Rollout
from lepton.contracts.pb.telemetry_pb2 import Instance, ServedArm
from lepton.errors import Missing
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Reads, TheGateway, Trains
from services.gateway.edge.registry.ordered import ASKED, asked

router = APIRouter(prefix="/v1/models/{model}/rollout", tags=["models"])

_COUNTED = ("answered", "failed", "compared", "agreed")
_EXAMPLE = {"candidate": 3, "champion": 2, "strategy": "CANARY", "state": "RUNNING", "share": 0.25, "step": 1,
            "measured": [{"version": 2, "answered": 1503, "failed": 0, "compared": 0, "agreed": 0, "refused": ""},
                         {"version": 3, "answered": 497, "failed": 0, "compared": 0, "agreed": 0, "refused": ""}]}


class End(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: str = Field(default="", max_length=500, description="Why.")


@router.get("", summary="How far a candidate is", responses={
    200: described("The rollout under way, or the last one; `measured` is of its present step, on all instances.",
                   schema(Rollout, measured={"type": "array", "items": schema(ServedArm, without=["since", "runs"])}),
                   _EXAMPLE)})
async def rollout(model: str, gateway: TheGateway, _: Reads) -> Response:
    found = gateway.models.get(model).rollout
    if not found.candidate:
        raise Missing(f"no candidate of {model} was tried", field="rollout",
                      remedy="say `serve.rollout: canary` in its Pipeline, and train it")
    instances = (one for one, _ in gateway.operations.instances())
    return answer({**plain(found), "measured": _measured(model, found, instances)})


@router.post("/abort", summary="Leave the candidate", status_code=202, responses=ASKED)
async def abort_rollout(model: str, gateway: TheGateway, caller: Trains, wanted: End | None = None) -> Response:
    """The champion answers alone again; the candidate is kept."""
    note = wanted.note if wanted else ""
    return asked(await gateway.models.end_rollout(caller, model, promote=False, note=note))


@router.post("/promote", summary="Make the candidate champion now", status_code=202, responses=ASKED)
async def promote_candidate(model: str, gateway: TheGateway, caller: Trains, wanted: End | None = None) -> Response:
    """Without waiting for what its terms ask; `/rollback` leaves it again."""
    note = wanted.note if wanted else ""
    return asked(await gateway.models.end_rollout(caller, model, promote=True, note=note))


def _measured(model: str, rollout: Rollout, instances: Iterable[Instance]) -> list[dict[str, Any]]:
    told = [arm for instance in instances for one in instance.models if one.model == model for arm in one.arms
            if arm.since == rollout.since]
    return [{"version": version, **{name: sum(getattr(arm, name) for arm in told if arm.version == version)
                                    for name in _COUNTED},
             "refused": next((arm.refused for arm in told if arm.version == version and arm.refused), "")}
            for version in (rollout.champion, rollout.candidate)]
