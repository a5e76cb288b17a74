"""Which bytes of models nothing refers to: whatever a document of the registry or a waiting run names stays."""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from lepton.contracts.pb.models_pb2 import ModelState
from lepton.contracts.pb.training_pb2 import TrainingCommand
from lepton.store.artifacts import Artifacts, Stored
from lepton.store.runs import Run, Runs

MODEL_FILES = "model"
"""The kind under which the trainer stores what belongs to versions."""

UPLOADS = "import"
"""The kind under which the gateway stores files that an import is to open."""

_DIGEST = re.compile(rb"[0-9a-f]{64}")


def named_in(messages: Iterable[ModelState | TrainingCommand]) -> set[str]:
    """Every SHA-256 that stands anywhere in the messages, in a member of today or of a later release."""
    return {found.decode() for message in messages for found in _DIGEST.findall(message.SerializeToString())}


class Garbage:
    """Finds and removes. Nothing that anything refers to is removed, whoever publishes meanwhile.

    What exists is listed before what is referred to is read. A run notes digests before it stores them and until it
    has ended, and has published before it ends; so a digest that was listed and is named neither by a run under way
    nor, later, by the registry belongs to nobody, unless it was put again since, which `Artifacts.remove` sees.
    """

    def __init__(self, states: Callable[[], Awaitable[Iterable[ModelState]]], runs: Runs,
                 artifacts: Artifacts) -> None:
        self._states = states
        self._runs = runs
        self._artifacts = artifacts
        self._left: set[Stored] = set()

    async def find(self) -> list[Stored]:
        """Bytes of models nothing refers to now."""
        stored = await self._artifacts.of_kind(MODEL_FILES)
        wanted = set(await self._runs.wanted())
        wanted |= named_in(run.command for run in await self._waiting())
        wanted |= named_in(await self._states())
        return [one for one in stored if one.digest not in wanted]

    async def remove(self) -> list[Stored]:
        """Remove them; those that were."""
        return [one for one in await self.find() if await self._artifacts.remove(one)]

    async def remove_uploads(self) -> list[Stored]:
        """Remove files that no waiting run is to import; those that were.

        One is left for a round: it is stored before the command that names it arrives.
        """
        stored = await self._artifacts.of_kind(UPLOADS)
        wanted = named_in(run.command for run in await self._waiting())
        idle = {one for one in stored if one.digest not in wanted}
        over, self._left = idle & self._left, idle
        return [one for one in over if await self._artifacts.remove(one)]

    async def waited_for(self, model: str) -> set[int]:
        """Versions of the model that waiting or running commands name, or that another model's champion began with."""
        commands = [run.command for run in await self._waiting()]
        lineages = [one.manifest.lineage for state in await self._states() for one in state.versions
                    if one.version == state.champion]
        return {one.parent_version for one in commands if (one.parent_model or one.model) == model} | {
            one.parent_version for one in lineages if one.parent_model == model} - {0}

    async def _waiting(self) -> Sequence[Run]:
        return await self._runs.under_way()
