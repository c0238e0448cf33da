"""How is unmasked attention computed fastest where the model runs?

On a GPU and in float32: torch's fused kernel. In bfloat16 on a CPU that kernel multiplies no faster than in float32,
while plain matrix products use the processor's bfloat16 instructions. There, scores are computed in blocks that stay in
the cache: half the time (measured, `assay bench detector`), the same result within bfloat16's own rounding.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleAttention, do_pool
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

FULL: Final = "assay_full"  # the vision tower's attention, by this name in its config
_BLOCK_SCORES: Final = 1 << 18  # scores held at once: 512 kB in bfloat16, within a core's own cache


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend without a mask: (batch, heads, queries, dim) and (batch, heads, keys, dim) -> like the queries."""
    if _blocks_pay(query):
        return _attend_in_blocks(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


def _blocks_pay(query: Tensor) -> bool:
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and not torch.is_grad_enabled()


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, queries, dim = query.shape
    keys = key.shape[2]
    q = query.reshape(batch * heads, queries, dim)
    k = key.reshape(batch * heads, keys, dim).transpose(1, 2)
    v = value.reshape(batch * heads, keys, dim)
    rows = max(1, min(queries, _BLOCK_SCORES // keys))
    together = max(1, _BLOCK_SCORES // (rows * keys))
    out, nothing = torch.empty_like(q), q.new_zeros(1)
    for head in range(0, len(q), together):
        some = slice(head, head + together)
        for row in range(0, queries, rows):
            part = slice(row, row + rows)
            scores = torch.baddbmm(nothing, q[some, part], k[some], beta=0, alpha=dim**-0.5)
            out[some, part] = torch.bmm(scores.softmax(dim=-1), v[some])
    return out.view(batch, heads, queries, dim)


def full_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Serve transformers' attention interface: -> (batch, queries, heads, dim)."""
    if attention_mask is None and not kwargs.get("dropout") and _blocks_pay(query):
        return _attend_in_blocks(query, key, value).transpose(1, 2), None
    out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return out, None


AttentionInterface.register(FULL, full_attention)


class HieraAttention(MultiScaleAttention):  # type: ignore[misc]
    """Hiera's attention within windows, its queries pooled where a stage begins; the same parameters as sam2's."""

    def forward(self, x: Tensor) -> Tensor:
        """(windows, height, width, dim) -> (windows, height', width', dim_out)."""
        windows, height, width, _ = x.shape
        qkv = self.qkv(x).view(windows, height * width, 3, self.num_heads, -1)
        query, key, value = qkv.unbind(dim=2)  # each (windows, pixels, heads, dim)
        if self.q_pool is not None:
            pooled = do_pool(query.reshape(windows, height, width, -1), self.q_pool)
            height, width = pooled.shape[1:3]
            query = pooled.reshape(windows, height * width, self.num_heads, -1)
        out = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        merged: Tensor = self.proj(out.transpose(1, 2).reshape(windows, height, width, -1))
        return merged


def use_fast_attention(trunk: nn.Module) -> None:
    """Let a Hiera trunk attend through `attend`. Parameters stay where they are."""
    for module in trunk.modules():
        if isinstance(module, MultiScaleAttention):
            module.__class__ = HieraAttention
