"""Which version's weights a run begins with, and whether they can be continued; no weights are looked at here."""

from dataclasses import dataclass

from pydantic import ValidationError

from lepton.contracts.modelling.blocks import Start, Transfer
from lepton.contracts.modelling.families import AUTO, FAMILIES
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.pb.training_pb2 import TRAINING_KIND_FINE_TUNE, TrainingCommand
from lepton.contracts.pipeline import Pipeline
from services.trainer.core.failure import bad_parameter

RECOVERY, ROWS = "recovery", "rows"


@dataclass(frozen=True, slots=True)
class Beginning:
    """A version to begin with; `asked`: the run fails where it cannot, else it begins with nothing."""

    model: str
    version: int
    asked: bool
    transfer: Transfer | None = None


def beginning(command: TrainingCommand, pipeline: Pipeline, family: str, own: ModelState, label_rows: int,
              ) -> Beginning | None:
    """None for a cold start. Raises RunFailed(parameter).

    A fine-tune begins with the version it names, else with its model's champion, else where the Pipeline has runs
    begin. A run by row count continues the champion where that is worth it. What would begin with nothing begins where
    the Pipeline has runs begin; a recovery is to be free of what was learnt, and does not.
    """
    transfer = _transfer(command, pipeline)
    declared = transfer.start if transfer is not None else None
    if command.kind == TRAINING_KIND_FINE_TUNE:
        if command.parent_model or command.parent_version or own.champion or declared is None:
            named = Start(model=command.parent_model or command.model, version=command.parent_version)
        else:
            named = declared
        return _of(named, own, transfer, stated=bool(command.transfer_json))
    if command.parent_model or command.parent_version or command.transfer_json:
        raise bad_parameter("a run of kind train takes no parent_model, parent_version or transfer",
                            "let its kind be fine_tune")
    warm = _warm(command, pipeline, family, own, label_rows)
    if warm:
        return Beginning(own.model, warm, False, _continued(transfer))
    return None if declared is None or command.reason == RECOVERY else _of(declared, own, transfer, stated=False)


def named_version(begun: Beginning, registry: ModelState, family: str) -> ModelVersion:
    """The version in its model's registry. Raises RunFailed(parameter) where it is not kept or cannot be continued."""
    if not registry.versions:
        raise bad_parameter(f"there is no model {begun.model} to begin with", "see `lepton models`, and name one that "
                                                                             "was trained")
    wanted = begun.version or registry.champion
    found = next((one for one in registry.versions if one.version == wanted), None)
    if found is None:
        kept = ", ".join(str(one.version) for one in registry.versions)
        raise bad_parameter(f"version {wanted} of {begun.model} is not kept" if wanted else
                            f"{begun.model} has no champion to begin with",
                            f"name one of its versions: {kept}")
    if reason := _cannot_continue(found, family):
        raise bad_parameter(f"version {wanted} of {begun.model} cannot be continued: {reason}",
                            f"begin with a {family}, or set model.family: {found.manifest.family}"
                            if found.manifest.family != family and found.manifest.family in FAMILIES
                            else "train instead of fine-tuning")
    return found


def _of(start: Start, own: ModelState, transfer: Transfer | None, stated: bool) -> Beginning:
    """`stated`: this very run was told how to go on, and not all runs of the Pipeline."""
    version = start.version or (own.champion if start.model == own.model else 0)
    if start.model != own.model:
        return Beginning(start.model, version, True, transfer or Transfer())
    if not version:
        raise bad_parameter(f"{own.model} has no champion to fine-tune", "train the model first, or name a version")
    return Beginning(own.model, version, True, transfer if stated else _continued(transfer))


def _continued(transfer: Transfer | None) -> Transfer | None:
    """The Pipeline's, where a model goes on from a version of its own: what stands at its head is its own by now."""
    return None if transfer is None else transfer.model_copy(update={"head": "auto"})


def _warm(command: TrainingCommand, pipeline: Pipeline, family: str, own: ModelState, label_rows: int) -> int:
    """The champion, where a run by row count goes on from it; 0 where it begins anew.

    Only while the champion learnt from at least half as many rows: its frozen statistics would otherwise be worth less
    than fresh ones.
    """
    champion = next((one for one in own.versions if one.version == own.champion), None)
    if command.reason != ROWS or pipeline.model is None or not pipeline.model.train.warm_start or champion is None:
        return 0
    told = champion.manifest
    enough = 2 * (told.lineage.train_rows + told.lineage.held_out_rows) >= label_rows
    same = told.input_schema_digest == pipeline.input_schema_digest()
    return own.champion if enough and same and not _cannot_continue(champion, family) else 0


def _cannot_continue(parent: ModelVersion, family: str) -> str:
    manifest = parent.manifest
    if family == AUTO and not manifest.HasField("search"):
        return "its family was not searched for"
    if family not in (manifest.family, AUTO):
        return f"it is a {manifest.family}, not a {family}"
    return "" if manifest.lineage.weights_sha256 else "its weights were not kept"


def _transfer(command: TrainingCommand, pipeline: Pipeline) -> Transfer | None:
    """The command's, else the Pipeline's."""
    declared = pipeline.model.transfer if pipeline.model is not None else None
    if not command.transfer_json:
        return declared
    try:
        given = Transfer.model_validate_json(command.transfer_json)
    except ValidationError as error:
        first = error.errors()[0]
        raise bad_parameter(f"transfer.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
                            'send for example {"freeze": ["layers.0.*"], "head": "replace"}') from error
    if given.start is not None:
        raise bad_parameter("transfer.from is the Pipeline's", "say parent_model and parent_version instead")
    return given.model_copy(update={"start": declared.start if declared is not None else None})

