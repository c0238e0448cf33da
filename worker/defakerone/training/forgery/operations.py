"""What does one act of forgery on a natural picture do, and to exactly which pixels?

Each operation takes a scene and gives the forged pixels and the mask of what changed. Copy-move also says where each
copied pixel came from.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from worker.defakerone.training.forgery.blending import (
    add_noise,
    blend_bands,
    composite,
    footprint,
    match_colour,
    match_surroundings,
    noise_level,
    soften,
)
from worker.defakerone.training.forgery.interest import draw_place
from worker.defakerone.training.forgery.journey import INTERPOLATIONS, Mask, Matrix, random_jpeg, sharpen
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.shapes import bounds, draw_region


@dataclass(frozen=True)
class Edit:
    """Forged pixels, the mask, and for copy-move the transforms from target pixels to their source."""

    pixels: Pixels
    mask: Mask
    sources: tuple[Matrix, ...] = ()


def placement(rng: np.random.Generator, mask: Mask, plain: bool = False) -> Matrix:
    """Draw a similarity transform that carries the marked region somewhere inside the picture."""
    height, width = mask.shape
    left, top, w, h = bounds(mask)
    turn = 0.0 if plain or rng.random() < 0.5 else rng.normal(0, 0.5)
    scale = 1.0 if plain or rng.random() < 0.5 else float(np.exp(rng.normal(0, 0.25)))
    flip = -1.0 if not plain and rng.random() < 0.2 else 1.0
    centre = np.array([left + w / 2, top + h / 2])
    room_x, room_y = min(0.45, w * scale / 2 / width), min(0.45, h * scale / 2 / height)
    x, y = draw_place(rng)
    goal = np.array([np.clip(x, room_x, 1 - room_x) * width, np.clip(y, room_y, 1 - room_y) * height])
    if plain:
        goal = centre + np.round(goal - centre)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([flip, 1.0])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, goal - linear @ centre
    return matrix


def carry(rng: np.random.Generator, pixels: Pixels, mask: Mask, matrix: Matrix) -> tuple[Pixels, Mask]:
    """Warp picture and mask by a 3 x 3 transform, staying on the same canvas."""
    size = mask.shape[1], mask.shape[0]
    how = INTERPOLATIONS[int(rng.integers(1, 4))]
    moved = cv2.warpAffine(pixels, matrix[:2], size, flags=how, borderMode=cv2.BORDER_REFLECT)
    marked = cv2.warpAffine(mask, matrix[:2], size, flags=cv2.INTER_LINEAR)
    return moved, (marked > 127).astype(np.uint8) * 255


def copy_move(rng: np.random.Generator, pixels: Pixels) -> Edit:
    """Copy one region over another place of the same picture, once or up to three times."""
    result, total, sources = pixels.copy(), np.zeros(pixels.shape[:2], np.uint8), []
    region = draw_region(rng, pixels)
    for _ in range(1 if rng.random() < 0.8 else int(rng.integers(2, 4))):
        for _attempt in range(8):
            matrix = placement(rng, region, plain=rng.random() < 0.4)
            moved, target = carry(rng, pixels, region, matrix)
            overlap = np.logical_and(target, region).sum() / max(1, np.count_nonzero(target))
            if np.count_nonzero(target) > 60 and overlap < 0.25:
                break
        else:
            continue
        if rng.random() < 0.15:
            moved = retone(rng, moved)
        result, changed = _join(rng, result, moved, target)
        total |= changed
        sources.append(np.linalg.inv(matrix))
    return Edit(result, total, tuple(sources))


def splice(rng: np.random.Generator, pixels: Pixels, donor: Pixels) -> Edit:
    """Paste a region of another picture, with its own compression, noise, colour and scale, matched or not."""
    height, width = pixels.shape[:2]
    if donor.shape != pixels.shape:
        donor = cv2.resize(donor, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.7:
        donor = random_jpeg(rng, donor)
    region = draw_region(rng, donor)
    moved, target = carry(rng, donor, region, placement(rng, region)) if rng.random() < 0.75 else (donor, region)
    if np.count_nonzero(target) < 60:
        moved, target = donor, region
    matching = rng.random()
    if matching < 0.3:
        moved = match_colour(moved, pixels, float(rng.uniform(0.4, 1.0)))
    elif matching < 0.65:
        moved = match_surroundings(moved, pixels, target, float(rng.uniform(0.4, 1.0)))
    if rng.random() < 0.45:
        moved = add_noise(rng, moved, max(0.5, noise_level(pixels)) if rng.random() < 0.5 else rng.uniform(0.5, 6))
    return Edit(*_join(rng, pixels, moved, target))


def _join(rng: np.random.Generator, pixels: Pixels, moved: Pixels, target: Mask) -> tuple[Pixels, Mask]:
    """Put what was moved in its place: laid over, blended by bands, or cloned seamlessly; and say what changed."""
    kind = rng.random()
    if kind < 0.08:
        return _clone(pixels, moved, target)
    if kind < 0.2:
        return blend_bands(pixels, moved, target), target
    alpha = soften(rng, target)
    return composite(pixels, moved, alpha), footprint(alpha)


def _clone(pixels: Pixels, donor: Pixels, target: Mask) -> tuple[Pixels, Mask]:
    """Solve Poisson's equation inside the region (Perez et al. 2003), away from the picture's edge."""
    inner = target.copy()
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = 0, 0, 0, 0
    if np.count_nonzero(inner) < 60:
        inner = np.zeros_like(target)
        inner[8:-8, 8:-8] = 255
    left, top, w, h = bounds(inner)
    cloned = cv2.seamlessClone(donor, pixels, inner, (left + w // 2, top + h // 2), cv2.NORMAL_CLONE)
    return np.asarray(cloned), inner


def retone(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Change hue, saturation and brightness as a local colour edit does; always visibly."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.int16)
    if rng.random() < 0.5:
        hsv[..., 0] = (hsv[..., 0] + int(rng.integers(8, 172))) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * np.exp(rng.normal(0, 0.4)), 0, 255)
    gain = float(np.exp(rng.choice((-1, 1)) * rng.uniform(0.12, 0.5)))
    hsv[..., 2] = np.clip(hsv[..., 2] * gain, 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB))


def _sharpen(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    sigma, amount = (float(rng.uniform(0.8, 2.5)) for _ in range(2))
    return sharpen(pixels, amount, sigma)


def _smooth(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    kind = int(rng.integers(3))
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.8, 4.0))))
    if kind == 1:
        return np.asarray(cv2.medianBlur(pixels, int(rng.choice((3, 5, 7)))))
    return np.asarray(cv2.bilateralFilter(pixels, 5, float(rng.uniform(20, 70)), 3.0))


def retouch(rng: np.random.Generator, pixels: Pixels) -> Edit:
    """Blur, sharpen, recolour, grain or clone-stamp a region."""
    alpha = soften(rng, draw_region(rng, pixels))
    kind = rng.random()
    if kind < 0.3:
        changed = _smooth(rng, pixels)
    elif kind < 0.45:
        changed = _sharpen(rng, pixels)
    elif kind < 0.75:
        changed = retone(rng, pixels)
    elif kind < 0.85:
        changed = add_noise(rng, pixels, float(rng.uniform(3, 12)))
    else:
        reach = max(12, min(pixels.shape[:2]) // 8)
        shift = rng.integers(reach // 2, reach + 1, 2) * rng.choice((-1, 1), 2)
        changed = np.roll(pixels, tuple(int(s) for s in shift), axis=(0, 1))
    return Edit(composite(pixels, changed, alpha), footprint(alpha))
