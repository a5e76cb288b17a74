"""The only place that knows onnxruntime: where a model really runs, how it is warmed up, and how one batch is run."""

import contextlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from lepton.clock import Clock
from lepton.errors import Invalid, Refused, Unavailable
from services.predictor.core.signature import Array, Signature, TensorType

Device = Literal["auto", "cuda", "cpu"]

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"

EXTENSIONS = "ai.onnx.contrib"
"""Domain of the operators in onnxruntime-extensions."""

_NATIVE_ERRORS = (native.Fail, native.RuntimeException, native.NotImplemented, native.InvalidGraph,
                  native.InvalidProtobuf, native.EPFail, native.EngineError, native.NoModel, native.NoSuchFile,
                  native.NotFound, native.ModelRequiresCompilation, native.DeviceReset, RuntimeError, ValueError,
                  TypeError)

_ONNX_TYPES = {
    "BOOL": "tensor(bool)", "BYTES": "tensor(string)", "FP16": "tensor(float16)", "FP32": "tensor(float)",
    "FP64": "tensor(double)", "INT8": "tensor(int8)", "INT16": "tensor(int16)", "INT32": "tensor(int32)",
    "INT64": "tensor(int64)", "UINT8": "tensor(uint8)", "UINT16": "tensor(uint16)", "UINT32": "tensor(uint32)",
    "UINT64": "tensor(uint64)",
}

_PROBE = bytes.fromhex(
    "080a3a390a100a016112016222084964656e746974791201675a100a0161120b0a09080112050a0312014e62100a0162120b0a0908"
    "0112050a0312014e42040a001014")
"""The smallest ONNX model, one Identity of FP32 [N]: shows which provider a session really gets, before any model."""

_FATAL = 4
"""onnxruntime's severity of what is still printed."""

_WARM_UP_RUNS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """`device` as asked for; `intra_op_threads` computing threads of one run.

    `tensorrt`: it runs what it can of a model on the GPU, CUDA the rest. Models may use operators of `domains` beside
    ONNX's own; `libraries` are files with operators that onnxruntime itself does not have.
    """

    device: Device = "auto"
    intra_op_threads: int = 1
    tensorrt: bool = False
    domains: frozenset[str] = frozenset()
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """Best observed seconds of a run of one row, and of one of `rows` rows."""

    single_s: float
    batch_s: float
    rows: int


def settle_device(options: Options) -> Options:
    """`auto` settled to what a session really gets on this machine, so that later loads do not try in vain.

    Raises Unavailable when CUDA or TensorRT was asked for and a session does not get it: the available providers list
    them whenever the build has them, and onnxruntime falls back to the CPU without raising. The same when a library of
    operators is not to be had.
    """
    options = _with_libraries(options)
    settled = replace(options, device=_settled(options)) if options.device != "cpu" else options
    if not options.tensorrt:
        return settled
    found = _open(_PROBE, settled).get_providers()[0] if settled.device == "cuda" else CPU
    if found != TENSORRT:
        raise Unavailable(f"TensorRT was asked for, but a session gets {found}", field="LEPTON_PREDICTOR_TENSORRT",
                          remedy="install TensorRT beside onnxruntime-gpu, or leave the setting out")
    return settled


def _settled(options: Options) -> Literal["cuda", "cpu"]:
    if CUDA in ort.get_available_providers():
        # That a library is absent is told below, in one line; the runtime would print its own in colour.
        ort.set_default_logger_severity(_FATAL)
        notes = _preload()
        try:
            # What is refused here is no library of operators: they were tried before.
            provider = _open(_PROBE, Options("cuda", options.intra_op_threads)).get_providers()[0]
        except _NATIVE_ERRORS as error:
            provider, notes = CPU, f"{notes} {error}".strip()
    else:
        provider, notes = CPU, "this build of onnxruntime has no CUDA provider"
    if provider == CUDA:
        return "cuda"
    if options.device == "cuda":
        reason = f": {notes}" if notes else ""
        raise Unavailable(f"CUDA was asked for, but a session does not get it{reason}", field="LEPTON_DEVICE",
                          remedy="install a GPU driver and onnxruntime-gpu with its CUDA libraries, or set auto or cpu")
    return "cpu"


def _with_libraries(options: Options) -> Options:
    """The same with the library of onnxruntime-extensions, where its domain is allowed; every library was opened."""
    if EXTENSIONS in options.domains:
        try:
            extensions = importlib.import_module("onnxruntime_extensions")
        except ImportError as error:
            raise Unavailable(f"operators of `{EXTENSIONS}` are allowed, but onnxruntime-extensions is not installed",
                              field="LEPTON_PREDICTOR_OPERATOR_DOMAINS",
                              remedy="install it, or leave the domain out") from error
        options = replace(options, libraries=(*options.libraries, extensions.get_library_path()))
    for library in options.libraries:
        try:
            ort.SessionOptions().register_custom_ops_library(library)
        except (*_NATIVE_ERRORS, native.InvalidArgument) as error:
            raise Unavailable(f"operators cannot be had from `{library}`: {_first_line(error)}",
                              field="LEPTON_PREDICTOR_OPERATOR_LIBRARIES",
                              remedy="name a library built for this onnxruntime, or leave it out") from error
    return options


