"""What does a person see of a detection?

Mask and heat map are data: 8-bit grey PNG at the upright image's full size. The overlay is for eyes: the image with its
marked parts glowing and outlined, and a caption that says what was found and how sure the model is.
"""

from __future__ import annotations

import io
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from worker.defakerone.verdict import AUTHENTIC, FAKE, LOCALIZATION_SKIPPED, Detection

Bytes = npt.NDArray[np.uint8]

OVERLAY_SIDE: Final = 1600  # longer side of an overlay, pixels
_CAPTION_WIDTH: Final = 520  # below it, a caption would not be legible
_GLOW: Final = np.array([(255, 214, 10), (255, 120, 20), (230, 20, 70)], dtype=np.float32)  # faint, middle, certain
_BADGES: Final = {FAKE: (200, 24, 60), AUTHENTIC: (20, 122, 86)}
_UNDECIDED: Final = (96, 96, 108)
_PAPER: Final = (20, 20, 26)
_INK: Final = (236, 236, 240)


def encode_mask(detection: Detection) -> bytes:
    """Encode the mask as PNG: 255 = manipulated."""
    return _png(detection.mask * np.uint8(255))


def encode_heatmap(detection: Detection) -> bytes:
    """Encode the heat map as PNG: 0..255 = 0..1."""
    return _png(np.rint(detection.heatmap * 255).astype(np.uint8))


def encode_jpeg(image: Image.Image, quality: int = 88) -> bytes:
    """Encode a picture for the eye."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def overlay(image: Image.Image, detection: Detection, side: int = OVERLAY_SIDE) -> Image.Image:
    """Draw what was found over an upright RGB image, at most `side` pixels long, without a caption."""
    small = _fit(image, side)
    width, height = small.size
    heat = cv2.resize(detection.heatmap, (width, height), interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(detection.mask * np.uint8(255), (width, height), interpolation=cv2.INTER_AREA) > 127).view(
        np.uint8
    )
    return Image.fromarray(_outline(_glow(np.asarray(small, dtype=np.float32), np.asarray(heat, np.float32)), mask))


def card(image: Image.Image, detection: Detection, side: int = OVERLAY_SIDE) -> Image.Image:
    """Return the overlay above a caption: the picture that `assay detect --out` writes."""
    picture = overlay(image, detection, side)
    width = max(picture.width, _CAPTION_WIDTH)
    bar = round(64 * max(width / 900, 0.7))
    sheet = Image.new("RGB", (width, picture.height + bar), _PAPER)
    sheet.paste(picture, ((sheet.width - picture.width) // 2, 0))
    _write_caption(sheet, picture.height, bar, detection)
    return sheet


def headline(detection: Detection) -> str:
    """Say the verdict in one line."""
    where = _share(detection.area_fraction)
    where = "not localized" if LOCALIZATION_SKIPPED in detection.reasons else where
    sure = "" if detection.probability is None else f", probability {detection.probability:.0%}"
    return f"score {detection.score:.2f}{sure}, {where}"


def _share(fraction: float) -> str:
    if fraction == 0:
        return "nothing marked"
    return f"{fraction:.1%} marked" if fraction >= 0.0005 else "a speck marked"


def _fit(image: Image.Image, side: int) -> Image.Image:
    factor = side / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(length * factor)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _glow(pixels: npt.NDArray[np.float32], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Tint by heat: nothing below 0.3, half of the colour at 1; the rest is dimmed where something glows."""
    strength = np.clip((heat - 0.3) / 0.7, 0, 1)[..., None]
    position = np.clip(heat[..., None] * 4 - 2, 0, 2)  # 0.5 -> faint, 0.75 -> middle, 1 -> certain
    low = np.minimum(position.astype(int), 1)[..., 0]
    colour = _GLOW[low] + (_GLOW[low + 1] - _GLOW[low]) * (position - low[..., None])
    dimmed = pixels * (0.78 if (heat > 0.5).any() else 1.0)
    return np.asarray(dimmed + (colour - dimmed) * (0.55 * strength), dtype=np.float32)


def _outline(pixels: npt.NDArray[np.float32], mask: Bytes) -> Bytes:
    """Draw the mask's edge, light on dark so that it shows on any picture."""
    canvas = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thick = max(1, round(max(mask.shape) / 500))
    cv2.drawContours(canvas, contours, -1, (20, 10, 16), thick + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, (255, 244, 214), thick, cv2.LINE_AA)
    return canvas


def _write_caption(sheet: Image.Image, top: int, bar: int, detection: Detection) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=bar * 0.34)
    small = ImageFont.load_default(size=bar * 0.24)
    label = detection.label.upper()
    pad, middle = bar // 3, top + bar // 2
    width = draw.textlength(label, font=font)
    badge = (pad, top + bar // 5, pad + width + pad, top + bar - bar // 5)
    draw.rounded_rectangle(badge, radius=bar // 8, fill=_BADGES.get(detection.label, _UNDECIDED))
    draw.text((pad + pad / 2, middle), label, font=font, fill="white", anchor="lm")
    left = badge[2] + pad
    shift = bar * 0.16 if detection.reasons else 0
    draw.text((left, middle - shift), headline(detection), font=small, fill=_INK, anchor="lm")
    if detection.reasons:
        reasons = ", ".join(reason.replace("_", " ") for reason in detection.reasons)
        draw.text((left, middle + shift), reasons, font=small, fill=(170, 170, 182), anchor="lm")


def _png(pixels: Bytes) -> bytes:
    ok, data = cv2.imencode(".png", pixels)
    if not ok:
        raise OSError("the PNG encoder failed")
    return data.tobytes()
