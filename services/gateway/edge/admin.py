"""REST routes of operators: keys, instances, and the state of the whole on one page."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lepton.contracts.apikeys import Scope
from lepton.contracts.pb.telemetry_pb2 import Instance
from services.gateway.edge.http.answers import answer, described, plain, schema
from services.gateway.edge.http.callers import Administers, Reads, TheGateway

router = APIRouter(prefix="/v1", tags=["operations"])
keys_router = APIRouter(prefix="/v1/keys", tags=["keys"])


class NewKey(BaseModel):
    """What a new key may do. `admin` implies everything."""

    model_config = ConfigDict(extra="forbid")

    scopes: list[Scope] = Field(min_length=1, examples=[["read", "predict"]])
    description: str = Field(default="", max_length=200, examples=["the shop's web server"])


_KEY: dict[str, Any] = {
    "title": "Key", "type": "object", "properties": {
        "key_id": {"type": "string"}, "scopes": {"type": "array", "items": {"type": "string"}},
        "description": {"type": "string"}, "revoked": {"type": "boolean"}, "created_by": {"type": ["string", "null"]},
        "created_at": {"type": ["string", "null"]}}}
_KEY_EXAMPLE = {"key_id": "lk_0123456789abcdef", "scopes": ["predict", "read"], "description": "the shop's web server",
                "revoked": False, "created_by": "lk_fedcba9876543210", "created_at": "2026-01-31T12:00:00+00:00"}
_MADE = {**_KEY, "properties": {**_KEY["properties"], "key": {"type": "string"}}}
_INSTANCE = schema(Instance, silent={"type": "boolean"})
_DEPENDENCY: dict[str, Any] = {
    "title": "Dependency", "type": "object", "properties": {
        "caller": {"type": "string"}, "way": {"type": "string", "enum": ["request", "database", "write", "read"]},
        "callee": {"type": "string"}, "calls": {"type": "integer", "description": "Since they are known."},
        "failed": {"type": "integer", "description": "Those that got no answer."},
        "mean_ms": {"type": ["number", "null"]}, "seen_at": {"type": "string", "format": "date-time"}}}
_DEPENDENCY_EXAMPLE = {"caller": "gateway", "way": "request", "callee": "predictor-1", "calls": 120, "failed": 0,
                       "mean_ms": 2.4, "seen_at": "2026-01-31T12:00:02+00:00"}
_STATUS: dict[str, Any] = {
    "title": "Status", "type": "object", "properties": {
        name: {"type": "array", "items": {"type": "object"}}
        for name in ("instances", "pipelines", "models", "lags", "incidents")} | {
        "problems": {"type": "array", "items": {"type": "string"}, "description": "Parts that could not be asked."}}}


@router.get("/status", summary="Read the state of everything", responses={
    200: described("Processes, pipelines, models, lags, open incidents.", _STATUS, {
        "instances": [{"instance": "predictor-0", "state": "READY", "silent": False}], "pipelines": [], "models": [],
        "lags": [{"group": "ingest.phishing", "topic": "lepton-events-phishing", "records": 0}], "incidents": [],
        "problems": []})})
async def status(gateway: TheGateway, _: Reads) -> Response:
    """One page for a person. A part that cannot be asked is named in `problems`; the rest is still shown."""
    return answer(await gateway.operations.status())


@router.get("/instances", summary="List processes", responses={
    200: described("Every process that announced itself and has not left.", _INSTANCE, [
        {"instance": "predictor-0", "service": "predictor", "state": "READY", "address": "127.0.0.1:8081",
         "models": [{"model": "phishing", "version": 2, "revision": 3}], "silent": False}], many=True)})
async def instances(gateway: TheGateway, _: Reads) -> Response:
    return answer([{**plain(one), "silent": silent} for one, silent in gateway.operations.instances()])


@router.get("/dependencies", summary="List who calls whom", responses={
    200: described("Calls as the processes count them, by caller.", _DEPENDENCY, [_DEPENDENCY_EXAMPLE], many=True)})
async def dependencies(gateway: TheGateway, _: Reads) -> Response:
    """What the watchdog blames roots by. A callee is a process, `database`, `broker` or a pipeline's topic.

    Who was not called for an hour is left out.
    """
    return answer(await gateway.operations.dependencies())


@keys_router.post("", summary="Make a key", status_code=201, responses={
    201: described("The key. Its secret is only in this answer.", _MADE, {
        **_KEY_EXAMPLE, "key": "lk_0123456789abcdef.<secret>"})})
async def create_key(wanted: NewKey, gateway: TheGateway, caller: Administers) -> Response:
    return answer(await gateway.access.create(caller, wanted.scopes, wanted.description), 201)


@keys_router.get("", summary="List keys", responses={
    200: described("Every key, without its secret.", _KEY, [_KEY_EXAMPLE], many=True)})
async def keys(gateway: TheGateway, _: Administers) -> Response:
    return answer(await gateway.access.list())


@keys_router.delete("/{key_id}", summary="Revoke a key", status_code=204)
async def revoke_key(key_id: str, gateway: TheGateway, caller: Administers) -> Response:
    """For good: at once here, within the key cache time in other processes."""
    await gateway.access.revoke(caller, key_id)
    return Response(status_code=204)