def provider_of(settled: Options) -> str:
    """The execution provider that sessions use under settled options."""
    if settled.device != "cuda":
        return CPU
    return TENSORRT if settled.tensorrt else CUDA


class Session:
    """One model in memory. `run` may be called from any thread, also from several at once."""

    def __init__(self, data: bytes, signature: Signature, options: Options) -> None:
        """Blocks while loading. Raises Refused when the file does not load or is not what the signature says,
        Unavailable when CUDA was asked for and this session does not use it."""
        try:
            self._session = _open(data, options)
        except (*_NATIVE_ERRORS, native.InvalidArgument) as error:
            raise Refused(f"onnxruntime does not load the model: {_first_line(error)}",
                          remedy="publish the model again") from error
        self.provider: str = self._session.get_providers()[0]
        if self.provider != provider_of(options):
            raise Unavailable(f"the session runs on {self.provider} although {provider_of(options)} was asked for",
                              field="LEPTON_DEVICE", remedy="free the GPU, or set auto or cpu")
        _compare("input", signature.inputs, self._session.get_inputs() + self._session.get_overridable_initializers())
        _compare("output", signature.outputs, self._session.get_outputs())
        self._signature = signature
        self._names = list(signature.outputs)
        numeric = all(tensor.datatype != "BYTES" for tensor in (*signature.inputs.values(),
                                                                *signature.outputs.values()))
        # Text never leaves the host, so binding it to a device gains nothing.
        self._bound = self.provider != CPU and numeric

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. Raises Invalid when the runtime refuses these values, Unavailable when it fails."""
        try:
            values = self._run_bound(arrays) if self._bound else self._session.run(self._names, arrays)
        except native.InvalidArgument as error:
            raise Invalid(f"the model refuses these values: {_first_line(error)}") from error
        except _NATIVE_ERRORS as error:
            raise Unavailable(f"the model failed: {_first_line(error)}",
                              remedy="try again; if it persists, roll the model back") from error
        return dict(zip(self._names, values, strict=True))

    def warm_up(self, rows: int, clock: Clock) -> Timing:
        """Run neutral values until first-use costs are paid, and measure.

        Raises Refused when an answer does not have a row for each row asked.
        """
        return Timing(self._timed(1, clock), self._timed(rows, clock), rows)

    def _timed(self, rows: int, clock: Clock) -> float:
        arrays = {name: tensor.absent(rows) for name, tensor in self._signature.inputs.items()}
        best = float("inf")
        for _ in range(_WARM_UP_RUNS):
            started = clock.monotonic()
            outputs = self.run(arrays)
            best = min(best, clock.monotonic() - started)
            for name, tensor in self._signature.outputs.items():
                if outputs[name].shape[:1] != (rows,) or outputs[name].ndim != len(tensor.tail) + 1:
                    raise Refused(f"output `{name}` has shape {list(outputs[name].shape)} for {rows} rows",
                                  field=name, remedy="export the model with a free batch dimension")
        return best

    def _run_bound(self, arrays: Mapping[str, Array]) -> list[Array]:
        binding = self._session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return cast(list[Array], binding.copy_outputs_to_cpu())


def _open(data: bytes, options: Options) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL  # what goes wrong is raised; the runtime's own lines would only double it
    # Waiting threads that spin would take the core the event loop needs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Whatever the bytes begin with, they are read as ONNX: another format would pass by the operator check.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    for library in options.libraries:
        settings.register_custom_ops_library(library)
    providers = [CUDA, CPU] if options.device == "cuda" else [CPU]
    if options.device == "cuda" and options.tensorrt:
        providers.insert(0, TENSORRT)
    return ort.InferenceSession(data, settings, providers=providers)


def _preload() -> str:
    """Load the CUDA libraries that came as Python packages; returns what the runtime printed about it."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is None:
        return ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        preload(directory="")
    return " ".join(printed.getvalue().split())


def _compare(what: str, declared: Mapping[str, TensorType], found: list[ort.NodeArg]) -> None:
    types = {argument.name: argument.type for argument in found}
    for name, tensor in declared.items():
        if types.get(name) != _ONNX_TYPES[tensor.datatype]:
            raise Refused(f"{what} `{name}` is {types.get(name, 'not in the file')}, its manifest says "
                          f"{tensor.datatype}", field=name, remedy="publish the model again")
    needed = set(types) if what == "input" else set()
    surplus = sorted(needed - set(declared))
    if surplus:
        raise Refused(f"the file takes inputs its manifest does not name: {', '.join(surplus)}", field=surplus[0],
                      remedy="publish the model again")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
