"""lepton.v1.Prediction over gRPC: answers by the names of a Pipeline's fields, and feedback on them."""

import grpc

from lepton.contracts.pb import prediction_pb2, prediction_pb2_grpc
from services.predictor.edge.rpc.auth import authorization
from services.predictor.edge.rpc.calls import Calls, Context, end
from services.predictor.flow.access import Access
from services.predictor.flow.feedback import TakesFeedback
from services.predictor.flow.predictor import Predictor

_PREDICT = "lepton.v1.Prediction/Predict"
_FEEDBACK = "lepton.v1.Prediction/Feedback"


class Prediction(prediction_pb2_grpc.PredictionServicer):
    def __init__(self, predictor: Predictor, feedback: TakesFeedback, access: Access, calls: Calls) -> None:
        self._predictor = predictor
        self._feedback = feedback
        self._access = access
        self._calls = calls

    async def Predict(self, request: prediction_pb2.PredictRequest, context: Context) -> prediction_pb2.PredictResponse:
        try:
            with self._calls.begin(context, _PREDICT, request.model) as call:
                response = await self._predictor.predict(request, call)
                call.version = str(response.version)
                return response
        except Exception as error:  # noqa: BLE001 - the call has been counted, a bug reported; the caller gets its status
            await end(context, error)

    async def Feedback(self, request: prediction_pb2.FeedbackRequest,
                       context: Context) -> prediction_pb2.FeedbackResponse:
        try:
            with self._calls.begin(context, _FEEDBACK, request.model):
                return await self._feedback.take(request, await self._author(context))
        except Exception as error:  # noqa: BLE001 - as above
            await end(context, error)

    async def _author(self, context: Context) -> str:
        """Id of the key a call came with; the gatekeeper has let it through."""
        header = authorization(context.invocation_metadata())
        record = self._access.recall(header) if header else None
        return (record or await self._access.identify(header)).key_id


def register(prediction: Prediction, server: grpc.aio.Server) -> str:
    """Add the service to a server; its full name."""
    prediction_pb2_grpc.add_PredictionServicer_to_server(prediction, server)
    return str(prediction_pb2.DESCRIPTOR.services_by_name["Prediction"].full_name)
