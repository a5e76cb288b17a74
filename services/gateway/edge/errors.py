"""How an outcome is said over HTTP: its status, and problem+json for /v1 or the protocol's `error` for /v2."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from lepton.contracts.pipeline import InvalidPipeline, Problem
from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from services.gateway.flow.data import InvalidBody
from services.gateway.flow.intake.offsets import WrongOffset
from services.gateway.flow.pipelines import Incompatible
from services.gateway.flow.predictions import TooLate


class Malformed(Invalid):
    """The body is not what its content type says."""


class TooLarge(Invalid):
    """The body is larger than this door takes."""


class WrongMediaType(Invalid):
    """The route does not read this content type."""


# The first row whose class an error is an instance of counts, so the special stand before the general.
STATUS: tuple[tuple[type[LeptonError], HTTPStatus], ...] = (
    (Malformed, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (WrongMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (TooLate, HTTPStatus.GATEWAY_TIMEOUT),
    (Invalid, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Missing, HTTPStatus.NOT_FOUND),
    (Refused, HTTPStatus.CONFLICT),
    (Busy, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)
# Refusals about the caller rather than about the state of things, by the field they name.
WHO_STATUS: Mapping[str, HTTPStatus] = {"authorization": HTTPStatus.UNAUTHORIZED, "scope": HTTPStatus.FORBIDDEN}
RETRY_UNAVAILABLE_S = 1


def status_of(error: LeptonError) -> HTTPStatus:
    if isinstance(error, Refused) and error.field is not None and error.field in WHO_STATUS:
        return WHO_STATUS[error.field]
    return next(status for kind, status in STATUS if isinstance(error, kind))


def headers_of(error: LeptonError) -> dict[str, str]:
    match error:
        case Busy():
            return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
        case Unavailable():
            return {"retry-after": str(RETRY_UNAVAILABLE_S)}
        case TooLarge():
            # What is left of the body is not read, so the connection cannot carry another request.
            return {"connection": "close"}
        case Refused() if error.field == "authorization":
            return {"www-authenticate": 'Bearer realm="lepton"'}
        case _:
            return {}


def problem_of(error: LeptonError, request_id: str, status: HTTPStatus) -> dict[str, Any]:
    """RFC 9457 members; `problems` lists everything where more than one thing is wrong."""
    problem: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": int(status),
                               "detail": error.message, "request_id": request_id}
    problem |= {name: value for name, value in (("field", error.field), ("place", error.place),
                                                ("remedy", error.remedy)) if value}
    if isinstance(error, InvalidPipeline | InvalidBody | Incompatible):
        problem["problems"] = listed(error.problems)
    if isinstance(error, WrongOffset):
        problem["offset"] = error.offset
    return problem


def listed(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"path": one.path, "message": one.message} | ({"line": one.line} if one.line else {})
            | ({"remedy": one.remedy} if one.remedy else {}) for one in problems]
