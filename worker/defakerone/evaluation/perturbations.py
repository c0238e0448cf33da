"""How much of a detector's skill is left after what platforms and people do to pictures?

Seven suites of five strengths, applied to decoded, upright RGB before the detector's own preprocessing, and an identity
level that must reproduce the unperturbed figures. The paper names the suites (section on robustness) and not the
levels, which are ours. `halve` is no part of the mean over suites: it leaves the image small, and the mask with it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

Mask = NDArray[np.uint8] | None
Seed = list[int]
Change = Callable[[Image.Image, float, Seed], Image.Image]

IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One suite at one level; `level` is in the suite's own unit."""

    suite: str
    level: float

    @property
    def name(self) -> str:
        """A name fit for a cache key, a column and a person: `jpeg 70`."""
        return self.suite if self.suite == IDENTITY else f"{self.suite} {self.level:g}"


@dataclass(frozen=True, slots=True)
class Suite:
    """One kind of change, its levels from weak to strong, and what a level means."""

    change: Change
    levels: tuple[float, ...]
    unit: str
    moves_pixels: bool = False
    """Whether the image changes its size, so that the mask has to follow."""


def perturb(
    image: Image.Image, mask: Mask, perturbation: Perturbation, *, seed: int, image_id: str
) -> tuple[Image.Image, Mask]:
    """Change an RGB image, and its mask (height, width) of 0 and 1 where the change has a geometry.

    The result depends on the arguments alone, not on what was perturbed before.
    """
    suite = SUITES[perturbation.suite]
    changed = suite.change(image, perturbation.level, _seed(seed, perturbation.name, image_id))
    if mask is None or not suite.moves_pixels:
        return changed, mask
    return changed, resize_mask(mask, changed.size)


def resize_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask of 0 and 1 to (width, height): a pixel is manipulated if at least half of what it covers is.

    A mask that marks something keeps its most covered pixel, so that a forgery never becomes an unmarked one.
    """
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    marked = share >= min(0.5, float(share.max())) if mask.any() else np.zeros(share.shape, bool)
    return np.asarray(marked, dtype=np.uint8)


def all_perturbations(suites: tuple[str, ...] | None = None) -> list[Perturbation]:
    """The identity control and every level of the named suites; by default of the seven that the mean is over."""
    chosen = SEVEN if suites is None else suites
    return [Perturbation(IDENTITY, 0.0)] + [
        Perturbation(name, level) for name in chosen for level in SUITES[name].levels
    ]


def _seed(seed: int, perturbation: str, image_id: str) -> Seed:
    digest = hashlib.sha256(f"{perturbation}\0{image_id}".encode()).digest()
    return [seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()]


def _blur(image: Image.Image, sigma: float, _: Seed) -> Image.Image:
    return Image.fromarray(cv2.GaussianBlur(np.asarray(image), (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def _brightness(image: Image.Image, factor: float, _: Seed) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, _: Seed) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _saturation(image: Image.Image, factor: float, _: Seed) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def _jpeg(image: Image.Image, quality: float, _: Seed) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    with Image.open(file) as compressed:
        return compressed.convert("RGB")


def _noise(image: Image.Image, deviation: float, seed: Seed) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = np.asarray(image, dtype=np.float32)
    noisy = pixels + random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(deviation)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _resize(image: Image.Image, factor: float, _: Seed) -> Image.Image:
    return _shrink(image, factor, _).resize(image.size, Image.Resampling.BICUBIC)


def _shrink(image: Image.Image, factor: float, _: Seed) -> Image.Image:
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _identity(image: Image.Image, _level: float, _seed: Seed) -> Image.Image:
    return image.copy()


SUITES: Mapping[str, Suite] = {
    "blur": Suite(_blur, (0.5, 1.0, 1.5, 2.0, 3.0), "sigma of a Gaussian, pixels"),
    "brightness": Suite(_brightness, (0.75, 0.5, 1.25, 1.5, 2.0), "factor"),
    "contrast": Suite(_contrast, (0.75, 0.5, 1.25, 1.5, 2.0), "factor"),
    "jpeg": Suite(_jpeg, (95, 85, 70, 50, 30), "quality, chroma halved"),
    "noise": Suite(_noise, (2, 5, 10, 15, 20), "standard deviation of 255"),
    "resize": Suite(_resize, (0.9, 0.75, 0.5, 0.4, 0.3), "factor down, then back to the size"),
    "saturation": Suite(_saturation, (0.75, 0.5, 1.25, 1.5, 2.0), "factor"),
    "halve": Suite(_shrink, (0.5,), "factor down, left small", moves_pixels=True),
    IDENTITY: Suite(_identity, (0.0,), "control", moves_pixels=False),
}
SEVEN: tuple[str, ...] = ("blur", "brightness", "contrast", "jpeg", "noise", "resize", "saturation")
