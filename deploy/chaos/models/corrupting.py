"""An artefact in the store is changed from outside, as a bad disk or a hand that should not be there would."""

from lepton.errors import Missing
from lepton.store.documents import DocumentDatabase


async def corrupted(database: DocumentDatabase, digest: str) -> None:
    """One bit of its first bytes is another from now on. Raises Missing where nothing is stored under the digest."""
    chunks = database.collection("fs.chunks")
    found = await chunks.find({"files_id": digest}, order="n")
    if not found:
        raise Missing(f"there is no artefact {digest}", field="sha256", remedy="see the model's versions")
    data = bytes(found[0]["data"])
    await chunks.put({**found[0], "data": bytes([data[0] ^ 1]) + data[1:]})
