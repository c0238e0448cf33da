"""How is a scanned document altered? Words replaced, deleted, inserted, and glyphs moved from one place to another.

The mask marks the whole box of the altered word, as data sets of tampered text do.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.operations import Edit
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.removal import pyramid_fill
from worker.defakerone.training.forgery.scenes import Scene

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""

SYSTEM_FONTS = Path("/usr/share/fonts/truetype")
FONT_NAMES = (
    "DejaVuSans.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
)
LIBERATION = ("LiberationSans-Regular.ttf", "LiberationMono-Regular.ttf", "LiberationSansNarrow-Regular.ttf")


@lru_cache
def font_files() -> tuple[Path, ...]:
    """List the fonts to write with: those matplotlib carries, and Liberation where the system has it."""
    bundled = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    system = (SYSTEM_FONTS / "liberation" / name for name in LIBERATION)
    return tuple(bundled / name for name in FONT_NAMES) + tuple(path for path in system if path.exists())


@lru_cache(maxsize=256)
def _font(index: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_files()[index]), size)


def invent_text(rng: np.random.Generator, original: str) -> str:
    """Write another word of the same pattern: digits for digits, letters for letters, marks kept; never the same."""
    letters, capitals, digits = "abcdefghiklmnoprstuvwz", "ABCDEFGHIKLMNOPRSTUVWZ", "0123456789"
    for _ in range(20):
        changed = []
        for sign in original:
            pool = digits if sign.isdigit() else capitals if sign.isupper() else letters if sign.isalpha() else sign
            keep = len(original) > 3 and rng.random() < 0.4
            changed.append(sign if keep else pool[int(rng.integers(len(pool)))])
        if changed != list(original):
            return "".join(changed)
    return original + "1"


def render(rng: np.random.Generator, text: str, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Write a word into a box of `size` (width, height): ink coverage from 0 to 1, as sharp as a scan is."""
    index = int(rng.integers(len(font_files())))
    font = _font(index, 64)
    left, top, right, bottom = font.getbbox(text)
    sheet = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4), 0)
    ImageDraw.Draw(sheet).text((2 - left, 2 - top), text, fill=255, font=font)
    drawn = cv2.resize(np.asarray(sheet), size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    blurred: npt.NDArray[Any] = cv2.GaussianBlur(drawn, (0, 0), float(rng.uniform(0.3, 1.1)))
    return blurred


def _cells(box: Box, pad: int = 1) -> tuple[slice, slice]:
    left, top, width, height = box
    return slice(max(0, top - pad), top + height + pad), slice(max(0, left - pad), left + width + pad)


def _mark(shape: tuple[int, ...], box: Box) -> Mask:
    mask = np.zeros(shape[:2], np.uint8)
    mask[_cells(box)] = 255
    return mask


def _ink(pixels: Pixels, box: Box) -> npt.NDArray[Any]:
    window = pixels[_cells(box)].reshape(-1, 3).astype(np.float32)
    darkness = window.sum(1)
    return np.asarray(window[darkness <= np.percentile(darkness, 8)].mean(0), np.float32)


def erase(rng: np.random.Generator, pixels: Pixels, box: Box) -> Pixels:
    """Cover a word: with paper copied from beside it where the place is blank, or with a smooth fill and grain."""
    rows, columns = _cells(box, 2)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    result = pixels.copy()
    target = result[rows, columns]
    blank = _blank_window(rng, pixels, (target.shape[1], target.shape[0]))
    if blank is not None and rng.random() < 0.5:
        target[...] = blank
        return result
    pad = max(6, height // 2)
    around = (slice(max(0, rows.start - pad), rows.stop + pad), slice(max(0, columns.start - pad), columns.stop + pad))
    local, hole = pixels[around], np.zeros(pixels[around].shape[:2], np.uint8)
    top, left = rows.start - around[0].start, columns.start - around[1].start
    hole[top : top + height, left : left + width] = 255
    filled = pyramid_fill(local, hole)
    grain = rng.standard_normal(filled.shape[:2], dtype=np.float32)[..., None] * np.float32(rng.uniform(0, 3))
    result[around] = np.where(hole[..., None] > 0, np.clip(filled + grain, 0, 255).astype(np.uint8), local)
    return result


def _blank_window(rng: np.random.Generator, pixels: Pixels, size: tuple[int, int]) -> Pixels | None:
    height, width = pixels.shape[:2]
    if size[0] >= width or size[1] >= height:
        return None
    best, best_spread = None, 18.0
    for _ in range(12):
        left, top = int(rng.integers(0, width - size[0])), int(rng.integers(0, height - size[1]))
        window = pixels[top : top + size[1], left : left + size[0]]
        spread = float(window[::2, ::2, 1].std())
        if spread < best_spread and window[..., 1].mean() > 110:
            best, best_spread = window, spread
    return best


def write(rng: np.random.Generator, pixels: Pixels, box: Box, text: str, ink: npt.NDArray[Any]) -> Pixels:
    """Print a word over the paper inside the box."""
    left, top, width, height = box
    result = pixels.copy()
    paper = result[top : top + height, left : left + width]
    cover = render(rng, text, (paper.shape[1], paper.shape[0]))[..., None]
    result[top : top + height, left : left + width] = (paper + cover * (ink - paper)).astype(np.uint8)
    return result


def _replace(rng: np.random.Generator, scene: Scene, pixels: Pixels, choice: int) -> tuple[Pixels, Box]:
    word, box = scene.words[choice]
    ink = _ink(pixels, box)
    return write(rng, erase(rng, pixels, box), box, invent_text(rng, word.text), ink), box


def _delete(rng: np.random.Generator, scene: Scene, pixels: Pixels, choice: int) -> tuple[Pixels, Box]:
    box = scene.words[choice][1]
    return erase(rng, pixels, box), box


def _move_glyphs(rng: np.random.Generator, scene: Scene, pixels: Pixels, choice: int) -> tuple[Pixels, Box]:
    left, top, width, height = scene.words[choice][1]
    others = [box for i, (_, box) in enumerate(scene.words) if i != choice and 0.75 < box[3] / height < 1.33]
    if not others:
        return _replace(rng, scene, pixels, choice)
    source = others[int(rng.integers(len(others)))]
    part = rng.uniform(0.35, 1.0)
    w = max(5, int(min(width, source[2]) * part))
    x, from_x = left + int(rng.integers(0, width - w + 1)), source[0] + int(rng.integers(0, source[2] - w + 1))
    glyphs = pixels[_cells((from_x, source[1], w, source[3]))]
    result = pixels.copy()
    target = result[_cells((x, top, w, height))]
    target[...] = cv2.resize(glyphs, target.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return result, (x, top, w, height)


def _insert(rng: np.random.Generator, scene: Scene, pixels: Pixels, choice: int) -> tuple[Pixels, Box]:
    word, (left, top, width, height) = scene.words[choice]
    page_height, page_width = pixels.shape[:2]
    for _ in range(16):
        x = int(rng.integers(1, max(2, page_width - width - 1)))
        y = int(rng.integers(1, max(2, page_height - height - 1)))
        if float(pixels[y : y + height, x : x + width, 1].std()) < 14:
            ink = _ink(pixels, (left, top, width, height))
            box = (x, y, width, height)
            return write(rng, pixels, box, invent_text(rng, word.text), ink), box
    return _replace(rng, scene, pixels, choice)


ACTS = (
    (0.4, "replace", _replace),
    (0.2, "delete", _delete),
    (0.25, "move-glyphs", _move_glyphs),
    (0.15, "insert", _insert),
)


def alter(rng: np.random.Generator, scene: Scene) -> tuple[Edit, str] | None:
    """Alter one to four words of a scanned page; None where the window shows no whole word."""
    if not scene.words:
        return None
    name, act = [(n, a) for _, n, a in ACTS][int(rng.choice(len(ACTS), p=[p for p, _, _ in ACTS]))]
    count = min(len(scene.words), int(rng.choice((1, 1, 2, 3, 4))))
    pixels, mask = scene.pixels, np.zeros(scene.pixels.shape[:2], np.uint8)
    for choice in rng.choice(len(scene.words), count, replace=False):
        pixels, box = act(rng, scene, pixels, int(choice))
        mask |= _mark(pixels.shape, box)
    return Edit(pixels, mask), f"document-{name}"
