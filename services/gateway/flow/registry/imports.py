"""A file that somebody trained elsewhere on its way to the trainer: stored apart, then named in a durable command."""

import json
from dataclasses import dataclass

from lepton.contracts.bundles.brought import check_plain
from lepton.store.artifacts import Artifacts
from lepton.store.registry.garbage import UPLOADS
from services.gateway.core.auth import Caller
from services.gateway.flow.models import Asked, Models


@dataclass(frozen=True, slots=True)
class Brought:
    """What is said of the file: its classes in the order of its probabilities, and what it was."""

    classes: tuple[str, ...] = ()
    origin: str = "onnx"
    promote: bool = True
    command_id: str = ""


class Imports:
    """The trainer opens the file, in a process of its own; here only its first bytes are looked at."""

    def __init__(self, models: Models, artifacts: Artifacts) -> None:
        self._models = models
        self._artifacts = artifacts

    async def bring(self, caller: Caller, model: str, file: bytes, wanted: Brought) -> Asked:
        """Ask for a version of the file. Raises Invalid for a file that is no ONNX, Missing for an unknown pipeline."""
        check_plain(file)
        await self._models.check_label(model)
        about = json.dumps({"classes": wanted.classes, "origin": wanted.origin})
        digest = await self._artifacts.put(file, UPLOADS)
        return await self._models.import_file(caller, model, (digest, about), wanted.promote, wanted.command_id)
