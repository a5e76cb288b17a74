"""Whether a run looks for family and parameters first, and what it takes from a version that did; needs no torch."""

import json
from dataclasses import dataclass

from google.protobuf import json_format
from pydantic import ValidationError

from lepton.contracts.modelling.blocks import ModelSpec, Parameters, check_model
from lepton.contracts.modelling.families import AUTO, Family
from lepton.contracts.modelling.transforms import Features, Transform
from lepton.contracts.pb import models_pb2, training_pb2
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import Search
from services.trainer.core.failure import bad_parameter
from services.trainer.core.plan import given_parameters
from services.trainer.core.searching.usual import BUDGET


def asked(pipeline: Pipeline, command: training_pb2.TrainingCommand, family: Family) -> Search | None:
    """The command's search, else the Pipeline's. Raises RunFailed(parameter) for one that cannot be.

    A family the command names instead of the Pipeline's leaves the Pipeline's search behind with its parameters.
    """
    if command.search_json and command.kind == training_pb2.TRAINING_KIND_FINE_TUNE:
        raise bad_parameter("a fine-tune goes on as its parent learnt, and looks for nothing", "train instead",
                            "unfit_search")
    if command.stream_sha256:
        return None  # what was learnt from a stream is only judged and published
    of_pipeline = pipeline.model.search if pipeline.model and family == pipeline.model.family else None
    if not command.search_json:
        return of_pipeline or (BUDGET if family == AUTO else None)
    try:
        search = Search.model_validate(json.loads(command.search_json))
        wrong = next(check_model(None, ModelSpec(family=family, search=search)), None)
    except ValidationError as error:
        first = error.errors()[0]
        raise bad_parameter(f"search.{'.'.join(map(str, first['loc']))}: {first['msg']}",
                            f"known: {', '.join(Search.model_fields)}", "unfit_search") from error
    except ValueError as error:
        raise bad_parameter(f"search is not JSON: {error}", "send a JSON object", "unfit_search") from error
    if wrong is not None:
        raise bad_parameter(f"{'.'.join(map(str, wrong[0]))}: {wrong[1]}", wrong[2], "unfit_search")
    return search


def goes_on(search: Search | None, champion: models_pb2.ModelVersion | None) -> bool:
    """Whether a run started by rows may learn on from the champion: where a search is asked for, one found it."""
    return search is None or (champion is not None and champion.manifest.HasField("search"))


@dataclass(frozen=True, slots=True)
class Known:
    """What a run learns with that does not search; `found` is the account (JSON) of an earlier search, or empty."""

    family: Family
    parameters: Parameters
    transforms: tuple[Transform, ...]
    found: str


def as_parent(pipeline: Pipeline, parameters: Parameters, command: training_pb2.TrainingCommand,
              parent: models_pb2.ModelVersion) -> Known:
    """Of a run that continues `parent`, which was searched for: it does not search again, but learns as its parent did,
    but for parameters the command gives. Transforms that were found hold while the fields are the same, but for fields
    that one is declared for. One that was not searched for leaves all as it is.
    """
    manifest, declared = parent.manifest, pipeline.features.transforms
    if not manifest.HasField("search"):
        return Known(manifest.family, parameters, declared, "")  # type: ignore[arg-type]  # a version's family is one
    chosen = next(one for one in manifest.search.trials if one.number == manifest.search.chosen)
    # What learns on begins near its end: rows that say when it gets worse are worth more than learning from them.
    learnt = {name: value for name, value in json.loads(chosen.parameters_json).items() if name != "patience"}
    merged = {**parameters.model_dump(exclude_none=True), **learnt, **given_parameters(command.parameters_json)}
    named = {name for one in declared for name in one.of}
    same = manifest.input_schema_digest == pipeline.input_schema_digest()
    told = json.loads(chosen.transforms_json or "[]") if same else []
    found = Features.model_validate({"transforms": told}).transforms
    return Known(
        manifest.family, Parameters.model_validate(merged),  # type: ignore[arg-type]  # as above
        (*declared, *(one.model_copy(update={"of": left}) for one in found
                      if (left := tuple(name for name in one.of if name not in named)))),
        json_format.MessageToJson(manifest.search, preserving_proto_field_name=True, indent=None))
