"""PNG and JPEG: kind and size by signature and header, and the pixels of one whose size is known before.

Ingest and predictor unpack here, so that an event and a request with the same image have the same numbers.
"""

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lepton.errors import Invalid

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Start of frame, all kinds of coding: C0 to CF without the tables (C4), the reserved (C8) and the conditions (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM and the restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
MAX_SIDE = 65_535
MAX_BYTES = 4 * 1024 * 1024
"""Of a file, unless a field says less; no more are taken of any."""
# By how many numbers a pixel has: grey, red green blue, or those and how opaque it is.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def misfit(data: bytes) -> str | None:
    """Why these bytes are no image that can be used; None when they are. Pixels are not looked at."""
    if not data.startswith((_PNG, _JPEG)):
        return "is neither PNG nor JPEG"
    size = _size(data)
    if size is None:
        return "has no readable image header"
    width, height = size
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return f"is {width} x {height} pixels; each side must be 1 to {MAX_SIDE}"
    return None


def from_base64(text: str, limit: int = MAX_BYTES) -> bytes:
    """The bytes of an image that came as text. Raises Invalid for more than `limit`, or what is no base64."""
    if len(text) > (limit + 2) // 3 * 4:
        raise Invalid(f"is more than {limit} bytes", remedy="send a smaller file")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("is no base64", remedy="send base64 of a PNG or JPEG") from None


def pixels(data: bytes, image: Sequence[int]) -> npt.NDArray[np.float32]:
    """Numbers from 0 to 255, row by row, the colours of a pixel together, of an image of this height, width and, where
    it is not grey, number of colours.

    Nothing is unpacked before the header has told the right size, so memory is bounded by it. Where grey is wanted of
    colours, it is their luma (ITU-R BT.601); what a file says of its orientation is left alone. Raises Invalid for
    anything else than such an image of 8 bits a colour.
    """
    height, width, colours = (*image, 1)[:3]
    if (why := misfit(data)) is not None:
        raise Invalid(why, remedy="send a PNG or JPEG")
    if (size := _size(data)) != (width, height) and size is not None:
        raise Invalid(f"is {size[0]} x {size[1]} pixels, not {width} x {height}",
                      remedy=f"scale it to {width} x {height} (width x height) first")
    # Only who meets images has Pillow installed; a client, for one, sends them as they are.
    from PIL import Image  # see above

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
            mode, right = opened.mode, opened.size == (width, height)
            shown = opened.convert(_MODES[colours]) if right and mode[0] not in "IF" else None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise Invalid("is damaged: its pixels cannot be read", remedy="send it again") from error
    if shown is None:
        raise Invalid("has more than 8 bits a colour", remedy="send it with 8 bits a colour")
    return np.asarray(shown, dtype=np.float32).reshape(-1)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height."""
    return _png_size(data) if data.startswith(_PNG) else _jpeg_size(data)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """The header chunk comes first (PNG specification 5.6, 11.2.1)."""
    if len(data) < 33 or data[8:16] != b"\x00\x00\x00\rIHDR":
        return None
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From segment to segment up to the frame header (ITU T.81, B.1.1 and B.2.2); every step goes forward."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            return int.from_bytes(data[at + 7:at + 9]), int.from_bytes(data[at + 5:at + 7])
        else:
            length = int.from_bytes(data[at + 2:at + 4])
            if length < 2 or marker in (0xD9, 0xDA):  # end of image, or pixels before any frame
                return None
            at += 2 + length
    return None
