"""REST routes of recovery: an operator's command becomes a signed one; results are read back.

Who carries an order out is told with it; what the gateways themselves obey is in `edge/obeying`.
"""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.contracts.pb.recovery_pb2 import RecoveryAction, RecoveryCommand, RecoveryResult
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Administers, Count, Reads, TheGateway

router = APIRouter(prefix="/v1/recovery", tags=["recovery"])

# Who executes what an operator may order; of a RESTORE and a DRAIN its target says it.
EXECUTORS = {"RESTART": "actuator", "SCALE": "actuator", "ROLL_BACK": "trainer", "RETRAIN": "trainer",
             "TUNE": "trainer", "FINE_TUNE": "trainer", "CANCEL": "trainer", "QUARANTINE": "ingest",
             "RESTORE": "ingest", "PAUSE": "ingest", "RESUME": "ingest", "REPLAY_DEAD_LETTERS": "ingest",
             "FALL_BACK": "predictor", "THROTTLE": "gateway", "SHED": "predictor", "RESTORE_BACKUP": "actuator"}
RESTORERS = {"model": "predictor", "client": "gateway"}
INSTANCE = "instance:"


class Order(BaseModel):
    """One healing action, asked for by a person."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["RESTART", "SCALE", "ROLL_BACK", "RETRAIN", "TUNE", "FINE_TUNE", "CANCEL", "QUARANTINE", "RESTORE",
                    "PAUSE", "RESUME", "REPLAY_DEAD_LETTERS", "FALL_BACK", "THROTTLE", "DRAIN", "SHED",
                    "RESTORE_BACKUP"]
    target: str = Field(max_length=120, examples=["instance:predictor-0"],
                        description="instance:<name>, service:<name>, model:<name>, pipeline:<name> or client:<key id>")
    arguments: dict[str, str] = Field(default_factory=dict, examples=[{"grace_s": "5"}])
    cause: str = Field(default="", max_length=200, examples=["planned maintenance"])


_COMMAND = schema(RecoveryCommand, without=["signature"], executor={"type": "string"})
_COMMAND_EXAMPLE = {"command_id": "operator-5c", "action": "RESTART", "target": "instance:predictor-0",
                    "executor": "actuator", "expires_at": "2026-01-31T12:02:00Z"}
_RESULT = schema(RecoveryResult)


@router.post("", summary="Order a recovery", status_code=202, responses={
    202: described("The signed command is durable; its result appears here.", _COMMAND, _COMMAND_EXAMPLE)})
async def order(wanted: Order, gateway: TheGateway, caller: Administers) -> Response:
    """Sign a command as operator and send it. Executing one twice is harmless.

    A drain of a process that nobody knows, or that is the last of its service to be ready, is refused at once.
    """
    if wanted.action == "DRAIN":
        gateway.operations.check_drain(wanted.target)
    action = RecoveryAction.Value(f"RECOVERY_ACTION_{wanted.action}")
    command = await gateway.commands.send(caller, action, wanted.target, wanted.arguments, wanted.cause)
    shown = {name: value for name, value in plain(command).items() if name != "signature"}
    return answer({**shown, "executor": _executor(wanted)}, 202)


def _executor(wanted: Order) -> str:
    """A process is drained, and let go, by itself."""
    if wanted.action in ("DRAIN", "RESTORE") and wanted.target.startswith(INSTANCE):
        return wanted.target.removeprefix(INSTANCE)
    executor = EXECUTORS.get(wanted.action, "")
    return RESTORERS.get(wanted.target.partition(":")[0], executor) if wanted.action == "RESTORE" else executor


@router.get("", summary="Read results", responses={
    200: described("Newest first, those of the watchdog's commands too.", _RESULT, [
        {"command_id": "operator-5c", "target": "instance:predictor-0", "outcome": "DONE", "executor": "actuator",
         "evidence": "started with pid 4711", "at": "2026-01-31T12:00:03Z"}], many=True)})
async def results(gateway: TheGateway, _: Reads, limit: Count = 50) -> Response:
    return answer([plain(one) for one in await gateway.commands.results(limit)])
