"""How a version is served, in the words of the protocol's model configuration."""

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from services.predictor.core.signature import Signature

BACKEND = "onnxruntime"

_CPU = "CPUExecutionProvider"


def configuration(manifest: models_pb2.ModelManifest, signature: Signature, provider: str,
                  max_rows: int) -> oip.ModelConfig:
    """All but platform, versions and batching. A request may hold `max_rows` rows; dims leave that dimension out."""
    kinds = oip.ModelInstanceGroup
    return oip.ModelConfig(
        name=manifest.model, backend=BACKEND, max_batch_size=max_rows,
        input=[oip.ModelInput(name=tensor.name, data_type=_data_type(tensor.datatype), dims=tensor.tail,
                              optional=tensor.optional) for tensor in signature.inputs.values()],
        output=[oip.ModelOutput(name=tensor.name, data_type=_data_type(tensor.datatype), dims=tensor.tail)
                for tensor in signature.outputs.values()],
        instance_group=[oip.ModelInstanceGroup(name=f"{manifest.model}_0", count=1,
                                               kind=kinds.KIND_CPU if provider == _CPU else kinds.KIND_GPU)],
        parameters={name: oip.ModelParameter(string_value=value) for name, value in {
            "family": manifest.family, "task": models_pb2.ModelTask.Name(manifest.task),
            "sha256": manifest.sha256, "execution_provider": provider}.items()})


def _data_type(datatype: str) -> "oip.DataType.ValueType":
    return oip.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")
