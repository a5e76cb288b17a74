"""What the first bytes of an image say: its kind by its signature, and its size by its header (PNG, JPEG)."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Start of frame, all kinds of coding: C0 to CF without the tables (C4), the reserved (C8) and the conditions (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM and the restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
MAX_SIDE = 65_535


def misfit(data: bytes) -> str | None:
    """Why these bytes are no image that can be used; None when they are. Pixels are not looked at."""
    if data.startswith(_PNG):
        size = _png_size(data)
    elif data.startswith(_JPEG):
        size = _jpeg_size(data)
    else:
        return "is neither PNG nor JPEG"
    if size is None:
        return "has no readable image header"
    width, height = size
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return f"is {width} x {height} pixels; each side must be 1 to {MAX_SIDE}"
    return None


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
