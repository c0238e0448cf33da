"""How does a picture look that a generator drew again? Lossy decoders that know only what their code keeps.

Three families of reconstruction, all without weights of others: principal components of the picture's own patches (a
linear autoencoder learned on the spot), a truncated cosine basis on an arbitrary grid, and reduction followed by
enlargement. Each leaves what generators leave: missing high frequencies, a grid, replaced grain.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.training.forgery.blending import add_noise, composite, footprint, soften
from worker.defakerone.training.forgery.journey import sharpen
from worker.defakerone.training.forgery.operations import Edit
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.shapes import draw_region

Patches = npt.NDArray[Any]


def _to_patches(pixels: Pixels, side: int, offset: tuple[int, int]) -> tuple[Patches, tuple[int, int], Pixels]:
    height, width = pixels.shape[:2]
    extra = (-(height + offset[0])) % side, (-(width + offset[1])) % side
    padded = np.pad(pixels, ((offset[0], extra[0]), (offset[1], extra[1]), (0, 0)), mode="reflect")
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    cells = padded.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * columns, -1).astype(np.float32), (rows, columns), padded


def _from_patches(patches: Patches, grid: tuple[int, int], side: int) -> npt.NDArray[Any]:
    cells = patches.reshape(grid[0], grid[1], side, side, 3).transpose(0, 2, 1, 3, 4)
    return cells.reshape(grid[0] * side, grid[1] * side, 3)


def linear_autoencoder(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Learn principal components of the picture's patches and draw the picture again from a few of them.

    Two decodings on shifted grids are averaged, as overlapping decoder windows do.
    """
    side = int(rng.choice((4, 8, 8)))
    keep = int(side * side * 3 * rng.uniform(0.06, 0.25))
    height, width = pixels.shape[:2]
    decoded = []
    for offset in ((0, 0), (side // 2, side // 2)):
        patches, grid, _ = _to_patches(pixels, side, offset)
        mean = patches.mean(0)
        sample = patches[rng.choice(len(patches), min(len(patches), 700), replace=False)] - mean
        _, vectors = np.linalg.eigh(sample.T @ sample)
        basis = vectors[:, -keep:].astype(np.float32)
        again = _from_patches((patches - mean) @ basis @ basis.T + mean, grid, side)
        decoded.append(again[offset[0] : offset[0] + height, offset[1] : offset[1] + width])
        if rng.random() < 0.3:
            break
    return np.asarray(np.clip(np.mean(decoded, axis=0), 0, 255), np.uint8)


def cosine_truncation(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Keep the low frequencies of 16 x 16 blocks on an arbitrary grid and quantise them coarsely."""
    side, keep = 16, int(rng.integers(5, 11))
    offset = int(rng.integers(side)), int(rng.integers(side))
    height, width = pixels.shape[:2]
    patches, grid, _ = _to_patches(pixels, side, offset)
    cells = patches.reshape(-1, side, side, 3)
    index = np.arange(side)
    basis = np.cos(np.pi * (2 * index[None] + 1) * index[:, None] / (2 * side)) * np.sqrt(2 / side)
    basis[0] /= np.sqrt(2)
    low = basis[:keep].astype(np.float32)
    codes = np.einsum("ia,nabc,jb->nijc", low, cells, low, optimize=True)
    step = np.float32(rng.uniform(2, 14))
    codes = np.round(codes / step) * step
    again = np.einsum("ia,nijc,jb->nabc", low, codes, low, optimize=True)
    whole = _from_patches(again.reshape(len(patches), -1).astype(np.float32), grid, side)
    window = whole[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
    return np.asarray(np.clip(window, 0, 255), np.uint8)


def enlarge_again(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Reduce, enlarge and sharpen: what super-resolution and latent upsampling leave behind."""
    height, width = pixels.shape[:2]
    factor = rng.uniform(1.6, 4.0)
    small = cv2.resize(
        pixels, (max(8, int(width / factor)), max(8, int(height / factor))), interpolation=cv2.INTER_AREA
    )
    how = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(rng.integers(factor > 2, 4))]
    again = cv2.resize(small, (width, height), interpolation=how)
    return sharpen(again, rng.uniform(0.0, 1.5), factor / 2)


def draw_again(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Reconstruct a whole picture by one of the three families, sometimes with new grain."""
    family = (linear_autoencoder, cosine_truncation, enlarge_again)[int(rng.integers(3))]
    again = family(rng, pixels)
    return add_noise(rng, again, float(rng.uniform(0.5, 4))) if rng.random() < 0.4 else again


def local_resynthesis(rng: np.random.Generator, pixels: Pixels) -> Edit:
    """Draw one region again and leave the rest."""
    alpha = soften(rng, draw_region(rng, pixels))
    return Edit(composite(pixels, draw_again(rng, pixels), alpha), footprint(alpha))


def whole_resynthesis(rng: np.random.Generator, pixels: Pixels) -> Edit:
    """Draw the whole picture again: the stand-in for a generated picture. Every pixel is marked."""
    return Edit(draw_again(rng, pixels), np.full(pixels.shape[:2], 255, np.uint8))
