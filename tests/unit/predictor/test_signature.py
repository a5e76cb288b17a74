"""A manifest becomes a signature, or is refused with what is wrong in it."""

import pytest

from lepton.contracts.pb import models_pb2
from lepton.errors import Refused
from services.predictor.core.answers import check
from services.predictor.core.signature import of_manifest
from tests.harness.onnx_models import Linear


def manifest(linear: Linear) -> models_pb2.ModelManifest:
    return linear.manifest(linear.build())


def test_fields_keep_their_order_and_leave_the_mask_out() -> None:
    signature = of_manifest(manifest(Linear({"b": "float", "a": "text"})))
    assert [field.name for field in signature.fields] == ["b", "a"]
    assert signature.takes_mask
    assert signature.inputs["_missing"].shape == (-1, 2)


@pytest.mark.parametrize(("change", "said"), [
    (lambda m: m.inputs.add(name="x", datatype="COMPLEX", shape=[-1]), "unknown datatype"),
    (lambda m: m.inputs.add(name="x", datatype="FP32", shape=[4]), "batch dimension"),
    (lambda m: m.inputs.add(name="x", datatype="FP32"), "batch dimension"),
    (lambda m: m.inputs.add(name="a", datatype="FP32", shape=[-1]), "twice"),
    (lambda m: m.inputs.add(name="y", datatype="FP32", shape=[-1]), "_missing"),
    (lambda m: m.ClearField("outputs"), "no inputs or no outputs"),
    (lambda m: m.ClearField("inputs"), "no inputs or no outputs"),
])
def test_a_manifest_that_cannot_be_served_is_refused(change: object, said: str) -> None:
    changed = manifest(Linear({"a": "float"}))
    assert callable(change)
    change(changed)
    with pytest.raises(Refused, match=said):
        of_manifest(changed)


def test_outputs_that_do_not_fit_the_task_are_refused() -> None:
    regression = manifest(Linear({"a": "float"}))
    check(regression, of_manifest(regression))
    regression.task = models_pb2.MODEL_TASK_CLASSIFICATION
    with pytest.raises(Refused, match="task"):
        check(regression, of_manifest(regression))


def test_probabilities_must_be_as_many_as_classes() -> None:
    classifier = manifest(Linear({"a": "float"}, classes=("no", "yes")))
    check(classifier, of_manifest(classifier))
    classifier.classes.append("perhaps")
    with pytest.raises(Refused, match="task"):
        check(classifier, of_manifest(classifier))
