"""How is each file of the corpus made, and what does a person see in it? On the spot."""

import io
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests import crafting
from tests.crafting import chunk
from tests.pictures import encode, gradient, jpeg

Pixels = NDArray[np.uint8]


@cache
def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Blue with a red quarter in the top left: every turn of it looks different."""
    image = gradient(width, height)
    image.paste((250, 10, 10), (0, 0, width // 2, height // 2))
    return image


def pixels(width: int = 60, height: int = 40) -> Pixels:
    """The same as an array."""
    return np.asarray(picture(width, height))


def animated(format: str, **options: Any) -> bytes:
    """Three frames, the picture first."""
    further = [Image.new("RGB", picture().size, colour) for colour in ("green", "black")]
    return encode(picture(), format, save_all=True, append_images=further, **options)


def turned(format: str, orientation: int, **options: Any) -> bytes:
    """The picture stored so that its EXIF orientation turns it upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = picture().transpose(undo[orientation]) if orientation > 1 else picture()
    tag = Image.Exif()
    tag[0x0112] = orientation
    return encode(stored, format, exif=tag, **options)


def translucent(mode: str = "RGBA") -> Image.Image:
    """The picture with a hidden right half, over colours that nobody should see."""
    image = picture().convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (30, 0, 60, 40))
    image.putalpha(alpha)
    return image


def on_white() -> Pixels:
    """What is seen of it."""
    seen = pixels().copy()
    seen[:, 30:] = 255
    return seen


def grey_on_white() -> Pixels:
    """The same in grey."""
    seen = np.asarray(picture().convert("L").convert("RGB")).copy()
    seen[:, 30:] = 255
    return seen


def reread(make: Callable[[], bytes]) -> Pixels:
    """What Pillow's own way of turning and converting gives."""
    with Image.open(io.BytesIO(make())) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def ramp() -> NDArray[np.uint16]:
    """Every brightness of sixteen bits, in steps."""
    return np.linspace(0, 65535, 64 * 16).astype(np.uint16).reshape(16, 64)


def scaled_ramp() -> Pixels:
    """The same in eight bits."""
    return np.repeat(np.round(ramp() / 257).astype(np.uint8)[..., None], 3, axis=2)


def ramp_tiff() -> bytes:
    """Sixteen-bit grey in a TIFF."""
    return encode(Image.fromarray(ramp()), "TIFF")


def palette() -> Image.Image:
    """Four colours, of which the last is see-through."""
    image = Image.new("P", (60, 40))
    image.putpalette([250, 10, 10, 20, 60, 200, 0, 255, 0, 9, 9, 9])
    image.paste(1, (0, 20, 60, 40))
    image.paste(3, (30, 0, 60, 40))
    return image


def palette_seen() -> Pixels:
    """What is seen of it."""
    seen = np.asarray(palette().convert("RGB")).copy()
    seen[:, 30:] = 255
    return seen


def colour_keyed() -> bytes:
    """RGB of which one colour is see-through (PNG's tRNS), without an alpha channel."""
    stored = pixels().copy()
    stored[:, 30:] = (1, 2, 3)
    return crafting.png_of(stored, before=[chunk(b"tRNS", b"\0\1\0\2\0\3")])


def zip_behind() -> bytes:
    """A JPEG that is a ZIP archive as well: one reads from the front, the other from the back."""
    file = io.BytesIO(jpeg(60, 40))
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("payload.html", "<script>alert(1)</script>")
    return file.getvalue()


def script_inside() -> bytes:
    """A JPEG with a page in its comment."""
    return crafting.with_segments(jpeg(60, 40), [(0xFE, b"<html><script>alert(1)</script><!--")])


def phone_photo() -> bytes:
    """A JPEG with a second picture behind the first (MPO), as phones write."""
    return encode(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))], quality=95)


def broken_exif(format: str) -> bytes:
    """EXIF that points outside of itself."""
    return encode(picture(), format, exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0" + b"\xff" * 40)


def broken_webp_exif() -> bytes:
    """A WebP whose EXIF chunk is no EXIF at all."""
    whole = crafting.riff_chunks(turned("WEBP", 1, lossless=True))
    return crafting.riff(*((kind, b"\0\1\2" if kind == b"EXIF" else data) for kind, data in whole))


def empty_webp_chunk() -> bytes:
    """A WebP with a chunk of no bytes."""
    whole = crafting.riff_chunks(turned("WEBP", 1, lossless=True))
    return crafting.riff(whole[0], (b"JUNK", b""), *whole[1:])


def huge_webp_canvas() -> bytes:
    """An animated WebP that claims 16,384 x 16,384 pixels for a frame of 60 x 40."""
    still = crafting.riff_chunks(encode(picture(), "WEBP"))
    frame = bytes(6) + (59).to_bytes(3, "little") + (39).to_bytes(3, "little") + bytes(4)
    data = frame + b"".join(kind + len(body).to_bytes(4, "little") + body for kind, body in still)
    canvas = b"\x02\0\0\0" + (16383).to_bytes(3, "little") * 2
    return crafting.riff((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", data))


def empty_chunks() -> bytes:
    """A PNG with chunks of no bytes before, between and after its data."""
    empty = [chunk(b"tEXt", b"a\0"), chunk(b"IDAT")]
    return crafting.png_of(pixels(), before=empty, after=[chunk(b"IDAT"), chunk(b"zzZz")])


def many_apng_frames() -> bytes:
    """A PNG that claims two thousand million frames and has one."""
    return crafting.png_of(pixels(), before=[chunk(b"acTL", (2**31 - 1).to_bytes(4, "big") + bytes(4))])


def text_bomb() -> bytes:
    """A PNG whose text chunk is 100 MB when unpacked."""
    return crafting.png_of(pixels(), before=[chunk(b"zTXt", b"bomb\0\0" + crafting.deflated_zeros(100_000_000))])


def long_text() -> bytes:
    """A PNG with 3 MB of packed text, as image generators write their recipe."""
    recipe = b"workflow\0\0" + zlib.compress(b'{"node": "sampler"} ' * 150_000)
    return crafting.png_of(pixels(), before=[chunk(b"zTXt", recipe)])


def thirty_megabytes() -> bytes:
    """A BMP of 30.7 MB, whose pixels would be fine."""
    return encode(Image.new("RGB", (3200, 3200)), "BMP")


def black(width: int, height: int) -> Pixels:
    """Nothing but black."""
    return np.zeros((height, width, 3), np.uint8)
