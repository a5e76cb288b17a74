"""Where model files come from: this machine's verified cache first, then the store; what arrives is what was signed."""

import hashlib
import logging
from dataclasses import dataclass

from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import TrustStore
from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.artifacts import Artifacts, Damaged, FileArtifacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where model files come from: `cache` on this machine first, then the `store`; `trust` says whose count."""

    store: Artifacts
    cache: FileArtifacts
    trust: TrustStore

    async def file(self, manifest: models_pb2.ModelManifest) -> bytes:
        """The bytes that were signed. Raises Refused when they are others, Unavailable when they cannot be had now."""
        data = await self._cached(manifest.sha256)
        if data is None:
            data = await self._from_store(manifest.sha256)
            await self._keep(data)
        if hashlib.sha256(data).hexdigest() != manifest.sha256 or len(data) != manifest.size_bytes:
            raise Refused("the file is not the one that was signed", field="sha256", remedy="publish the model again")
        return data

    async def _cached(self, digest: str) -> bytes | None:
        try:
            return await self.cache.get(digest)
        except Missing:
            return None
        except Invalid as error:
            raise Refused("the manifest names no SHA-256", field="sha256") from error
        except OSError as error:
            log.warning("the cache of model files cannot be read: %s", error.strerror)
            return None

    async def _from_store(self, digest: str) -> bytes:
        try:
            return await self.store.get(digest)
        except Missing as error:
            raise Unavailable(f"the model file {digest} is not in the store", remedy="store it again") from error
        except Damaged as error:
            raise Refused(f"the model file {digest} was changed since it was signed", field="sha256",
                          remedy="publish the model again") from error

    async def _keep(self, data: bytes) -> None:
        try:
            await self.cache.put(data)
        except OSError as error:
            log.warning("the model file is not kept on this machine: %s", error.strerror)
