"""What the predictor can be told beyond what every service can."""

from typing import ClassVar, Literal

from pydantic import Field

from lepton.runtime.settings import LeptonSettings


class PredictorSettings(LeptonSettings):
    """Defaults fit a laptop: one computing thread a run, so that the event loop keeps a core."""

    service: ClassVar[str] = "predictor"

    port: int = Field(default=8081, ge=0, le=65535)
    """Port of the gRPC door; 0 takes a free one."""

    advertised: str = Field(default="", pattern=r"^([^\s,:]+:\d+)?$")
    """host:port where others reach that door, where it is another address than the door's own: behind a proxy."""

    door: Literal["auto", "native", "python"] = "auto"
    """Which gRPC door answers: native (services/predictor/wire, where it is built), python, or whichever there is."""

    intra_op_threads: int = Field(default=1, ge=1, le=256)
    """Threads that compute one run of a model."""

    tensorrt: bool = False
    """Whether TensorRT runs what it can of each model; needs a GPU, and fails at start where a session lacks it."""

    operator_domains: str = ""
    """Operator domains beside ONNX's own that models may use, separated by commas, such as `com.microsoft`."""

    operator_libraries: str = ""
    """Files with operators that onnxruntime does not have itself, separated by commas."""

    memory_mib: int = Field(default=0, ge=0, le=2**31 - 1)
    """Memory that models may take together; the one asked longest ago leaves for another, and is loaded again when it
    is asked. 0: no bound."""

    request_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, le=2**31 - 1)
    """Largest request message; a larger one ends with RESOURCE_EXHAUSTED before it is read whole."""

    request_rows: int = Field(default=4096, ge=1, le=1_000_000)
    """Rows one request may hold."""

    request_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds after which a request that named no deadline is given up."""

    key_cache_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds within which a revoked key stops working here."""

    server_name: str = Field(default="lepton", min_length=1, max_length=100)
    """What the inference protocol's clients are told this server is called."""

    shared_memory: Literal["local", "off"] = "local"
    """Whether callers on this machine may register shared memory (scope `admin`) and name it in requests."""

    log_share: float = Field(default=0.05, ge=0, le=1)
    """Share of requests whose answers go to the predictions topic; streamed rows always do."""

    log_inputs: Literal["none", "digest"] = "none"
    """Whether those answers carry a SHA-256 of the inputs. Whoever can guess the inputs can check the guess by it."""

    @property
    def allowed_domains(self) -> frozenset[str]:
        return frozenset(_parts(self.operator_domains))

    @property
    def libraries(self) -> tuple[str, ...]:
        return _parts(self.operator_libraries)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())
