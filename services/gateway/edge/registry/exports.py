"""The REST route that gives a version away as one signed archive."""

from fastapi import APIRouter, Response

from services.gateway.edge.http.answers import described
from services.gateway.edge.http.callers import TheGateway, Trains

router = APIRouter(prefix="/v1/models/{model}/versions/{version}", tags=["models"])


@router.get("/export", summary="Export a version", response_class=Response, responses={
    200: described("A zip archive that runs offline: ONNX file, manifest, card, signatures, `predict.py`.",
                   {"type": "string", "format": "binary"}, "...", media_type="application/zip")})
async def export(model: str, version: int, gateway: TheGateway, _: Trains) -> Response:
    """It needs the scope `train`: what a key may ask a model, it may not always take away."""
    archive = await gateway.exports.archive(model, version)
    return Response(archive, media_type="application/zip", headers={
        "content-disposition": f'attachment; filename="{model}-{version}.zip"'})
