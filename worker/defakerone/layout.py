"""Under which name and in which shape does each parameter stand in a checkpoint?

The checkpoint's names are Sa2VA's (InternViT and InternLM2 as their authors wrote them, SAM2 behind
`grounding_encoder.sam2_model.`); ours are transformers'. Two tensors differ by more than a name:

    attn.qkv            three equal row blocks                    q | k | v
    attention.wqkv      rows grouped per key/value head           [K, G + 2, d]: G queries, one key, one value

Rotary halves are split alike on both sides, so no row moves inside a head.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from worker.defakerone.config import DeFakerOneConfig, LanguageConfig

State = dict[str, Tensor]

# Ours -> the checkpoint's. The first pattern that fits a whole name decides; `*` stands for the rest of the name.
_VISION_LAYER: Final = {
    "attention.projection_layer.*": "attn.proj.*",
    "layernorm_before.*": "norm1.*",
    "layernorm_after.*": "norm2.*",
    "lambda_1": "ls1",
    "lambda_2": "ls2",
    "mlp.*": "mlp.*",
}
_LANGUAGE_LAYER: Final = {
    "self_attn.o_proj.*": "attention.wo.*",
    "mlp.gate_proj.*": "feed_forward.w1.*",
    "mlp.up_proj.*": "feed_forward.w3.*",
    "mlp.down_proj.*": "feed_forward.w2.*",
    "input_layernorm.*": "attention_norm.*",
    "post_attention_layernorm.*": "ffn_norm.*",
}
SAM2_PREFIX: Final = "grounding_encoder.sam2_model."
_NAMES: Final = {
    "vision_tower.embeddings.cls_token": "vision_model.embeddings.class_embedding",
    "vision_tower.embeddings.position_embeddings": "vision_model.embeddings.position_embedding",
    "vision_tower.embeddings.patch_embeddings.projection.*": "vision_model.embeddings.patch_embedding.*",
    **{f"vision_tower.encoder.layer.#.{a}": f"vision_model.encoder.layers.#.{b}" for a, b in _VISION_LAYER.items()},
    "connector.layer_norm.*": "mlp1.0.*",
    "connector.linear_1.*": "mlp1.1.*",
    "connector.linear_2.*": "mlp1.3.*",
    "language_model.embed_tokens.*": "language_model.model.tok_embeddings.*",
    **{f"language_model.layers.#.{a}": f"language_model.model.layers.#.{b}" for a, b in _LANGUAGE_LAYER.items()},
    "language_model.norm.*": "language_model.model.norm.*",
    "lm_head.*": "language_model.output.*",
    "seg_projection.*": "text_hidden_fcs.*",
    "grounding.memory_encoder.fuser.layers.#.gamma": f"{SAM2_PREFIX}memory_encoder.fuser.layers.#.g_weight",
    "grounding.*": f"{SAM2_PREFIX}*",
}
_PATTERNS: Final = [
    (re.compile(re.escape(ours).replace(r"\#", "#").replace("#", r"(\d+)").replace(r"\*", "(.+)")), theirs)
    for ours, theirs in _NAMES.items()
]
_QUERY: Final = re.compile(
    r"(?:vision_tower\.encoder\.layer|language_model\.layers)\.(\d+)\.\w+\.q_proj\.(weight|bias)"
)
_KEY_OR_VALUE: Final = re.compile(r"(?:vision_tower|language_model)\..+\.[kv]_proj\.(?:weight|bias)")


@dataclass(frozen=True, slots=True)
class Entry(ABC):
    """One tensor of the checkpoint, and the parameters of ours that it holds."""

    key: str
    native: tuple[str, ...]

    @abstractmethod
    def split(self, tensor: Tensor) -> list[Tensor]:
        """Cut the checkpoint's tensor into ours."""

    @abstractmethod
    def join(self, parts: list[Tensor]) -> Tensor:
        """Put ours together as the checkpoint has them."""


class Plain(Entry):
    """The same tensor under another name."""

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Return it."""
        return [tensor]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Return it."""
        return parts[0]


class Blocks(Entry):
    """InternViT's qkv."""

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Cut (3 * dim, ...) into three."""
        return list(tensor.chunk(3))

    def join(self, parts: list[Tensor]) -> Tensor:
        """Stack q, k, v."""
        return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class Grouped(Entry):
    """InternLM2's wqkv."""

    language: LanguageConfig

    @property
    def _shape(self) -> tuple[int, int, int]:
        heads, groups = self.language.num_attention_heads, self.language.num_key_value_heads
        return groups, heads // groups, self.language.head_dim

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Cut ((heads + 2 * kv heads) * d, in) into q, k, v."""
        groups, queries, dim = self._shape
        rows = tensor.view(groups, queries + 2, dim, tensor.shape[-1])
        parts = rows[:, :queries], rows[:, queries], rows[:, queries + 1]
        return [part.reshape(-1, tensor.shape[-1]) for part in parts]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Interleave q, k, v per key/value head."""
        groups, queries, dim = self._shape
        query, key, value = (part.reshape(groups, -1, dim, part.shape[-1]) for part in parts)
        return torch.cat([query, key, value], dim=1).reshape(groups * (queries + 2) * dim, -1)


def entries(native_keys: Iterable[str], config: DeFakerOneConfig) -> list[Entry]:
    """Lay out all parameters of ours as the checkpoint's tensors, in our order."""
    plan: list[Entry] = []
    for name in native_keys:
        query = _QUERY.fullmatch(name)
        if query is not None:
            plan.append(_attention(name, query[1], query[2], config.language))
        elif not _KEY_OR_VALUE.fullmatch(name):
            plan.append(Plain(_rename(name), (name,)))
    return plan


def _attention(name: str, layer: str, kind: str, language: LanguageConfig) -> Entry:
    native = tuple(name.replace(".q_proj.", f".{part}_proj.") for part in "qkv")
    if name.startswith("vision_tower."):
        return Blocks(f"vision_model.encoder.layers.{layer}.attn.qkv.{kind}", native)
    return Grouped(f"language_model.model.layers.{layer}.attention.wqkv.{kind}", native, language)


def _rename(name: str) -> str:
    for pattern, theirs in _PATTERNS:
        match = pattern.fullmatch(name)
        if match is not None:
            return _fill_in(theirs, match.groups())
    raise KeyError(name)


def _fill_in(template: str, parts: Iterable[str]) -> str:
    given = iter(parts)
    return re.sub(r"[#*]", lambda _: next(given), template)


def join_all(plan: list[Entry], native: Mapping[str, Tensor]) -> State:
    """Turn our state into the checkpoint's. Also right for meta tensors, which gives the expected shapes."""
    return {entry.key: entry.join([native[name] for name in entry.native]) for entry in plan}
