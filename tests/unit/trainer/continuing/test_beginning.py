"""Which version a run begins with, by its command, its Pipeline and the registry; what cannot be is named."""

import pytest

from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Transfer
from lepton.contracts.pb import models_pb2, training_pb2
from services.trainer.core.continuing.beginning import Beginning, beginning, named_version
from services.trainer.core.failure import RunFailed

TEXT = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: m}
events:
  fields:
    x: {type: float}
  label: {field: y, type: bool}
model: {family: mlp}
"""
SPEC = pipeline.parse(TEXT)
COLD = pipeline.parse(TEXT.replace("family: mlp", "family: mlp, train: {warm_start: false}"))
TAUGHT = pipeline.parse(TEXT.replace(
    "family: mlp",
    "family: mlp, transfer: {from: {model: teacher, version: 2}, freeze: ['layers.0.*'], head: replace}"))
FINE_TUNE, TRAIN = training_pb2.TRAINING_KIND_FINE_TUNE, training_pb2.TRAINING_KIND_TRAIN
EMPTY = models_pb2.ModelState(model="m")


def command(**values: object) -> training_pb2.TrainingCommand:
    return training_pb2.TrainingCommand(command_id="c", model="m", **values)  # type: ignore[arg-type]


def registry(rows: int = 100, family: str = "mlp", digest: str = "", weights: str = "w", champion: int = 3,
             model: str = "m") -> models_pb2.ModelState:
    lineage = models_pb2.Lineage(train_rows=rows, weights_sha256=weights)
    manifest = models_pb2.ModelManifest(family=family, input_schema_digest=digest or SPEC.input_schema_digest(),
                                        lineage=lineage)
    return models_pb2.ModelState(model=model, champion=champion,
                                 versions=[models_pb2.ModelVersion(version=3, manifest=manifest)])


def test_a_run_by_row_count_continues_a_champion_that_learnt_from_enough() -> None:
    by_rows = command(kind=TRAIN, reason="rows")
    assert beginning(by_rows, SPEC, "mlp", registry(), 150) == Beginning("m", 3, asked=False)
    assert beginning(by_rows, SPEC, "mlp", registry(), 250) is None
    assert beginning(by_rows, COLD, "mlp", registry(), 150) is None
    assert beginning(by_rows, SPEC, "logistic_regression", registry(), 150) is None
    assert beginning(by_rows, SPEC, "mlp", registry(digest="other"), 150) is None
    assert beginning(by_rows, SPEC, "mlp", registry(weights=""), 150) is None
    assert beginning(by_rows, SPEC, "mlp", EMPTY, 150) is None


@pytest.mark.parametrize("reason", ["command", "recovery"])
def test_a_commanded_or_recovery_train_starts_cold(reason: str) -> None:
    assert beginning(command(kind=TRAIN, reason=reason), SPEC, "mlp", registry(), 100) is None


def test_a_fine_tune_continues_the_version_it_names_or_the_champion() -> None:
    assert beginning(command(kind=FINE_TUNE), COLD, "mlp", registry(), 9999) == Beginning("m", 3, asked=True)
    assert beginning(command(kind=FINE_TUNE, parent_version=3), COLD, "mlp", registry(champion=0), 9999) == \
        Beginning("m", 3, asked=True)
    assert beginning(command(kind=FINE_TUNE, parent_model="other"), SPEC, "mlp", registry(), 9) == \
        Beginning("other", 0, asked=True, transfer=Transfer())


def test_what_would_begin_with_nothing_begins_where_the_pipeline_says() -> None:
    for kind, reason in ((TRAIN, "rows"), (TRAIN, "command"), (FINE_TUNE, "command")):
        begun = beginning(command(kind=kind, reason=reason), TAUGHT, "mlp", EMPTY, 100)
        assert begun is not None
        assert (begun.model, begun.version, begun.asked) == ("teacher", 2, True)
        assert begun.transfer is not None
        assert (begun.transfer.freeze, begun.transfer.head) == (("layers.0.*",), "replace")
    assert beginning(command(kind=TRAIN, reason="recovery"), TAUGHT, "mlp", EMPTY, 100) is None


def test_a_head_is_replaced_once_and_then_goes_on() -> None:
    for kind, reason in ((TRAIN, "rows"), (FINE_TUNE, "command")):
        begun = beginning(command(kind=kind, reason=reason), TAUGHT, "mlp", registry(), 100)
        assert begun is not None
        assert begun.model == "m"
        assert begun.transfer is not None
        assert (begun.transfer.freeze, begun.transfer.head) == (("layers.0.*",), "auto")
    told = beginning(command(kind=FINE_TUNE, transfer_json='{"head": "replace"}'), SPEC, "mlp", registry(), 100)
    assert told is not None
    assert told.transfer is not None
    assert told.transfer.head == "replace"


@pytest.mark.parametrize(("values", "why"), [
    ({"transfer_json": '{"freze": []}'}, "transfer.freze"), ({"transfer_json": "{"}, "transfer"),
    ({"transfer_json": '{"from": {"model": "a"}}'}, "transfer.from"),
    ({"kind": TRAIN, "parent_model": "other"}, "kind train takes no parent_model"), ({}, "no champion to fine-tune")])
def test_what_cannot_be_asked_for_is_a_parameter_failure(values: dict[str, object], why: str) -> None:
    with pytest.raises(RunFailed, match=why) as failed:
        beginning(command(**{"kind": FINE_TUNE, **values}), SPEC, "mlp", EMPTY, 100)
    assert failed.value.failure_class == "parameter"
    assert failed.value.remedy


@pytest.mark.parametrize(("version", "theirs", "why", "remedy"), [
    (7, registry(), "version 7 of m is not kept", "one of its versions: 3"),
    (0, registry(champion=0), "m has no champion", "one of its versions: 3"),
    (0, EMPTY, "there is no model m", "lepton models"),
    (3, registry(family="autoencoder"), "it is a autoencoder, not a mlp", "model.family: autoencoder"),
    (3, registry(family="stream"), "it is a stream, not a mlp", "train instead"),
    (3, registry(weights=""), "weights were not kept", "train instead")])
def test_a_version_that_cannot_be_continued_is_named(
        version: int, theirs: models_pb2.ModelState, why: str, remedy: str) -> None:
    with pytest.raises(RunFailed, match=why) as failed:
        named_version(Beginning("m", version, asked=True), theirs, "mlp")
    assert failed.value.failure_class == "parameter"
    assert remedy in failed.value.remedy


def test_a_version_that_is_not_named_is_the_champion() -> None:
    assert named_version(Beginning("m", 0, asked=True), registry(), "mlp").version == 3
