"""How is unmasked attention computed fastest where the model runs?

On a GPU and in float32: torch's fused kernel. In bfloat16 on a CPU that kernel multiplies no faster than in float32,
while plain matrix products use the processor's bfloat16 instructions. There, scores are computed in blocks that stay in
the cache: half the time (measured, `assay bench detector`), the same result within bfloat16's own rounding. Training
does the same and computes the scores again on the way back, instead of keeping them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

FULL: Final = "assay_full"  # the vision tower's attention, by this name in its config
_BLOCK_SCORES: Final = 1 << 19  # scores held at once: 1 MB in bfloat16, about a core's own cache; fewer cost more calls


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend without a mask: (batch, heads, queries, dim) and (batch, heads, keys, dim) -> like the queries."""
    if _blocks_pay(query):
        return _attend_in_blocks(query, key, value)
    if _blocks_fit(query):
        learned: Tensor = BlockAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
        return learned
    return F.scaled_dot_product_attention(query, key, value)


def _blocks_fit(query: Tensor) -> bool:
    return query.device.type == "cpu" and query.dtype == torch.bfloat16


def _blocks_pay(query: Tensor) -> bool:
    return _blocks_fit(query) and not torch.is_grad_enabled()


def _blocks(matrices: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Cut attention into blocks of scores that stay in the cache: which matrices, and which of their queries."""
    rows = max(1, min(queries, _BLOCK_SCORES // keys))
    together = max(1, _BLOCK_SCORES // (rows * keys))
    for first in range(0, matrices, together):
        for row in range(0, queries, rows):
            yield slice(first, first + together), slice(row, row + rows)


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, queries, dim = query.shape
    keys = key.shape[2]
    q = query.reshape(batch * heads, queries, dim)
    k = key.reshape(batch * heads, keys, dim).transpose(1, 2)
    v = value.reshape(batch * heads, keys, dim)
    out, nothing = torch.empty_like(q), q.new_zeros(1)
    for some, part in _blocks(len(q), queries, keys):
        scores = torch.baddbmm(nothing, q[some, part], k[some], beta=0, alpha=dim**-0.5)
        out[some, part] = torch.bmm(scores.softmax(dim=-1), v[some])
    return out.view(batch, heads, queries, dim)


class BlockAttention(torch.autograd.Function):
    """Attention in blocks that can be learned through; only its inputs and its output are kept for the way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend without a mask: shapes as in `attend`."""
        out = _attend_in_blocks(query, key, value)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute each block's weights again and pass the gradient through softmax and both products."""
        query, key, value, out = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        q, k, v, o, g = (x.reshape(-1, *x.shape[2:]) for x in (query, key, value, out, grad))
        q = q * scale
        spent = (g * o).sum(-1, keepdim=True)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))  # summed over many blocks
        for some, part in _blocks(len(q), q.shape[1], k.shape[1]):
            weight = torch.bmm(q[some, part], k[some].transpose(1, 2)).softmax(dim=-1)
            change = torch.bmm(g[some, part], v[some].transpose(1, 2)).sub_(spent[some, part]).mul_(weight)
            grad_v[some] += torch.bmm(weight.transpose(1, 2), g[some, part])
            grad_k[some] += torch.bmm(change.transpose(1, 2), q[some, part])
            grad_q[some, part] = torch.bmm(change, k[some])
        return (grad_q * scale).view_as(query), grad_k.to(k.dtype).view_as(key), grad_v.to(v.dtype).view_as(value)


def full_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Serve transformers' attention interface: -> (batch, queries, heads, dim)."""
    if attention_mask is None and not kwargs.get("dropout") and _blocks_pay(query):
        return _attend_in_blocks(query, key, value).transpose(1, 2), None
    out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return out, None


AttentionInterface.register(FULL, full_attention)
