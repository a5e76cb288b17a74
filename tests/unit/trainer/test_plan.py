"""Command, pipeline and registry resolved into one plan; what cannot be planned is named."""

import pytest

from lepton.contracts import pipeline
from lepton.contracts.pb import training_pb2
from services.trainer.core.failure import RunFailed
from services.trainer.core.plan import Plan, Range, Snapshot, family_and_parameters, planned_fields
from tests.unit.trainer import samples

SPEC = pipeline.parse("""
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: m}
events:
  fields:
    x: {type: float}
    country: {type: category, categories: [us, de]}
  label: {field: y, type: bool}
clean: {missing: {default: median}}
model: {family: mlp, parameters: {hidden: [8], epochs: 5}}
""")
TRAIN = training_pb2.TRAINING_KIND_TRAIN


def command(**values: object) -> training_pb2.TrainingCommand:
    return training_pb2.TrainingCommand(command_id="c", model="m", **values)  # type: ignore[arg-type]


def test_the_pipelines_model_block_counts_where_the_command_says_nothing() -> None:
    family, parameters = family_and_parameters(SPEC, command(kind=TRAIN))
    assert (family, parameters.hidden, parameters.epochs) == ("mlp", (8,), 5)


def test_the_command_overrides_family_and_parameters() -> None:
    family, parameters = family_and_parameters(
        SPEC, command(kind=TRAIN, family="logistic_regression", parameters_json='{"learning_rate": 0.5}'))
    assert (family, parameters.hidden, parameters.epochs, parameters.learning_rate) == (
        "logistic_regression", None, 5, 0.5)


@pytest.mark.parametrize(("said", "given", "image"), [
    ("image: [2, 3]", "", (2, 3)), ("image: [2, 3]", '{"image": [3, 2]}', (3, 2)), ("dims: 6", "", None)])
def test_a_cnn_folds_its_images_as_their_field_says(said: str, given: str, image: tuple[int, ...] | None) -> None:
    spec = pipeline.parse(f"""
apiVersion: lepton/v1
kind: Pipeline
metadata: {{name: m}}
events:
  fields: {{shown: {{type: vector, {"dims: 6, " if said != "dims: 6" else ""}{said}}}}}
  label: {{field: y, type: bool}}
model: {{family: cnn}}
""")
    assert family_and_parameters(spec, command(kind=TRAIN, parameters_json=given))[1].image == image
    assert family_and_parameters(spec, command(kind=TRAIN, family="mlp"))[1].image is None


@pytest.mark.parametrize(("family", "parameters", "why"), [
    ("forest", "", "there is no model family `forest`"),
    ("linear_regression", "", "linear_regression does not fit classification"),
    ("", "{", "not JSON"), ("", "[1]", "must be a JSON object"),
    ("", '{"epochs": 0}', "parameter epochs"), ("", '{"speed": 1}', "parameter speed"),
    ("logistic_regression", '{"hidden": [3]}', "has no parameter `hidden`")])
def test_what_cannot_be_trained_is_a_parameter_failure(family: str, parameters: str, why: str) -> None:
    with pytest.raises(RunFailed, match=why) as failure:
        family_and_parameters(SPEC, command(kind=TRAIN, family=family, parameters_json=parameters))
    assert failure.value.failure_class == "parameter"
    assert failure.value.remedy


def test_fields_carry_their_own_policy_for_missing_values() -> None:
    assert [(one.name, one.type, one.missing.kind, one.categories) for one in planned_fields(SPEC)] == [
        ("x", "float", "median", None), ("country", "category", "mode", ("us", "de"))]


def test_a_snapshot_is_named_by_what_it_holds() -> None:
    ranges = [Range(stream="features", pipeline="m", partition=place, first=0, next=5, digests=("a", "b"))
              for place in range(2)]
    snapshot = Snapshot(ranges=tuple(ranges))
    assert Snapshot(ranges=tuple(reversed(ranges))).digest() == snapshot.digest()
    changed = ranges[0].model_copy(update={"digests": ("a", "c")})
    assert Snapshot(ranges=(changed, ranges[1])).digest() != snapshot.digest()


def test_a_plan_survives_its_written_form() -> None:
    plan, _ = samples.mixed()
    assert Plan.from_json(plan.to_json()) == plan
