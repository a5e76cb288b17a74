"""Compressed bodies of the protocol's REST form: gzip and deflate (RFC 9110, 8.4.1), bounded when unpacked."""

import zlib
from typing import Final

from services.gateway.edge.errors import Malformed, TooLarge, WrongMediaType

# zlib's `wbits`: what has either header, and which header is written.
_EITHER: Final = 32 + zlib.MAX_WBITS
_WRITTEN: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# Of numbers, more effort saves little.
_LEVEL: Final = 1
_LEAST_BYTES: Final = 1024


def unpacked(body: bytes, coding: str, limit_bytes: int) -> bytes:
    """The body as it was before `Content-Encoding`. Raises WrongMediaType, Malformed, or TooLarge past the limit."""
    named = coding.strip().lower()
    if named in ("", "identity"):
        return body
    if named not in _WRITTEN:
        raise WrongMediaType(f"{coding} is no coding this door reads", field="content-encoding",
                             remedy="send gzip, deflate or neither")
    reader = zlib.decompressobj(_EITHER)
    try:
        found = reader.decompress(body, limit_bytes + 1)
    except zlib.error as failure:
        raise Malformed(f"the body is no {named}: {failure}", field="content-encoding") from failure
    if len(found) > limit_bytes:
        raise TooLarge(f"the body is larger than {limit_bytes} bytes once unpacked", field="body",
                       remedy="send it in several requests")
    if not reader.eof or reader.unused_data:
        raise Malformed(f"the body is not one whole {named}", field="content-encoding")
    return found


def asked_for(accepted: str, size: int) -> str:
    """The coding of an answer of so many bytes, where `Accept-Encoding` names just one, as the protocol's clients do.

    A list is what most HTTP libraries send unasked; for that, and for small answers, it costs more than it saves.
    """
    named = accepted.strip().lower()
    return named if named in _WRITTEN and size >= _LEAST_BYTES else ""


def packed(content: bytes, coding: str) -> bytes:
    """The answer in a coding that `asked_for` named."""
    writer = zlib.compressobj(_LEVEL, wbits=_WRITTEN[coding])
    return writer.compress(content) + writer.flush()
