"""Files that somebody trained elsewhere, kept apart from the registry's own until the trainer has opened them."""

from lepton.contracts.bundles.brought import check_plain
from lepton.store.artifacts import Artifacts
from lepton.store.registry.garbage import UPLOADS


class Imports:
    """The trainer opens a file, in a process of its own; here only its first bytes are looked at."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def keep(self, file: bytes) -> str:
        """The digest under which it waits to be imported. Raises Invalid for a file that is no ONNX."""
        check_plain(file)
        return await self._artifacts.put(file, UPLOADS)
