"""A version from the registry to a file on this machine, whole or not at all."""

from pathlib import Path

from lepton.contracts.bundles.packing import unpack_exactly
from lepton.errors import Invalid, Missing
from lepton_ai._files.writing import whole, writes
from lepton_ai._transport import Transport


async def version_named(transport: Transport, which: str) -> tuple[str, int]:
    """NAME and version of NAME@VERSION; of NAME alone, the champion's. Raises Invalid or Missing."""
    name, _, number = which.partition("@")
    if number and not number.isdigit():
        raise Invalid(f"`{number}` is no version", field="version", remedy=f"write {name}@3")
    version = int(number or (await transport.get(f"/v1/models/{name}"))["champion"])
    if not version:
        raise Missing(f"{name} has no champion", field="version", remedy=f"name a version: {name}@1")
    return name, version


async def export(transport: Transport, name: str, version: int, file: Path) -> int:
    """Write the version's archive and return its bytes. Raises Missing or Refused, Invalid for what came damaged."""
    pieces = bytearray()
    await transport.download(f"/v1/models/{name}/versions/{version}/export", pieces.extend, pieces.clear)
    unpack_exactly(bytes(pieces))
    with writes(file), whole(file) as draft:
        draft.write_bytes(pieces)
    return len(pieces)
