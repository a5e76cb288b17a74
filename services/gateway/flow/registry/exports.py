"""A version as one signed archive, put together from what the trainer stored of it when it was published."""

from collections.abc import Mapping

from lepton.contracts.bundles import exported
from lepton.contracts.pb.models_pb2 import ModelState
from lepton.errors import Missing
from lepton.store.artifacts import Artifacts
from services.gateway.flow.registry.cards import version_of


class Exports:
    """`registry` are the states as announced; whose digest each part must have is signed there."""

    def __init__(self, registry: Mapping[str, ModelState], artifacts: Artifacts) -> None:
        self._registry = registry
        self._artifacts = artifacts

    async def archive(self, model: str, version: int) -> bytes:
        """Raises Missing, or Unavailable when a part is damaged."""
        found = version_of(self._registry, model, version)
        if not found.model_signing_sha256:
            raise Missing(f"version {version} of {model} cannot be exported", field="version",
                          remedy="it was published before there were exports; train the model again")
        card = found.manifest.card_sha256
        return exported.whole(await self._artifacts.get(found.model_signing_sha256),
                              await self._artifacts.get(found.manifest.sha256),
                              await self._artifacts.get(card) if card else None)
