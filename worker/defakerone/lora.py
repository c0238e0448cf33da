"""How do adapters that were left in a checkpoint become part of its weights?

A checkpoint saved without merging has, for a weight W, `base_layer` beside `lora_A` and `lora_B` (peft's names, arXiv
2106.09685): the model computes W + alpha / r * B A. Merging happens on the fused tensors, before they are split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from torch import Tensor

from worker.defakerone.errors import CheckpointError

State = dict[str, Tensor]

_WRAPPERS: Final = ".base_model.model."
_ADAPTER: Final = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")


def has_adapters(keys: Iterable[str]) -> bool:
    """Say whether any of these tensor names belongs to an adapter."""
    return any("lora_" in key for key in keys)


def merge(state: State, alpha: float) -> State:
    """Return the state without adapters, each added to its weight in float32; raises CheckpointError on a lone half."""
    plain = {_unwrap(key): tensor for key, tensor in state.items() if not _ADAPTER.fullmatch(key)}
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = _ADAPTER.fullmatch(key)
        if match is not None:
            sides.setdefault(_unwrap(match["module"]) + ".weight", {})[match["side"]] = tensor
    for weight, pair in sides.items():
        if set(pair) != {"A", "B"} or weight not in plain:
            raise CheckpointError(f"{weight}: an adapter without its other half or without a weight to merge into")
        rank = pair["A"].shape[0]
        change = pair["B"].float() @ pair["A"].float() * (alpha / rank)
        if change.shape != plain[weight].shape:
            raise CheckpointError(f"{weight}: {list(plain[weight].shape)}, but its adapter gives {list(change.shape)}")
        plain[weight] = plain[weight].float() + change
    return plain


def _unwrap(key: str) -> str:
    return key.replace(_WRAPPERS, ".").replace(".base_layer.", ".")
