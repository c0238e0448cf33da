"""How is attention computed fastest where the model runs?

On a GPU and in float32: torch's fused kernel. In bfloat16 on a CPU that kernel multiplies no faster than in float32,
while plain matrix products use the processor's bfloat16 instructions. There, scores are computed in blocks that stay in
the cache, and their powers of two are taken where they lie: less than two thirds of the time (4096 keys), the same
result within bfloat16's own rounding. Training does the same and computes the scores again on the way back, instead of
keeping them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

FULL: Final = "assay_full"  # the vision tower's attention, by this name in its config
_LOG2_E: Final = math.log2(math.e)
_SMALL: Final = 100.0  # 2^100 times as many keys as anybody has is still a bfloat16; so is 2^-100
_BLOCK_SCORES: Final = 1 << 19  # scores held at once: 1 MB in bfloat16, about a core's own cache; fewer cost more calls
_CAUSAL_ROWS: Final = 128  # queries that see the same keys but for the last: more hide more of what was computed


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend without a mask: (batch, heads, queries, dim) and (batch, heads, keys, dim) -> like the queries."""
    if blocks_pay(query):
        return _attend_in_blocks(query, key, value)
    if _blocks_fit(query):
        learned: Tensor = BlockAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
        return learned
    return F.scaled_dot_product_attention(query, key, value)


def blocks_pay(query: Tensor) -> bool:
    """Say whether attention is fastest in blocks here."""
    return _blocks_fit(query) and not torch.is_grad_enabled()


def _blocks_fit(query: Tensor) -> bool:
    on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return on_cpu and not torch.compiler.is_compiling()


def _blocks(matrices: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Cut attention into blocks of scores that stay in the cache: which matrices, and which of their queries."""
    rows = max(1, min(queries, _BLOCK_SCORES // keys))
    together = max(1, _BLOCK_SCORES // (rows * keys))
    for first in range(0, matrices, together):
        for row in range(0, queries, rows):
            yield slice(first, first + together), slice(row, row + rows)


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax as 2^score over the sum of those: a pass over the scores less for not looking for the largest first."""
    batch, heads, queries, dim = query.shape
    keys = key.shape[2]
    q = query.reshape(batch * heads, queries, dim) * (dim**-0.5 * _LOG2_E)
    k = key.reshape(batch * heads, keys, dim)
    v = value.reshape(batch * heads, keys, dim)
    out, sums, small = torch.empty_like(q), q.new_empty(len(q), queries, 1), _scores_stay_small(q, k)
    for some, part in _blocks(len(q), queries, keys):
        rows = q[some, part]
        scores = _ROOM.of(rows.shape[0], rows.shape[1], keys, q.dtype)
        torch.bmm(rows, k[some].transpose(1, 2), out=scores)
        weights = powers_of_two(scores, small)
        torch.sum(weights, dim=-1, keepdim=True, out=sums[some, part])
        torch.bmm(weights, v[some], out=out[some, part])
    return out.div_(sums).view(batch, heads, queries, dim)


class _Room(threading.local):
    """A thread's memory for the scores of one block. Asked for anew each time, its pages would cost as much as them."""

    held: Tensor | None = None

    def of(self, matrices: int, rows: int, keys: int, dtype: torch.dtype) -> Tensor:
        size = matrices * rows * keys
        if self.held is None or len(self.held) < size or self.held.dtype != dtype:
            with torch.inference_mode(False):  # or it could not be written to outside
                self.held = torch.empty(size, dtype=dtype)
        return self.held[:size].view(matrices, rows, keys)


_ROOM: Final = _Room()


def powers_of_two(scores: Tensor, small: bool) -> Tensor:
    """Return, in the same memory, 2^score; of scores that are not known to stay small, less each row's largest."""
    return (scores if small else scores.sub_(scores.amax(dim=-1, keepdim=True))).exp2_()


def _scores_stay_small(query: Tensor, key: Tensor) -> bool:
    """Say whether no power can overflow, nor all of a row vanish: |q k| <= |q| |k| (Cauchy-Schwarz)."""
    longest = (torch.linalg.vector_norm(x, dim=-1).amax() for x in (query, key))
    return math.prod(float(length) for length in longest) < _SMALL


def attend_causally(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend in blocks, each query to its own position and those before; queries align to the last keys.

    (batch, heads, queries, dim) and (batch, key heads, keys, dim) -> like the queries.
    """
    batch, heads, queries, dim = query.shape
    groups, keys = key.shape[1:3]
    q = query.reshape(batch * groups, heads // groups, queries, dim) * (dim**-0.5 * _LOG2_E)
    k, v = (x.reshape(batch * groups, keys, dim) for x in (key, value))
    out, small = torch.empty_like(q), _scores_stay_small(q, k)
    for start in range(0, queries, _CAUSAL_ROWS):
        rows = q[:, :, start : start + _CAUSAL_ROWS]
        seen = keys - queries + start + rows.shape[2]
        together = max(1, _BLOCK_SCORES // (rows.shape[1] * rows.shape[2] * seen))
        for some in (slice(first, first + together) for first in range(0, len(q), together)):
            attended = _attend_to_seen(rows[some], k[some, :seen], v[some, :seen], small)
            out[some, :, start : start + _CAUSAL_ROWS] = attended
    return out.view(batch, heads, queries, dim)


def _attend_to_seen(query: Tensor, key: Tensor, value: Tensor, small: bool) -> Tensor:
    """Attend with the last keys hidden from earlier queries: (n, heads, rows, dim), (n, keys, dim) -> as queries."""
    n, heads, rows, dim = query.shape
    keys = key.shape[1]
    scores = _ROOM.of(n, heads * rows, keys, query.dtype)
    torch.bmm(query.reshape(n, heads * rows, dim), key.transpose(1, 2), out=scores)
    hidden = torch.ones(rows, rows, dtype=torch.bool).triu(1)
    scores.view(n, heads, rows, keys)[..., keys - rows :].masked_fill_(hidden, -math.inf)
    weights = powers_of_two(scores, small)
    return (torch.bmm(weights, value) / weights.sum(dim=-1, keepdim=True)).view(n, heads, rows, dim)


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
    if attention_mask is None and not kwargs.get("dropout") and blocks_pay(query):
        return _attend_in_blocks(query, key, value).transpose(1, 2), None
    out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return out, None


AttentionInterface.register(FULL, full_attention)
