"""How does an object vanish? By diffusion from the border, or by covering it with patches of its surroundings."""

import cv2
import numpy as np

from worker.defakerone.training.forgery.blending import Alpha, add_noise, composite, footprint, noise_level, soften
from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.operations import Edit
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.shapes import bounds, draw_region, pick_fraction


def pyramid_fill(pixels: Pixels, mask: Mask) -> Pixels:
    """Fill the hole from coarse to fine: each level keeps known pixels and takes the unknown ones from below."""
    known = (mask == 0).astype(np.float32)[..., None]
    return np.clip(_fill(pixels * known, known), 0, 255).astype(np.uint8)


def _fill(weighted: Alpha, weight: Alpha) -> Alpha:
    height, width = weight.shape[:2]
    if min(height, width) <= 2 or weight.min() > 0:
        return weighted / np.maximum(weight, 1e-4)
    half = (max(1, width // 2), max(1, height // 2))
    below = _fill(
        cv2.resize(weighted, half, interpolation=cv2.INTER_AREA),
        cv2.resize(weight[..., 0], half, interpolation=cv2.INTER_AREA)[..., None],
    )
    grown = cv2.resize(below, (width, height), interpolation=cv2.INTER_CUBIC)
    here = weighted / np.maximum(weight, 1e-4)
    return np.where(weight > 0.5, here, grown).astype(np.float32)


def telea_fill(pixels: Pixels, mask: Mask) -> Pixels:
    """Run the fast-marching inpainting inside the hole's own window, at a bounded size so that it stays fast."""
    left, top, w, h = bounds(mask)
    pad = 12
    rows = slice(max(0, top - pad), top + h + pad)
    columns = slice(max(0, left - pad), left + w + pad)
    window, hole = pixels[rows, columns], mask[rows, columns]
    if np.count_nonzero(hole) > 6000:
        return pyramid_fill(pixels, mask)
    result = pixels.copy()
    result[rows, columns] = cv2.inpaint(np.ascontiguousarray(window), np.ascontiguousarray(hole), 4, cv2.INPAINT_TELEA)
    return result


def patch_fill(rng: np.random.Generator, pixels: Pixels, mask: Mask, tries: int = 24) -> Pixels:
    """Cover the hole with the shifted surroundings whose border fits best, then heal the low frequencies."""
    height, width = mask.shape
    _, _, w, h = bounds(mask)
    ring = cv2.dilate(mask, np.ones((9, 9), np.uint8)) & ~mask
    points = np.argwhere(ring > 0)
    points = points[rng.choice(len(points), min(len(points), 400), replace=False)] if len(points) else points
    best, best_cost = (h + 4, 0), np.inf
    for _ in range(tries):
        shift = int(rng.integers(-height + h, height - h + 1)), int(rng.integers(-width + w, width - w + 1))
        if abs(shift[0]) < h * 0.8 and abs(shift[1]) < w * 0.8:
            continue
        there = points + shift
        inside = (there >= 0).all(1) & (there[:, 0] < height) & (there[:, 1] < width)
        if inside.mean() < 0.7:
            continue
        difference = pixels[tuple(points[inside].T)].astype(np.int16) - pixels[tuple(there[inside].T)]
        cost = float(np.abs(difference).mean())
        if cost < best_cost:
            best, best_cost = shift, cost
    matrix = np.array([[1.0, 0.0, -best[1]], [0.0, 1.0, -best[0]]])
    moved = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return moved if rng.random() < 0.5 else _heal(pixels, moved, mask)


def _heal(pixels: Pixels, moved: Pixels, mask: Mask) -> Pixels:
    smooth = pyramid_fill(cv2.GaussianBlur(pixels, (0, 0), 4), cv2.dilate(mask, np.ones((5, 5), np.uint8)))
    low = cv2.GaussianBlur(moved, (0, 0), 8).astype(np.float32)
    return np.asarray(np.clip(moved - low + cv2.GaussianBlur(smooth, (0, 0), 8), 0, 255), np.uint8)


def removal(rng: np.random.Generator, pixels: Pixels) -> Edit:
    """Remove what a region shows; the fill may get grain so that it does not look too smooth."""
    region = draw_region(rng, pixels, min(0.2, pick_fraction(rng)))
    kind = rng.random()
    if kind < 0.25:
        filled = telea_fill(pixels, region)
    elif kind < 0.5:
        filled = pyramid_fill(pixels, region)
    else:
        filled = patch_fill(rng, pixels, region)
    if kind < 0.5 and rng.random() < 0.5:
        filled = add_noise(rng, filled, max(0.7, noise_level(pixels)) * rng.uniform(0.6, 1.5))
    alpha = soften(rng, region)
    return Edit(composite(pixels, filled, alpha), footprint(alpha))
