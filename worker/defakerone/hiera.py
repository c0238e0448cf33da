"""How does SAM2's image encoder run without moving its pixels about?

sam2's Hiera (arXiv 2306.00989) cuts the image into windows before every attention and lays it out anew for each of the
steps behind. Here, on a CPU, a block works on the image as it lies and permutes twice: queries, keys and values into
windows, the answer back. It takes a strip of windows at a time through all its steps: what lies between them stays in
the core's own cache. The same parameters, the same sums. Where gradients are wanted, or the image does not divide into
windows (padded pixels would be attended to), sam2's own code runs; so it does on a GPU, which would copy queries, keys
and values, three maps for sam2's one.
"""

from __future__ import annotations

from typing import Final

import torch
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleAttention, MultiScaleBlock, do_pool
from torch import Tensor

from worker.defakerone.attention import attend
from worker.defakerone.batching import chunks
from worker.defakerone.linear import linear, linear_add, linear_gelu

_STRIP: Final = 1 << 17  # numbers of the input that go through a block together


class FastBlock(MultiScaleBlock):  # type: ignore[misc]
    """A block of Hiera: attention within windows, queries pooled where a stage begins, then the two-layer network."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, height, width, dim) -> (n, height', width', dim_out)."""
        n, height, width, dim = x.shape
        window = self.window_size or max(height, width)
        elsewhere = x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if elsewhere or (self.window_size and (height % window or width % window)):
            out: Tensor = super().forward(x)
            return out
        if not self.window_size:
            return self._run(x)
        strips = x.reshape(-1, window, width, dim)  # no window reaches beyond its strip
        some = max(1, _STRIP // (window * width * dim))
        done = torch.cat([self._run(strips[part]) for part in chunks(len(strips), some)])
        return done.view(n, -1, *done.shape[2:])

    def _run(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        shortcut = x if self.dim == self.dim_out else self._pooled(linear(self.proj, normed))
        x = linear_add(self.attn.proj, self._attended(normed), shortcut)
        first, second = self.mlp.layers
        return linear_add(second, linear_gelu(first, self.norm2(x)), x)

    def _attended(self, normed: Tensor) -> Tensor:
        n, height, width, _ = normed.shape
        high, wide = (self.window_size, self.window_size) if self.window_size else (height, width)
        rows, cols, heads = height // high, width // wide, self.attn.num_heads
        qkv = linear(self.attn.qkv, normed).view(n, rows, high, cols, wide, 3, heads, -1)
        windows = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, n, rows, cols, heads, high, wide, dim)
        query, key, value = windows.unbind(0)
        query = self._pooled(query)
        high, wide = query.shape[-3:-1]
        flat = (part.reshape(n * rows * cols, heads, -1, part.shape[-1]) for part in (query, key, value))
        back = attend(*flat).view(n, rows, cols, heads, high, wide, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return back.reshape(n, rows * high, cols * wide, -1)

    def _pooled(self, x: Tensor) -> Tensor:
        """Take the largest of each stride x stride pixels: (..., height, width, dim)."""
        if not self.q_stride:
            return x
        down, across = self.q_stride
        taller = _largest([x[..., start::down, :, :] for start in range(down)])
        return _largest([taller[..., start::across, :] for start in range(across)])


def _largest(parts: list[Tensor]) -> Tensor:
    largest = parts[0]
    for part in parts[1:]:
        largest = torch.maximum(largest, part)
    return largest


class FastHiera(Hiera):  # type: ignore[misc]
    """Hiera with its position table kept for as long as the weights stay the same."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, 3, side, side) -> a map (n, dim, height, width) for each stage, finest first."""
        features: list[Tensor] = super().forward(x.contiguous(memory_format=torch.channels_last))
        return features

    def _get_pos_embed(self, hw: tuple[int, int]) -> Tensor:
        if torch.is_grad_enabled():
            wanted: Tensor = super()._get_pos_embed(hw)
            return wanted
        version = (tuple(hw), *(mark for p in (self.pos_embed, self.pos_embed_window) for mark in _marks(p)))
        kept: tuple[object, Tensor] | None = self.__dict__.get("_positions")
        if kept is None or kept[0] != version:
            kept = self.__dict__["_positions"] = (version, super()._get_pos_embed(hw).contiguous())
        return kept[1]


def _marks(parameter: Tensor) -> tuple[int, int, torch.dtype]:
    return parameter._version, parameter.data_ptr(), parameter.dtype


class LearningAttention(MultiScaleAttention):  # type: ignore[misc]
    """Attention within windows while gradients are kept: sam2's own, but for the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(windows, height, width, dim) -> (windows, height', width', dim_out)."""
        windows, height, width, _ = x.shape
        query, key, value = self.qkv(x).view(windows, height * width, 3, self.num_heads, -1).unbind(dim=2)
        if self.q_pool is not None:
            pooled = do_pool(query.reshape(windows, height, width, -1), self.q_pool)
            height, width = pooled.shape[1:3]
            query = pooled.reshape(windows, height * width, self.num_heads, -1)
        out = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        merged: Tensor = self.proj(out.transpose(1, 2).reshape(windows, height, width, -1))
        return merged


def use_fast_blocks(trunk: Hiera) -> None:
    """Let a Hiera trunk run as described above. Parameters stay where they are."""
    trunk.__class__ = FastHiera
    for block in trunk.blocks:
        block.__class__ = FastBlock
        block.attn.__class__ = LearningAttention
