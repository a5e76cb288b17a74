"""How a route asks who is calling and what it may use: dependencies for every scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from lepton.contracts.apikeys import Scope
from services.gateway.flow.gateway import Caller, Gateway

# Only for the OpenAPI page: what it reads is not used, since its own refusal would not have our form.
_scheme = HTTPBearer(auto_error=False, scheme_name="key", description="An API key, `lk_<id>.<secret>`.")


def gateway_of(request: Request) -> Gateway:
    found = request.app.state.gateway
    if not isinstance(found, Gateway):
        raise TypeError("the application was made without its gateway")
    return found


def _needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def caller(request: Request,
                     _: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)]) -> Caller:
        return await gateway_of(request).access.enter(request.headers.get("authorization"), scope)
    return caller


TheGateway = Annotated[Gateway, Depends(gateway_of)]
Reads = Annotated[Caller, Depends(_needs(Scope.READ))]
Writes = Annotated[Caller, Depends(_needs(Scope.WRITE))]
Predicts = Annotated[Caller, Depends(_needs(Scope.PREDICT))]
Trains = Annotated[Caller, Depends(_needs(Scope.TRAIN))]
Administers = Annotated[Caller, Depends(_needs(Scope.ADMIN))]
Count = Annotated[int, Query(ge=1, le=1000, description="How many at most, newest first.")]
