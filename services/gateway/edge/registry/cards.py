"""REST routes of model cards: the Markdown text, and each file that lies beside it."""

from fastapi import APIRouter, Response

from services.gateway.edge.http.answers import described
from services.gateway.edge.http.callers import Reads, TheGateway
from services.gateway.flow.registry.cards import CARD

router = APIRouter(prefix="/v1/models/{model}/versions/{version}", tags=["models"])

_TYPES = {"md": "text/markdown; charset=utf-8", "json": "application/json", "png": "image/png",
          "zip": "application/zip"}
_TEXT, _BYTES = {"type": "string"}, {"type": "string", "format": "binary"}
_EXAMPLE = "# phishing: logistic regression\n\nAnswers one of false, true for `is_phishing` from 9 fields."


@router.get("/card", summary="Read a version's model card", response_class=Response, responses={
    200: described("Markdown; its pictures are `card/<name>`.", _TEXT, _EXAMPLE, media_type="text/markdown")})
async def card(model: str, version: int, gateway: TheGateway, _: Reads) -> Response:
    """What a person should know of the version before using it."""
    return Response(await gateway.cards.read(model, version), media_type=_TYPES["md"])


@router.get("/card/{file}", summary="Read a file of a model card", response_class=Response, responses={
    200: described("A picture, the figures (`report.json`), the text (`card.md`) or all of it (`card.zip`).", _BYTES,
                   "...", media_type="application/octet-stream")})
async def card_file(model: str, version: int, file: str, gateway: TheGateway, _: Reads) -> Response:
    data = await gateway.cards.read(model, version, file or CARD)
    return Response(data, media_type=_TYPES.get(file.rpartition(".")[2], "application/octet-stream"))
