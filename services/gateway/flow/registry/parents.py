"""Whether weights of the version that a run is to begin with can be continued, as far as the registry tells of it."""

from collections.abc import Mapping

from lepton.contracts.modelling.families import AUTO
from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Refused


def check_parent(registry: Mapping[str, ModelState], pipeline: Pipeline, family: str, parent: tuple[str, int]) -> None:
    """Raises Refused for a version of another family, or one whose weights were not kept.

    `family` is what the run is to learn, empty: the Pipeline's. `parent` is the model and version that were named; with
    neither the run goes on from its own champion, else where the Pipeline has runs begin. What is not announced here
    yet is left to the trainer, which looks again when the run begins.
    """
    found = _parent(registry, pipeline, parent)
    wanted = family or (pipeline.model.family if pipeline.model is not None else "")
    if found is None or not wanted:
        return
    what, manifest = f"version {found.version} of {found.model}", found.manifest
    if wanted not in (manifest.family, AUTO):
        raise Refused(f"{what} is a {manifest.family}: a {wanted} cannot begin with its weights", field="family",
                      remedy=f"name a version of a {wanted} (`--from MODEL:VERSION`), or train a {wanted} first, "
                             "without a parent and what goes with one")
    if not manifest.lineage.weights_sha256:
        raise Refused(f"{what} cannot be continued: its weights were not kept", field="parent_version",
                      remedy="name a version that was trained here")


def _parent(registry: Mapping[str, ModelState], pipeline: Pipeline, named: tuple[str, int]) -> ModelVersion | None:
    model, version = named
    own = registry.get(pipeline.name)
    declared = pipeline.model.transfer if pipeline.model is not None else None
    start = declared.start if declared is not None else None
    if not model and not version and start is not None and (own is None or not own.champion):
        model, version = start.model, start.version
    state = registry.get(model or pipeline.name)
    wanted = version or (state.champion if state is not None else 0)
    return next((one for one in state.versions if one.version == wanted), None) if state is not None else None
