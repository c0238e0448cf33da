"""Files of every kind become upright RGB, or an error with a stable code."""

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.defakerone.errors import ImageError
from worker.defakerone.images import ALPHA_COMPOSITED, DEPTH_REDUCED, FIRST_FRAME, ImageLimits, load_image

WIDTH, HEIGHT = 40, 24
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
RED_CORNER, REST = (250, 10, 10), (20, 60, 200)


def upright() -> Image.Image:
    """Blue with a red top left quarter: every orientation of it looks different."""
    image = Image.new("RGB", (WIDTH, HEIGHT), REST)
    image.paste(RED_CORNER, (0, 0, WIDTH // 2, HEIGHT // 2))
    return image


# Stored pixels that, turned as the EXIF orientation says, are upright again.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    if kind in ("JPEG", "WEBP", "AVIF"):
        options.setdefault("quality", 95)
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(number: int, kind: str) -> bytes:
    turn = STORED[number]
    stored = upright() if turn is None else upright().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = number
    return encode(stored, kind, exif=exif)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("number", STORED)
def test_every_orientation_comes_out_upright(kind: str, number: int) -> None:
    loaded = load_image(with_orientation(number, kind))
    assert loaded.image.size == (WIDTH, HEIGHT)
    assert loaded.format == kind.lower()
    difference = np.abs(np.asarray(loaded.image, int) - np.asarray(upright(), int))
    assert difference.mean() < 12
    assert loaded.orientation_applied == (number != 1) or kind == "AVIF"


def test_plain_formats_keep_their_pixels() -> None:
    for kind in ("PNG", "TIFF", "BMP"):
        loaded = load_image(encode(upright(), kind))
        np.testing.assert_array_equal(np.asarray(loaded.image), np.asarray(upright()))
        assert loaded.notes == ()
        assert loaded.frames == 1


def test_sixteen_bit_grey_is_scaled_and_not_saturated() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    for kind in ("PNG", "TIFF"):
        loaded = load_image(encode(Image.fromarray(ramp), kind))
        grey = np.asarray(loaded.image)[0, :, 0]
        np.testing.assert_allclose(grey, ramp[0] / 257, atol=0.51)
        assert loaded.notes == (DEPTH_REDUCED,)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 200.0], [0, 100, 200]),
        ([-1.0, 0.0, float("nan")], [0, 255, 255]),
    ],
)
def test_float_pixels_are_scaled_by_their_range(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    loaded = load_image(encode(image, "TIFF"))
    np.testing.assert_allclose(np.asarray(loaded.image)[0, :, 0], expected, atol=1)


def test_hidden_colours_under_transparency_do_not_show() -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 200, 255))
    for kind in ("PNG", "WEBP"):
        loaded = load_image(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert loaded.notes == (ALPHA_COMPOSITED,)
        assert loaded.image.getpixel((3, 3)) == (255, 255, 255)
        assert loaded.image.getpixel((0, 0)) == (0, 0, 200)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    loaded = load_image(encode(upright().convert("RGBA"), "PNG"))
    np.testing.assert_array_equal(np.asarray(loaded.image), np.asarray(upright()))
    assert loaded.notes == ()


def test_palette_transparency_is_composited() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    loaded = load_image(encode(image, "PNG", transparency=1))
    assert loaded.image.getpixel((3, 3)) == (255, 255, 255)
    assert loaded.image.getpixel((0, 0)) == (255, 0, 0)
    assert loaded.notes == (ALPHA_COMPOSITED,)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_other_modes_convert(mode: str) -> None:
    source = upright() if mode != "LAB" else Image.new("LAB", (WIDTH, HEIGHT), (120, 128, 128))
    kind = "TIFF" if mode != "P" else "PNG"
    loaded = load_image(encode(source.convert(mode) if mode != "LAB" else source, kind))
    assert loaded.image.mode == "RGB"
    assert loaded.image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_seen_and_all_are_counted(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (60 * n, 0, 0)) for n in range(4)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    loaded = load_image(data)
    assert loaded.frames == 4
    assert loaded.notes == (FIRST_FRAME,)
    assert max(loaded.image.getpixel((4, 4))) < 12  # type: ignore[arg-type]
    with pytest.raises(ImageError) as caught:
        load_image(data, ImageLimits(max_frames=3))
    assert caught.value.code == "too_many_frames"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ImageLimits(max_bytes=100), "too_many_bytes"),
        (ImageLimits(max_pixels=WIDTH * HEIGHT - 1), "too_many_pixels"),
        (ImageLimits(max_side=WIDTH - 1), "side_too_long"),
    ],
)
def test_limits_are_kept(limits: ImageLimits, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(encode(upright(), "PNG"), limits)
    assert caught.value.code == code


def test_a_small_file_with_a_huge_header_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encode(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(ImageError) as caught:
        load_image(bytes(data))
    assert caught.value.code in ("too_many_pixels", "side_too_long")


@pytest.mark.parametrize(
    "data", [b"", b"no image at all", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"%PDF-1.7"]
)
def test_what_is_no_image_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert caught.value.code in ("unknown_format", "undecodable")


def test_a_cut_file_is_refused_and_a_missing_one_is_unreadable(tmp_path: Path) -> None:
    data = encode(upright().resize((400, 240)), "JPEG")
    with pytest.raises(ImageError) as caught:
        load_image(data[: len(data) // 2])
    assert caught.value.code == "undecodable"
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "nowhere.png")
    assert caught.value.code == "unreadable"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_and_colour_profiles_are_tolerated() -> None:
    data = encode(upright(), "JPEG", exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" * 3, icc_profile=b"no profile")
    loaded = load_image(data)
    assert loaded.image.size == (WIDTH, HEIGHT)
    assert loaded.orientation == 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_mutated_files_give_an_image_or_an_image_error() -> None:
    generator = random.Random(20260101)
    seeds = [encode(upright(), kind) for kind in (*FORMATS, "GIF", "BMP")]
    outcomes = {"image": 0, "error": 0}
    for round_ in range(300):
        data = bytearray(seeds[round_ % len(seeds)])
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            loaded = load_image(bytes(data), ImageLimits(max_pixels=1_000_000))
        except ImageError:
            outcomes["error"] += 1
        else:
            assert loaded.image.mode == "RGB"
            outcomes["image"] += 1
    assert min(outcomes.values()) > 10


def test_the_loader_needs_no_torch() -> None:
    code = "import sys, worker.defakerone.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
