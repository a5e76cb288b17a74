"""Model cards: found by version, opened from their bundle, a Markdown text with pictures and all figures beside it."""

import io
import zipfile
from collections.abc import Mapping

from lepton.contracts.pb.models_pb2 import ModelState, ModelVersion
from lepton.errors import Invalid, Missing, Unavailable
from lepton.store.artifacts import Artifacts

CARD, BUNDLE = "card.md", "card.zip"
# A bundle holds a few pictures; what says it is larger is not opened.
MAX_FILE_BYTES = 16 * 2**20


class Cards:
    """`registry` are the states as announced; whose digest a bundle must have is signed there."""

    def __init__(self, registry: Mapping[str, ModelState], artifacts: Artifacts) -> None:
        self._registry = registry
        self._artifacts = artifacts

    async def read(self, model: str, version: int, file: str = CARD) -> bytes:
        """A file of the version's card, or `card.zip`, the whole. Raises Missing, or Unavailable when it is damaged."""
        bundle = await self._artifacts.get(self._digest(model, version))
        if file == BUNDLE:
            return bundle
        try:
            with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
                if file not in opened.namelist():
                    raise Missing(f"the card of version {version} has no {file}", field="file",
                                  remedy=f"it has {', '.join(opened.namelist())}")
                if opened.getinfo(file).file_size > MAX_FILE_BYTES:
                    raise Invalid(f"{file} is larger than {MAX_FILE_BYTES} bytes", field="file",
                                  remedy=f"ask for {BUNDLE}")
                return opened.read(file)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Unavailable(f"the card of version {version} cannot be opened: {error}",
                              remedy="train the model again") from error

    def _digest(self, model: str, version: int) -> str:
        found = version_of(self._registry, model, version)
        if not found.manifest.card_sha256:
            raise Missing(f"version {version} of {model} has no card", field="version",
                          remedy="it was published before there were cards; train the model again")
        return found.manifest.card_sha256


def version_of(registry: Mapping[str, ModelState], model: str, version: int) -> ModelVersion:
    """Raises Missing for a model nobody knows, or a version that is not kept."""
    state = registry.get(model)
    if state is None:
        raise Missing(f"there is no model {model}", remedy=f"train one, or wait until its first run has succeeded: "
                                                               f"`lepton models wait {model}`")
    found = next((one for one in state.versions if one.version == version), None)
    if found is None:
        raise Missing(f"version {version} of {model} is not kept", field="version",
                      remedy=f"it has {', '.join(str(one.version) for one in state.versions) or 'none'}")
    return found
