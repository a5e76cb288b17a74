"""Open Inference Protocol messages become arrays checked against the signature, and back, without loss."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lepton.contracts.pb import grpc_service_pb2 as oip
from lepton.contracts.pb import models_pb2
from lepton.errors import Invalid
from services.predictor.core import tensors
from services.predictor.core.signature import DTYPES, Array, Feed, Signature, of_manifest
from services.predictor.core.tensors import _CONTENTS, Asked, Tensors, requested
from tests.harness.onnx_models import Linear
from tests.unit.predictor.conftest import FIELDS

MAX = 100
NUMERIC = sorted(set(DTYPES) - {"BYTES"})
TYPED = sorted(set(_CONTENTS) - {"BYTES"})


def tiny() -> Signature:
    linear = Linear(FIELDS)
    return of_manifest(linear.manifest(linear.build()))


def one(datatype: str, tail: tuple[int, ...] = ()) -> Signature:
    """A signature with one input `x` and one output `x` of the same type."""
    spec = models_pb2.TensorSpec(name="x", datatype=datatype, shape=[-1, *tail])
    return of_manifest(models_pb2.ModelManifest(inputs=[spec], outputs=[spec]))


def copy(request: oip.ModelInferRequest) -> oip.ModelInferRequest:
    return oip.ModelInferRequest.FromString(request.SerializeToString())


def read(request: oip.ModelInferRequest, signature: Signature, max_rows: int = MAX) -> Feed:
    """The feed of a request; when the same form comes again it must be read the same."""
    reader = Tensors(signature, "7", max_rows)
    first, again = reader.read(copy(request)), reader.read(copy(request))
    assert (first.request_id, first.outputs, first.empty) == (again.request_id, again.outputs, again.empty)
    assert first.feed.rows == again.feed.rows
    assert first.feed.arrays.keys() == again.feed.arrays.keys() == signature.inputs.keys()
    for name, array in first.feed.arrays.items():
        other = again.feed.arrays[name]
        assert array.dtype == other.dtype == signature.inputs[name].dtype
        assert array.tolist() == other.tolist() or array.tobytes() == other.tobytes()
    return first.feed


def write(outputs: dict[str, Array], request: oip.ModelInferRequest, signature: Signature) -> oip.ModelInferResponse:
    """The response to a request, the same whether its form was known or not."""
    asked = Asked(Feed({}, 0), request.id, requested(request, signature), None)
    response = Tensors(signature, "7", MAX).write(outputs, asked, request.model_name)
    if request.raw_input_contents:
        reader = Tensors(signature, "7", MAX)
        assert reader.write(outputs, reader.read(copy(request)), request.model_name) == response
    return response


def ask(*inputs: tuple[str, str, list[int], bytes]) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="tiny", id="r1")
    for name, datatype, shape, raw in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request


def prefixed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def whole(rows: int = 2) -> oip.ModelInferRequest:
    return ask(("amount", "FP64", [rows], np.arange(rows, dtype="<f8").tobytes()),
               ("count", "INT64", [rows], np.arange(rows, dtype="<i8").tobytes()),
               ("known", "BOOL", [rows], b"\x01" * rows),
               ("country", "BYTES", [rows], prefixed(*[b"us"] * rows)))


@given(st.sampled_from(NUMERIC), st.data())
def test_raw_values_of_every_type_come_back_bit_for_bit(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays_of.arrays(DTYPES[datatype], st.tuples(st.integers(1, 9), st.just(3))))
    request = ask(("x", datatype, list(array.shape), array.tobytes()))
    signature = one(datatype, (3,))
    feed = read(request, signature, MAX)
    assert feed.arrays["x"].dtype == array.dtype
    response = write(feed.arrays, request, signature)
    assert response.raw_output_contents[0] == array.tobytes()
    assert list(response.outputs[0].shape) == list(array.shape)
    assert (response.outputs[0].datatype, response.model_version, response.id) == (datatype, "7", "r1")


@given(st.sampled_from(TYPED), st.data())
def test_typed_values_equal_raw_ones(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays_of.arrays(DTYPES[datatype], st.integers(1, 9)))
    typed = oip.ModelInferRequest(model_name="tiny")
    tensor = typed.inputs.add(name="x", datatype=datatype, shape=[len(array)])
    getattr(tensor.contents, _CONTENTS[datatype]).extend(array.tolist())
    raw = ask(("x", datatype, [len(array)], array.tobytes()))
    signature = one(datatype)
    assert np.array_equal(read(typed, signature, MAX).arrays["x"],
                          read(raw, signature, MAX).arrays["x"], equal_nan=array.dtype.kind == "f")


@given(st.lists(st.text(), min_size=1, max_size=9))
def test_text_travels_raw_typed_and_back(texts: list[str]) -> None:
    items = [text.encode() for text in texts]
    signature = one("BYTES")
    raw = ask(("x", "BYTES", [len(items)], prefixed(*items)))
    typed = oip.ModelInferRequest()
    typed.inputs.add(name="x", datatype="BYTES", shape=[len(items)]).contents.bytes_contents.extend(items)
    for request in (raw, typed):
        feed = read(request, signature, MAX)
        assert feed.arrays["x"].tolist() == texts
        assert write(feed.arrays, request, signature).raw_output_contents[0] == prefixed(*items)


def test_output_bytes_are_not_decoded() -> None:
    outputs: dict[str, Array] = {"x": np.array([b"\xff"], dtype=object)}
    response = write(outputs, oip.ModelInferRequest(), one("BYTES"))
    assert response.raw_output_contents[0] == prefixed(b"\xff")


def test_a_byte_other_than_one_is_still_only_true() -> None:
    feed = read(ask(("x", "BOOL", [3], b"\x00\x01\x02")), one("BOOL"), MAX)
    assert feed.arrays["x"].tolist() == [False, True, True]
    assert feed.arrays["x"].tobytes() == b"\x00\x01\x01"


def test_an_absent_mask_means_nothing_is_missing() -> None:
    feed = read(whole(), tiny(), MAX)
    assert feed.rows == 2
    assert not feed.arrays["_missing"].any()
    assert feed.arrays["_missing"].shape == (2, 4)


def test_a_mask_that_was_sent_is_used() -> None:
    request = whole()
    request.inputs.add(name="_missing", datatype="BOOL", shape=[2, 4])
    request.raw_input_contents.append(b"\x00\x01\x00\x00" * 2)
    assert read(request, tiny(), MAX).arrays["_missing"][:, 1].all()


def test_an_optional_field_that_was_left_out_is_missing_in_every_row() -> None:
    linear = Linear(FIELDS)
    manifest = linear.manifest(linear.build())
    for spec in manifest.inputs:
        spec.optional = True
    request = whole()
    del request.inputs[3], request.raw_input_contents[3], request.inputs[1], request.raw_input_contents[1]
    feed = read(request, of_manifest(manifest), MAX)
    assert feed.arrays["_missing"].tolist() == [[False, True, False, True]] * 2
    assert feed.arrays["country"].tolist() == ["", ""]


def test_asked_outputs_come_in_the_order_asked() -> None:
    signature = tiny()
    signature.outputs["other"] = signature.outputs["prediction"]
    request = oip.ModelInferRequest()
    request.outputs.add(name="other")
    outputs = {"prediction": np.zeros(1, dtype="<f4"), "other": np.ones(1, dtype="<f4")}
    response = write(outputs, request, signature)
    assert [tensor.name for tensor in response.outputs] == ["other"]
    assert response.raw_output_contents == [np.ones(1, dtype="<f4").tobytes()]


def wrong(*inputs: tuple[str, str, list[int], bytes]) -> oip.ModelInferRequest:
    """`whole`, with inputs of the same names replaced and others added."""
    request = whole()
    for name, datatype, shape, raw in inputs:
        index = next((i for i, tensor in enumerate(request.inputs) if tensor.name == name), len(request.inputs))
        if index == len(request.inputs):
            request.inputs.add()
            request.raw_input_contents.append(b"")
        request.inputs[index].CopyFrom(
            oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape))
        request.raw_input_contents[index] = raw
    return request


@pytest.mark.parametrize(("request_", "field", "said"), [
    (oip.ModelInferRequest(), "inputs", "no inputs"),
    (wrong(("surplus", "FP64", [2], b"")), "surplus", "takes no tensor"),
    (wrong(("amount", "FP32", [2], b"\x00" * 8)), "amount", "takes FP64"),
    (wrong(("amount", "", [2], b"\x00" * 8)), "amount", "of no datatype"),
    (wrong(("amount", "FP64", [2, 1], b"\x00" * 16)), "amount", r"the model takes \[-1\]"),
    (wrong(("amount", "FP64", [], b"\x00" * 8)), "amount", r"the model takes \[-1\]"),
    (wrong(("count", "INT64", [3], b"\x00" * 24)), "count", "3 rows, the inputs before it 2"),
    (wrong(("amount", "FP64", [0], b"")), "amount", "a request holds 1 to 100"),
    (wrong(("amount", "FP64", [-2], b"")), "amount", "a request holds 1 to 100"),
    (wrong(("amount", "FP64", [101], b"\x00" * 808)), "amount", "a request holds 1 to 100"),
    (wrong(("amount", "FP64", [2], b"\x00" * 15)), "amount", "carries 15 bytes"),
    (wrong(("known", "BOOL", [2], b"\x00")), "known", "needs 2"),
    (wrong(("country", "BYTES", [2], prefixed(b"us"))), "country", "carries 1 elements"),
    (wrong(("country", "BYTES", [2], b"\x00\x00\x00")), "country", "ends inside an element"),
    (wrong(("country", "BYTES", [2], b"\xff\xff\xff\xffus")), "country", "ends inside an element"),
    (wrong(("country", "BYTES", [2], prefixed(b"us", b"\xff"))), "country", "not UTF-8"),
    (wrong(("_missing", "BOOL", [2, 3], b"\x00" * 6)), "_missing", r"takes \[-1, 4\]"),
])
def test_what_does_not_fit_is_invalid_naming_the_tensor(request_: oip.ModelInferRequest, field: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as raised:
        read(request_, tiny(), MAX)
    assert raised.value.field == field
    assert raised.value.remedy


def test_a_field_that_is_needed_must_be_sent() -> None:
    request = whole()
    del request.inputs[0], request.raw_input_contents[0]
    with pytest.raises(Invalid, match="`amount` was not sent"):
        read(request, tiny(), MAX)


def test_a_tensor_sent_twice_is_invalid() -> None:
    request = whole()
    request.inputs.add().CopyFrom(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    with pytest.raises(Invalid, match="sent twice"):
        read(request, tiny(), MAX)


def test_raw_contents_must_be_one_an_input() -> None:
    request = whole()
    del request.raw_input_contents[0]
    with pytest.raises(Invalid, match="3 raw contents for 4 inputs"):
        read(request, tiny(), MAX)


def test_typed_contents_beside_raw_ones_are_invalid() -> None:
    request = whole()
    request.inputs[0].contents.fp64_contents.append(1.0)
    with pytest.raises(Invalid, match="beside raw contents"):
        read(request, tiny(), MAX)


def typed(datatype: str, **contents: list[object]) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=[1], contents=oip.InferTensorContents(**contents))  # type: ignore[arg-type]
    return request


@pytest.mark.parametrize(("datatype", "contents", "said"), [
    ("FP16", {"fp32_contents": [1.0]}, "raw_input_contents"),
    ("FP32", {"fp64_contents": [1.0]}, "carries 0 elements"),
    ("FP32", {}, "carries 0 elements"),
    ("INT8", {"int_contents": [128]}, "outside INT8"),
    ("UINT16", {"uint_contents": [65536]}, "outside UINT16"),
    ("BYTES", {"bytes_contents": [b"a", b"b"]}, "carries 2 elements"),
])
def test_typed_contents_that_do_not_fit_are_invalid(datatype: str, contents: dict[str, list[object]],
                                                    said: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(typed(datatype, **contents), one(datatype), MAX)
    assert said in str(raised.value)


def test_an_output_that_does_not_exist_is_invalid() -> None:
    request = oip.ModelInferRequest()
    request.outputs.add(name="probability")
    with pytest.raises(Invalid, match="no output `probability`"):
        requested(request, tiny())


@given(st.binary(max_size=40))
def test_any_text_bytes_are_read_or_invalid(raw: bytes) -> None:
    try:
        feed = read(ask(("x", "BYTES", [1], raw)), one("BYTES"), MAX)
    except Invalid as invalid:
        assert invalid.field == "x"
    else:
        assert prefixed(feed.arrays["x"][0].encode()) == raw


@given(st.lists(st.lists(st.floats(), min_size=2, max_size=2), min_size=1, max_size=5))
def test_requests_of_one_form_each_get_their_own_values(values: list[list[float]]) -> None:
    reader = Tensors(tiny(), "7", MAX)
    for number, amounts in enumerate(values):
        request = whole()
        request.id = str(number)
        request.raw_input_contents[0] = np.array(amounts).tobytes()
        asked = reader.read(request)
        assert asked.feed.arrays["amount"].tobytes() == np.array(amounts).tobytes()
        assert asked.feed.arrays["country"].tolist() == ["us", "us"]
        assert asked.request_id == str(number)


@pytest.mark.parametrize(("index", "raw", "field"), [
    (0, b"\x00" * 15, "amount"), (1, b"", "count"), (2, b"\x01" * 3, "known"), (3, b"\x02", "country"),
    (3, prefixed(b"us"), "country"), (3, prefixed(b"\xff", b"us"), "country"),
])
def test_a_known_form_does_not_excuse_wrong_values(index: int, raw: bytes, field: str) -> None:
    reader = Tensors(tiny(), "7", MAX)
    reader.read(whole())
    request = whole()
    request.raw_input_contents[index] = raw
    with pytest.raises(Invalid) as raised:
        reader.read(request)
    assert raised.value.field == field


def test_a_known_form_with_too_few_values_is_invalid() -> None:
    reader = Tensors(tiny(), "7", MAX)
    reader.read(whole())
    request = whole()
    del request.raw_input_contents[3]
    with pytest.raises(Invalid, match="3 raw contents for 4 inputs"):
        reader.read(request)


def test_forms_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_FORMS", 2)
    monkeypatch.setattr(tensors, "MAX_FORM_BYTES", 200)
    reader = Tensors(tiny(), "7", MAX)
    for rows in range(1, 6):
        assert reader.read(whole(rows)).feed.rows == rows
        assert len(reader._forms) <= 2
    large = whole()
    large.parameters["note"].string_param = "x" * 300
    before = set(reader._forms)
    reader.read(large)
    assert set(reader._forms) == before


def test_an_output_of_free_size_is_described_by_what_it_is() -> None:
    spec = models_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, -1])
    signature = of_manifest(models_pb2.ModelManifest(inputs=[spec], outputs=[spec]))
    request = ask(("x", "FP32", [2, 3], b"\x00" * 24))
    outputs: dict[str, Array] = {"x": np.zeros((2, 5), dtype="<f4")}
    assert list(write(outputs, request, signature).outputs[0].shape) == [2, 5]
