"""How does a sample become the tiles and token rows that the language side learns from?

Tiling and prompt are the product's own (design: 3.1, 5.2). A row is prompt + answer + end of turn; only the answer is
learned. Early in training a row may show a few tiles instead of all, as if they were a picture of their own: its
label is then what those tiles show.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.prompt import PromptConfig, build_prompt
from worker.defakerone.tiling import choose_grid, cut
from worker.defakerone.tokenizer import TURN_END, Tokenizer
from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.synthesis import Sample
from worker.defakerone.training.losses import IGNORED
from worker.defakerone.training.templates import Template

Tiles = npt.NDArray[Any]


@dataclass(frozen=True)
class TileView:
    """Tiles (tiles, side, side, 3), each patch's manipulated share (tiles, grid, grid), and their common label."""

    tiles: Tiles
    patches: npt.NDArray[Any]
    fake: bool


@dataclass(frozen=True)
class Row:
    """Token ids of one conversation; labels are IGNORED outside the answer. `verdict` is the prompt's last position."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    verdict: int


def cut_tiles(sample: Sample, config: DeFakerOneConfig) -> TileView:
    """Cut picture and mask into the product's tiles, thumbnail last."""
    pictures = _cut(Image.fromarray(sample.pixels), config)
    return TileView(
        np.stack([np.asarray(picture) for picture in pictures]), cut_shares(sample.mask, config), sample.fake
    )


def cut_shares(mask: Mask, config: DeFakerOneConfig) -> npt.NDArray[Any]:
    """Say how much of each patch of each tile is marked, (tiles, grid, grid), thumbnail last."""
    count = config.vision.grid
    masks = _cut(Image.fromarray(mask).convert("RGB"), config)
    shares = [cv2.resize(np.asarray(tile)[..., 0], (count, count), interpolation=cv2.INTER_AREA) for tile in masks]
    return np.stack(shares).astype(np.float32) / 255


def _cut(image: Image.Image, config: DeFakerOneConfig) -> list[Image.Image]:
    side = config.vision.image_size
    grid = choose_grid(
        *image.size,
        side,
        min_tiles=config.min_tiles,
        max_tiles=config.max_tiles,
        use_thumbnail=config.use_thumbnail,
    )
    return cut(image, grid, side)


def show_few(rng: np.random.Generator, view: TileView, count: int, focus: npt.NDArray[Any]) -> TileView:
    """Show `count` neighbouring tiles alone, among them one that holds what `focus` marks, as `cut_shares` gives it.

    The focus is where somebody forged or, in an authentic picture, where somebody would have: if only forged pictures
    were shown where something is to be seen, what a place shows would give the answer away. `count` is less than all.
    """
    marked = np.flatnonzero(focus.reshape(len(focus), -1).max(1) > 0.3)
    start = int(rng.integers(len(view.tiles) - count))
    if len(marked):
        start = int(np.clip(marked[int(rng.integers(len(marked)))] - rng.integers(count), 0, len(view.tiles) - count))
    chosen = slice(start, start + count)
    return TileView(view.tiles[chosen], view.patches[chosen], bool(view.patches[chosen].max() > 0.3))


class RowWriter:
    """Writes conversations in a checkpoint's own wording."""

    def __init__(self, tokenizer: Tokenizer, config: PromptConfig, tokens_per_tile: int) -> None:
        """Keep the tokenizer; prompts are encoded once a question."""
        self.tokenizer, self.config, self.tokens_per_tile = tokenizer, config, tokens_per_tile

    def write(self, template: Template, tiles: int, fake: bool, marker: bool) -> Row:
        """Write prompt and answer for a picture of `tiles` tiles; `marker` adds [SEG] to an affirmative answer."""
        config = PromptConfig(template.question, self.config.suffix, self.config.system, self.config.separator)
        prompt = build_prompt(self.tokenizer, config, self.tokens_per_tile).ids(tiles, suffix=False)
        answer = self.tokenizer.encode(template.answer(fake, marker) + TURN_END)
        labels = [IGNORED] * len(prompt) + answer
        return Row(tuple(prompt + answer), tuple(labels), len(prompt) - 1)

    def write_short(self, template: Template, tiles: int, fake: bool) -> Row:
        """Write what the product runs: prompt and suffix in one row; only the verdict's word is learned."""
        config = PromptConfig(template.question, self.config.suffix, self.config.system, self.config.separator)
        prompt = build_prompt(self.tokenizer, config, self.tokens_per_tile)
        ids, verdict = prompt.ids(tiles), prompt.verdict_position(tiles)
        labels = [IGNORED] * len(ids)
        labels[verdict + 1] = self.tokenizer.encode(template.answer(fake, marker=False))[0]
        return Row(tuple(ids), tuple(labels), verdict)


def pad_rows(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
    """Pad on the right: ids and labels, each (batch, length)."""
    length = max(len(row.ids) for row in rows)
    ids = [[*row.ids, *[pad] * (length - len(row.ids))] for row in rows]
    labels = [[*row.labels, *[IGNORED] * (length - len(row.labels))] for row in rows]
    return torch.tensor(ids), torch.tensor(labels)
