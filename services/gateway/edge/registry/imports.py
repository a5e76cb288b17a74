"""The REST route that takes an ONNX file trained elsewhere."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from lepton.contracts.bundles.brought import ORIGIN_CHARACTERS
from services.gateway.edge.http.answers import body
from services.gateway.edge.http.callers import TheGateway, Trains
from services.gateway.edge.registry.ordered import ASKED, asked
from services.gateway.flow.models import Brought

router = APIRouter(prefix="/v1/models/{model}", tags=["models"])

_FILE = body("An ONNX file, with its weights inside.", {
    "application/octet-stream": ({"type": "string", "format": "binary"}, "...")})
Classes = Annotated[list[str] | None, Query(max_length=1000, description="In the order of the file's probabilities; "
                                                                         "the Pipeline's order, when left out.")]


@router.post("/import", summary="Import an ONNX file", status_code=202, responses=ASKED, openapi_extra=_FILE)
async def bring(model: str, request: Request, gateway: TheGateway, caller: Trains, classes: Classes = None,
                origin: Annotated[str, Query(max_length=ORIGIN_CHARACTERS)] = "onnx", promote: bool = True,
                command_id: Annotated[str, Query(max_length=128)] = "") -> Response:
    """A version of the Pipeline's model that was trained elsewhere: checked, measured and gated like any other."""
    await gateway.models.check_label(model)
    digest = await gateway.imports.keep(await request.body())
    return asked(await gateway.models.import_file(
        caller, model, Brought(digest, tuple(classes or ()), origin, promote, command_id)))
