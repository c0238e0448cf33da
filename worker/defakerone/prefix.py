"""How is the part of the prompt that never changes computed only once?

Everything before the image (BOS, a system turn, `<img>`) is the same for every image, and attention is causal, so its
keys and values are the same too. They are computed once for given weights and stand before each row's own keys.

The attention kernels' fast causal path wants as many queries as keys. So the missing queries are made up and their
answers thrown away: a few rows of attention, instead of a mask that would cost the fast path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import LlamaModel

from worker.defakerone.attention import attend_causally, blocks_pay

CAUSAL: Final = "assay_causal"  # transformers finds no mask builder of this name, and builds no mask


def causal_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attend causally, queries aligned to the last keys. (batch, heads, length, dim) -> (batch, length, heads, dim)."""
    if blocks_pay(query):
        return attend_causally(query, key, value).transpose(1, 2), None
    ahead = key.shape[2] - query.shape[2]
    padded = F.pad(query, (0, 0, ahead, 0)) if ahead else query
    kwargs["is_causal"] = True
    out, _ = sdpa_attention_forward(module, padded, key, value, None, **kwargs)
    return out[:, ahead:], None


AttentionInterface.register(CAUSAL, causal_attention)


@dataclass(frozen=True, slots=True)
class PrefixKeys:
    """Keys and values of the prefix in every layer; behaves as a transformers cache that remembers nothing."""

    layers: tuple[tuple[Tensor, Tensor], ...]  # each (1, kv heads, prefix, dim)

    @classmethod
    def compute(cls, model: LlamaModel, embeds: Tensor) -> PrefixKeys:
        """Run the language model over the prefix's embeddings (1, prefix, dim)."""
        cache = DynamicCache(config=model.config)
        model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        # By name, since transformers types layers that hold no keys alike.
        return cls(tuple((getattr(layer, "keys"), getattr(layer, "values")) for layer in cache.layers))  # noqa: B009

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many positions lie before a row's first."""
        return int(self.layers[layer_idx][0].shape[2])

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return the prefix's keys and values, then the row's own."""
        before_key, before_value = self.layers[layer_idx]
        rows = (len(key), -1, -1, -1)
        return (
            torch.cat([before_key.expand(rows), key], dim=2),
            torch.cat([before_value.expand(rows), value], dim=2),
        )


def weights_version(model: LlamaModel) -> tuple[int, int]:
    """Return a number that changes when the weights do: training between two batches must not meet a stale prefix."""
    parameters = list(model.parameters())
    return sum(p._version for p in parameters), parameters[0].data_ptr()
