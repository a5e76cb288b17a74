"""Which forms posted events and labels may have, by content type."""

from collections.abc import Mapping

from fastapi import Request

from services.gateway.edge.errors import WrongMediaType
from services.gateway.flow.data import Body, Form

FORMS: dict[str, Form] = {
    "application/json": "json", "application/x-ndjson": "ndjson", "application/jsonl": "ndjson",
    "application/cloudevents+json": "cloudevent", "application/cloudevents-batch+json": "cloudevents",
}


async def body_of(request: Request, forms: Mapping[str, Form]) -> Body:
    """The body and its form by content type. Raises WrongMediaType."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    form = forms.get(media)
    if form is None:
        raise WrongMediaType(f"{media} is not read here", field="content-type", remedy=f"use {', '.join(forms)}")
    attributes = {name.removeprefix("ce-"): value for name, value in request.headers.items() if name.startswith("ce-")}
    return Body(form, await request.body(), attributes)
