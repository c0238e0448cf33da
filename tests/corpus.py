"""Which inputs has the service to survive, and how does each have to end?

Every file is made when it is asked for. `CORPUS` is the list; each case says whether intake refuses it (the code of the
problem document), the worker does (the failure's code), or what its upright pixels are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests import crafting
from tests.corpus_files import (
    Pixels,
    animated,
    black,
    broken_exif,
    broken_webp_exif,
    colour_keyed,
    empty_chunks,
    empty_webp_chunk,
    grey_on_white,
    huge_webp_canvas,
    long_text,
    many_apng_frames,
    on_white,
    palette,
    palette_seen,
    phone_photo,
    picture,
    pixels,
    ramp,
    ramp_tiff,
    reread,
    scaled_ramp,
    script_inside,
    text_bomb,
    thirty_megabytes,
    translucent,
    turned,
    zip_behind,
)
from tests.crafting import chunk
from tests.pictures import encode, gradient, jpeg

LOSSY = 12.0  # mean difference that a lossy format may show beside the picture that went in


@dataclass(frozen=True, slots=True)
class Case:
    """One input. With neither `problem` nor `failure` it is screened, and these pixels are what is seen."""

    name: str
    make: Callable[[], bytes]
    problem: str | None = None  # intake refuses it with this code ...
    failure: str | None = None  # ... or the worker ends it with this one
    seen: Callable[[], Pixels] | None = None  # (height, width, 3), upright
    tolerance: float = 0.0  # of the mean difference
    format: str = ""
    frames: int = 1
    reasons: frozenset[str] = frozenset()
    huge: bool = False  # takes seconds to screen


SEEN_AS_JPEG = partial(reread, lambda: jpeg(60, 40))

REFUSED_AT_INTAKE = [
    Case("an empty body", lambda: b"", "undecodable_header"),
    Case("a text called .jpg", lambda: b"Dear sir, enclosed you find my picture.\n" * 50, "unsupported_format"),
    Case("a PDF", lambda: b"%PDF-1.7\n" + bytes(500), "unsupported_format"),
    Case("an SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
    Case("an icon", lambda: encode(picture(), "ICO"), "unsupported_format"),
    Case("zeros", lambda: bytes(5000), "unsupported_format"),
    Case("a JPEG cut in its header", lambda: jpeg(60, 40)[:100], "undecodable_header"),
    Case("a PNG cut in its header", lambda: crafting.png_of(pixels())[:20], "undecodable_header"),
    Case("a GIF that is a script", lambda: b"GIF89a/*" + b" " * 200 + b"*/=1;alert(1)", "undecodable_header"),
    Case("a PNG of no pixels", lambda: crafting.flat_png(0, 0), "undecodable_header"),
    Case("50,001 x 1 pixels", lambda: crafting.flat_png(50_001, 1, colour=crafting.RGB), "too_many_pixels"),
    Case(
        "169 MP in 20 kB", lambda: crafting.flat_png(13_000, 13_000, colour=crafting.GREY, depth=1), "too_many_pixels"
    ),
    Case("0.8 GB in 0.8 MB", lambda: crafting.flat_png(14_000, 14_000), "too_many_pixels"),
    Case("a JPEG that claims 4,225 MP", lambda: crafting.with_size(jpeg(), 65_000, 65_000), "too_many_pixels"),
    Case("a WebP that claims a canvas of 268 MP", huge_webp_canvas, "too_many_pixels"),
    Case("a PNG with a text of 100 MB", text_bomb, "undecodable_header"),
    Case("30 MB", thirty_megabytes, "too_many_bytes"),
]

FAILED_BY_THE_WORKER = [
    Case("a JPEG cut in its middle", lambda: jpeg(300, 200)[:3000], failure="undecodable"),
    Case("a JPEG without its end", lambda: jpeg(300, 200)[:-40], failure="undecodable"),
    Case("a PNG cut in its middle", lambda: encode(gradient(300, 200), "PNG")[:400], failure="undecodable"),
    Case("a GIF of 1,001 frames", partial(crafting.gif, 1001), failure="too_many_frames"),
    Case("a TIFF of 1,001 pages", partial(crafting.tiff, 1001), failure="too_many_frames"),
    Case("a PNG that claims 2,147,483,647 frames", many_apng_frames, failure="too_many_frames"),
]

FIRST_FRAME = frozenset({"first_frame_only"})
ALPHA = frozenset({"alpha_composited"})
DEPTH = frozenset({"depth_reduced"})

ANIMATED = [
    Case(
        "an animated GIF",
        partial(animated, "GIF"),
        seen=pixels,
        tolerance=LOSSY,
        format="gif",
        frames=3,
        reasons=FIRST_FRAME,
    ),
    Case("an animated PNG", partial(animated, "PNG"), seen=pixels, format="png", frames=3, reasons=FIRST_FRAME),
    Case(
        "an animated WebP",
        partial(animated, "WEBP", lossless=True),
        seen=pixels,
        format="webp",
        frames=3,
        reasons=FIRST_FRAME,
    ),
    Case(
        "an animated AVIF",
        partial(animated, "AVIF", quality=95),
        seen=pixels,
        tolerance=LOSSY,
        format="avif",
        frames=3,
        reasons=FIRST_FRAME,
    ),
    Case("a TIFF of three pages", partial(animated, "TIFF"), seen=pixels, format="tiff", frames=3, reasons=FIRST_FRAME),
    Case(
        "a GIF of 1,000 frames",
        partial(crafting.gif, 1000),
        seen=partial(black, 4, 4),
        format="gif",
        frames=1000,
        reasons=FIRST_FRAME,
    ),
    Case(
        "a TIFF whose pages go round",
        partial(crafting.tiff, 3, looped=True),
        seen=lambda: np.full((1, 1, 3), 128, np.uint8),
        format="tiff",
        frames=3,
        reasons=FIRST_FRAME,
    ),
    Case("a phone's photo with a second picture", phone_photo, seen=pixels, tolerance=LOSSY, format="jpeg"),
]

MODES = [
    Case("16-bit grey PNG", lambda: crafting.png_of(ramp()), seen=scaled_ramp, format="png", reasons=DEPTH),
    Case("16-bit grey TIFF", ramp_tiff, seen=scaled_ramp, format="tiff", reasons=DEPTH),
    Case(
        "16-bit colour PNG",
        lambda: crafting.png_of(np.repeat(ramp()[..., None], 3, axis=2)),
        seen=lambda: np.repeat((ramp() >> 8).astype(np.uint8)[..., None], 3, axis=2),
        format="png",
    ),
    Case(
        "1-bit PNG",
        lambda: encode(picture().convert("1"), "PNG"),
        seen=lambda: np.asarray(picture().convert("1").convert("RGB")),
        format="png",
    ),
    Case(
        "grey JPEG",
        lambda: encode(picture().convert("L"), "JPEG", quality=95),
        seen=lambda: np.asarray(picture().convert("L").convert("RGB")),
        tolerance=LOSSY,
        format="jpeg",
    ),
    Case(
        "CMYK JPEG",
        lambda: encode(picture().convert("CMYK"), "JPEG", quality=95),
        seen=pixels,
        tolerance=LOSSY,
        format="jpeg",
    ),
    Case("CMYK TIFF", lambda: encode(picture().convert("CMYK"), "TIFF"), seen=pixels, format="tiff"),
    Case("RGBA PNG", lambda: encode(translucent(), "PNG"), seen=on_white, format="png", reasons=ALPHA),
    Case(
        "RGBA WebP",
        lambda: encode(translucent(), "WEBP", lossless=True, exact=True),
        seen=on_white,
        format="webp",
        reasons=ALPHA,
    ),
    Case("RGBA TIFF", lambda: encode(translucent(), "TIFF"), seen=on_white, format="tiff", reasons=ALPHA),
    Case(
        "RGBA AVIF",
        lambda: encode(translucent(), "AVIF", quality=95),
        seen=on_white,
        tolerance=LOSSY,
        format="avif",
        reasons=ALPHA,
    ),
    Case(
        "grey with alpha PNG", lambda: encode(translucent("L"), "PNG"), seen=grey_on_white, format="png", reasons=ALPHA
    ),
    Case(
        "an alpha channel that hides nothing",
        lambda: encode(picture().convert("RGBA"), "PNG"),
        seen=pixels,
        format="png",
    ),
    Case(
        "palette with transparency PNG",
        lambda: encode(palette(), "PNG", transparency=3),
        seen=palette_seen,
        format="png",
        reasons=ALPHA,
    ),
    Case(
        "palette with transparency GIF",
        lambda: encode(palette(), "GIF", transparency=3),
        seen=palette_seen,
        format="gif",
        reasons=ALPHA,
    ),
    Case("a see-through colour without alpha", colour_keyed, seen=on_white, format="png", reasons=ALPHA),
    Case(
        "progressive JPEG",
        lambda: encode(picture(), "JPEG", quality=95, progressive=True),
        seen=pixels,
        tolerance=LOSSY,
        format="jpeg",
    ),
    Case("LZW TIFF", lambda: encode(picture(), "TIFF", compression="tiff_lzw"), seen=pixels, format="tiff"),
    Case(
        "JPEG in TIFF",
        lambda: encode(picture(), "TIFF", compression="jpeg"),
        seen=pixels,
        tolerance=LOSSY,
        format="tiff",
    ),
    Case(
        "palette BMP", lambda: encode(palette(), "BMP"), seen=lambda: np.asarray(palette().convert("RGB")), format="bmp"
    ),
]

TURNING: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 95},
}


def _turned(format: str, orientation: int) -> Case:
    make = partial(turned, format, orientation, **TURNING[format])
    return Case(
        f"{format}, EXIF orientation {orientation}",
        make,
        seen=partial(reread, make) if format == "JPEG" else pixels,
        tolerance=LOSSY if format == "AVIF" else 0,
        format=format.lower(),
    )


TURNED = [_turned(format, orientation) for format in TURNING for orientation in range(1, 9)]

DAMAGED_METADATA = [
    Case(
        "broken ICC profile in a JPEG",
        lambda: encode(picture(), "JPEG", icc_profile=b"no profile", quality=95),
        seen=pixels,
        tolerance=LOSSY,
        format="jpeg",
    ),
    Case(
        "broken ICC profile in a PNG",
        lambda: crafting.png_of(pixels(), before=[chunk(b"iCCP", b"bad\0\0not deflated")]),
        seen=pixels,
        format="png",
    ),
    Case("broken EXIF in a JPEG", partial(broken_exif, "JPEG"), seen=pixels, tolerance=LOSSY, format="jpeg"),
    Case(
        "broken EXIF in a PNG",
        lambda: crafting.png_of(pixels(), before=[chunk(b"eXIf", b"MM\0*\xff\xff\xff\xf0" + b"\xff" * 40)]),
        seen=pixels,
        format="png",
    ),
    Case("broken EXIF in a WebP", broken_webp_exif, seen=pixels, format="webp"),
    Case(
        "an EXIF orientation of 9",
        lambda: crafting.with_segments(jpeg(60, 40), [(0xE1, b"Exif\0\0" + crafting.exif(9))]),
        seen=SEEN_AS_JPEG,
        format="jpeg",
    ),
    Case(
        "EXIF behind the pixels of a PNG, which lies on its side",
        lambda: crafting.png_of(
            np.ascontiguousarray(np.rot90(pixels())), after=[chunk(b"eXIf", crafting.exif(6, "MM"))]
        ),
        seen=pixels,
        format="png",
    ),
    Case(
        "EXIF before and behind the pixels of a PNG",
        lambda: crafting.png_of(
            np.ascontiguousarray(np.rot90(pixels())),
            before=[chunk(b"eXIf", crafting.exif(1, "II"))],
            after=[chunk(b"eXIf", crafting.exif(6, "II"))],
        ),
        seen=pixels,
        format="png",
    ),
    Case(
        "EXIF behind the pixels of a PNG",
        lambda: crafting.png_of(
            np.ascontiguousarray(pixels()[::-1, ::-1]), after=[chunk(b"eXIf", crafting.exif(3, "II"))]
        ),
        seen=pixels,
        format="png",
    ),
    Case("chunks of no bytes in a PNG", empty_chunks, seen=pixels, format="png"),
    Case("a chunk of no bytes in a WebP", empty_webp_chunk, seen=pixels, format="webp"),
    Case(
        "segments of no bytes in a JPEG",
        lambda: crafting.with_segments(jpeg(60, 40), [(0xFE, b""), (0xE0, b""), (0xE1, b"")]),
        seen=SEEN_AS_JPEG,
        format="jpeg",
    ),
    Case("a PNG with a text of 3 MB", long_text, seen=pixels, format="png"),
    Case("a JPEG that is a ZIP archive", zip_behind, seen=SEEN_AS_JPEG, format="jpeg"),
    Case("a JPEG with a page inside", script_inside, seen=SEEN_AS_JPEG, format="jpeg"),
]

# Its data end early and properly, so that libjpeg, like browsers, fills up with grey.
CLAIMING_JPEG = partial(crafting.with_size, jpeg(), 7000, 7000)

SIZES = [
    Case("one pixel", lambda: crafting.png_of(pixels()[:1, :1]), seen=lambda: pixels()[:1, :1], format="png"),
    Case(
        "the longest side, one pixel high",
        lambda: crafting.flat_png(16_384, 1, colour=crafting.RGB),
        seen=partial(black, 16_384, 1),
        format="png",
    ),
    Case(
        "the longest side, one pixel wide",
        lambda: crafting.flat_png(1, 16_384, colour=crafting.RGB),
        seen=partial(black, 1, 16_384),
        format="png",
    ),
    Case("a JPEG that claims 49 MP", CLAIMING_JPEG, seen=partial(reread, CLAIMING_JPEG), format="jpeg", huge=True),
    Case(
        "50 MP in 50 kB",
        lambda: crafting.flat_png(10_000, 5_000, colour=crafting.GREY),
        seen=partial(black, 10_000, 5_000),
        format="png",
        huge=True,
    ),
]

SCREENED = [*ANIMATED, *MODES, *TURNED, *DAMAGED_METADATA, *SIZES]
CORPUS = [*REFUSED_AT_INTAKE, *FAILED_BY_THE_WORKER, *SCREENED]
