"""The model as MLServer's runtime."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.bench.peers.servers.mlp import OUTPUTS, Mlp


class Runtime(MLModel):  # type: ignore[misc]  # untyped
    async def load(self) -> bool:
        self._model = Mlp(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self._model(NumpyCodec.decode_input(payload.inputs[0]).astype("f4", copy=False))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[
            NumpyCodec.encode_output(name, one) for name, one in zip(OUTPUTS, answers, strict=True)])
