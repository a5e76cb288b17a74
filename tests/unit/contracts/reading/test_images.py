"""An image whose size is known becomes the numbers of its pixels, or is refused with what to send."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from lepton.contracts.reading.images import from_base64, pixels
from lepton.errors import Invalid

GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
COLOURS = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)


def packed(shown: np.ndarray, form: str = "PNG", mode: str | None = None) -> bytes:
    image, file = Image.fromarray(shown), io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form)
    return file.getvalue()


def test_pixels_come_row_by_row_with_their_colours_together() -> None:
    assert pixels(packed(GREY), (3, 4)).tolist() == GREY.ravel().tolist()
    assert pixels(packed(GREY), (3, 4, 1)).dtype == np.float32
    assert pixels(packed(COLOURS), (3, 4, 3)).tolist() == COLOURS.ravel().tolist()
    assert pixels(packed(GREY), (3, 4, 3)).reshape(3, 4, 3)[:, :, 1].tolist() == GREY.tolist()
    assert pixels(packed(COLOURS, mode="RGBA"), (3, 4, 4)).reshape(3, 4, 4)[:, :, 3].min() == 255


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1"])
def test_other_ways_to_keep_a_png_have_the_same_pixels(mode: str) -> None:
    black_and_white = np.where(GREY > 100, 255, 0).astype(np.uint8)
    assert pixels(packed(black_and_white, mode=mode), (3, 4)).tolist() == black_and_white.ravel().tolist()


def test_grey_of_colours_is_their_luma() -> None:
    wanted = COLOURS.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(pixels(packed(COLOURS), (3, 4)) - wanted.ravel()).max() <= 1


def test_a_jpeg_is_unpacked_as_its_decoder_does() -> None:
    flat = np.full((16, 8), 77, dtype=np.uint8)
    assert np.abs(pixels(packed(flat, "JPEG"), (16, 8)) - 77).max() <= 1
    assert len(pixels(packed(np.full((8, 8, 3), 9, dtype=np.uint8), "JPEG"), (8, 8, 3))) == 192


@pytest.mark.parametrize(("data", "image", "said"), [
    (b"GIF89a", (3, 4), "neither PNG nor JPEG"),
    (packed(GREY), (4, 3), "is 4 x 3 pixels, not 3 x 4"),
    (packed(GREY)[:40], (3, 4), "is damaged"),
    (packed(GREY)[:-28], (3, 4), "is damaged"),
    (packed(np.full((64, 64), 9, dtype=np.uint8), "JPEG")[:300], (64, 64), "is damaged"),
    (packed(GREY.astype(np.uint16) * 256), (3, 4), "more than 8 bits a colour"),
    (packed(GREY)[:16] + b"\0\0\xff\xff" * 2 + packed(GREY)[24:], (3, 4), "is 65535 x 65535 pixels, not 4 x 3")])
def test_what_is_no_such_image_is_refused(data: bytes, image: Sequence[int], said: str) -> None:
    with pytest.raises(Invalid, match=said) as raised:
        pixels(data, image)
    assert raised.value.remedy


def test_whatever_bytes_follow_a_header_nothing_else_is_raised() -> None:
    chance, whole = np.random.default_rng(5), [packed(COLOURS), packed(COLOURS, "JPEG")]
    for number in range(200):
        damaged = bytearray(whole[number % 2])
        for place in chance.integers(25, len(damaged), 4):
            damaged[place] = chance.integers(0, 256)
        try:
            assert len(pixels(bytes(damaged), (3, 4, 3))) == 36
        except Invalid as error:
            assert error.message


def test_base64_is_bounded_before_it_is_read() -> None:
    assert from_base64(base64.b64encode(GREY.tobytes()).decode()) == GREY.tobytes()
    with pytest.raises(Invalid, match="more than 9 bytes"):
        from_base64("A" * 16, 9)
    with pytest.raises(Invalid, match="no base64"):
        from_base64("no base64")
