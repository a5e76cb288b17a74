"""Where model files come from: this machine's verified cache first, then the store; what arrives is what was signed."""

import logging
from dataclasses import dataclass

from lepton.contracts.pb import models_pb2
from lepton.contracts.signing import TrustStore
from lepton.errors import Invalid, Missing, Refused, Unavailable
from lepton.store.artifacts import Artifacts, Damaged, FileArtifacts, digest_of

log = logging.getLogger(__name__)


class Lost(Unavailable):
    """Neither this machine nor the store has the file whole; to be had again once it is put back."""

    def __init__(self, message: str, digest: str, *, damaged: bool) -> None:
        super().__init__(message, field="sha256", remedy="it is looked for again and again: a backup may have it, or "
                                                         "publish the model again")
        self.digest, self.damaged = digest, damaged


@dataclass(frozen=True, slots=True)
class Sources:
    """Where model files come from: `cache` on this machine first, then the `store`; `trust` says whose count."""

    store: Artifacts
    cache: FileArtifacts
    trust: TrustStore

    async def file(self, manifest: models_pb2.ModelManifest) -> bytes:
        """The bytes that were signed. Raises Refused when the manifest fits none, Unavailable when they cannot be had
        now, Lost where they are gone or damaged."""
        data = await self._cached(manifest.sha256)
        if data is None:
            data = await self._from_store(manifest.sha256)
            await self._keep(data)
        if await digest_of(data) != manifest.sha256 or len(data) != manifest.size_bytes:
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
            raise Lost(f"the model file {digest} is not in the store", digest, damaged=False) from error
        except Damaged as error:
            raise Lost(f"the model file {digest} was changed since it was signed", digest, damaged=True) from error

    async def _keep(self, data: bytes) -> None:
        try:
            await self.cache.put(data)
        except OSError as error:
            log.warning("the model file is not kept on this machine: %s", error.strerror)
