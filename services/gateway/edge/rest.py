"""The REST door as a whole: every route, the OpenAPI page, and how a failure anywhere is answered."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from lepton.clock import Clock
from lepton.contracts.pipeline import Problem
from lepton.errors import Invalid, LeptonError, Missing
from lepton.runtime.telemetry import Telemetry
from services.gateway.edge import admin, data, inference, models, pipelines, quality, recovery
from services.gateway.edge.datasets import orders as dataset_orders
from services.gateway.edge.datasets import reading as dataset_reading
from services.gateway.edge.errors import Malformed
from services.gateway.edge.http.answers import problem
from services.gateway.edge.http.context import RequestContext, bug, failure, too_large
from services.gateway.edge.incidents import audit, incidents
from services.gateway.edge.intake import alerts, letters, uploads
from services.gateway.edge.protocol import operating
from services.gateway.edge.registry import cards, exports, imports, rollouts, versions
from services.gateway.flow.data import InvalidBody
from services.gateway.flow.gateway import Gateway

VERSION = "0.1.0"
_ABOUT = """\
Keeps machine-learning models alive on live data. Every call but the health checks needs an API key:
`Authorization: Bearer lk_<id>.<secret>`. Errors are `application/problem+json` with the field, the place and a remedy;
below `/v2` they have the protocol's form. `X-Request-Id` and `traceparent` come back as they went in.
"""
_TAGS = [
    {"name": "pipelines", "description": "One declarative file from event schema to healing policy."},
    {"name": "data", "description": "Events and labels in; rows and quality out."},
    {"name": "files", "description": "Files of rows, sent in pieces."},
    {"name": "dead letters", "description": "Refused events and labels: read, replayed, discarded."},
    {"name": "data sets", "description": "Stored rows: profiles, snapshots, splits, export, corrections, erasure."},
    {"name": "models", "description": "Versions, predictions by named fields, training, promotion, roll back."},
    {"name": "runs", "description": "Training runs and how far they are."},
    {"name": "operations", "description": "Processes, incidents, the state of everything."},
    {"name": "alerts", "description": "Alerts of other monitoring systems, in the form of Alertmanager's API."},
    {"name": "recovery", "description": "Healing actions ordered by a person."},
    {"name": "keys", "description": "API keys and their scopes."},
    {"name": "inference protocol", "description": "The Open Inference Protocol, version 2."},
]
_EVERYWHERE: dict[int | str, dict[str, Any]] = {
    401: problem("No valid key.", title="Unauthorized", status=401, detail="this API key is not valid",
                 field="authorization"),
    403: problem("The key lacks a scope.", title="Forbidden", status=403, detail="this API key may not train",
                 field="scope", remedy="use a key with the scope `train`"),
    404: problem("What is named does not exist.", title="Not Found", status=404, detail="there is no pipeline x"),
    409: problem("Not allowed in the present state.", title="Conflict", status=409,
                 detail="version 3 of phishing is not the champion"),
    413: problem("The body is too large.", title="Content Too Large", status=413,
                 detail="the body is larger than 16777216 bytes", remedy="send it in several requests"),
    422: problem("It can never be accepted as it is.", title="Unprocessable Content", status=422,
                 detail="Field required", field="rows"),
    429: problem("Too often; `Retry-After` says when.", title="Too Many Requests", status=429,
                 detail="more than 500 requests a second with this key"),
    503: problem("A part the answer needs is away; `Retry-After` says when.", title="Service Unavailable", status=503,
                 detail="no predictor can be asked now"),
}


def create(gateway: Gateway, telemetry: Telemetry, clock: Clock, max_body_bytes: int) -> RequestContext:
    """The ASGI application."""
    app = FastAPI(
        title="Lepton", version=VERSION, description=_ABOUT, openapi_tags=_TAGS, responses=_EVERYWHERE,
        max_body_size=max_body_bytes,
        docs_url="/docs", redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False,
        generate_unique_id_function=lambda route: f"{route.tags[0]}-{route.name}".replace(" ", "-"),
    )
    app.state.gateway = gateway
    for router in (pipelines.router, data.router, dataset_reading.router, dataset_orders.router, uploads.router,
                   letters.router, alerts.router, quality.router, models.router, versions.router, rollouts.router,
                   cards.router, exports.router, imports.router, models.runs_router, admin.router,
                   incidents.router, audit.router,
                   recovery.router, admin.keys_router, inference.router, operating.router):
        app.include_router(router)
    app.add_exception_handler(LeptonError, _outcome)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    return RequestContext(app, telemetry, clock, max_body_bytes)


# The framework types handlers by the widest exception, so each says again what it was registered for.
async def _outcome(request: Request, error: Exception) -> Response:
    if not isinstance(error, LeptonError):
        raise error
    return failure(error, request.url.path)


async def _invalid(request: Request, error: Exception) -> Response:
    """A request whose JSON is broken, or not of the form the route takes: everything at once."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    broken = [one for one in found if one["type"] == "json_invalid"]
    if broken:
        why = broken[0].get("ctx", {}).get("error", "it cannot be parsed")
        return failure(Malformed(f"the body is not JSON: {why}", field="body"), request.url.path)
    return failure(InvalidBody([Problem(_path(one["loc"]), 0, one["msg"]) for one in found]), request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: no such route, no such method, a body that could not be read."""
    if not isinstance(error, StarletteHTTPException):
        raise error
    path = request.url.path
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        # One that announced no length, and grew too large while it was read.
        return failure(too_large(request.app.max_body_size), path)
    where = {"place": f"{request.method} {path}", "remedy": "/docs lists what there is"}
    if error.status_code == HTTPStatus.NOT_FOUND:
        return failure(Missing(f"there is nothing at {path}", **where), path)
    return failure(Invalid(str(error.detail), **where), path, HTTPStatus(error.status_code))


async def _bug(request: Request, _: Exception) -> Response:
    return bug(request.url.path)


def _path(location: tuple[int | str, ...]) -> str:
    """`rows[0].age` from ("body", "rows", 0, "age")."""
    text = ""
    for part in location[1:] if location[0] in ("body", "query", "path") else location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "body"
