"""How is a DeFakerOne made from what is published: an InternVL2-2B directory and a SAM2 release file?

The vocabulary grows by [SEG] and Sa2VA's four other tokens, whose rows start at the mean of the existing ones; the
projection from [SEG] to SAM2 is new. Detection then works as far as InternVL2 understands the question; localization
has to be trained (stage 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from worker.defakerone import checkpoint, weights
from worker.defakerone.config import DeFakerOneConfig, GroundingConfig
from worker.defakerone.errors import CheckpointError
from worker.defakerone.grounding import build_grounding
from worker.defakerone.layout import SAM2_PREFIX, State, entries
from worker.defakerone.metadata import Metadata
from worker.defakerone.tokenizer import Tokenizer

_VOCABULARY: Final = ("language_model.model.tok_embeddings.weight", "language_model.output.weight")
_PROJECTION: Final = "text_hidden_fcs."
# SAM2.1's release files have these besides; they serve video only.
_SAM21_EXTRAS: Final = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")

# The four sizes in which SAM2 was released (sam2/configs).
RELEASED: Final[dict[str, GroundingConfig]] = {
    "hiera-large": GroundingConfig(),
    "hiera-base-plus": GroundingConfig(
        embed_dim=112,
        num_heads=2,
        stages=(2, 3, 16, 3),
        global_att_blocks=(12, 16, 20),
        window_pos_embed_bkg_spatial_size=(14, 14),
        window_spec=(8, 4, 14, 7),
    ),
    "hiera-small": GroundingConfig(
        embed_dim=96, num_heads=1, stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13), window_spec=(8, 4, 14, 7)
    ),
    "hiera-tiny": GroundingConfig(
        embed_dim=96, num_heads=1, stages=(1, 2, 7, 2), global_att_blocks=(5, 7, 9), window_spec=(8, 4, 14, 7)
    ),
}


def assemble(
    internvl2: Path,
    sam2: Path,
    out: Path,
    *,
    grounding: GroundingConfig | None = None,
    metadata: Metadata | None = None,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int | None = None,
    seed: int = 0,
) -> None:
    """Write a checkpoint made from both; raises CheckpointError naming what does not fit.

    Without `grounding`, SAM2's size is recognised among the released ones. `seed` draws the new projection.
    """
    sam2_state = {key: tensor for key, tensor in weights.read_pt(sam2).items() if key not in _SAM21_EXTRAS}
    config, tokenizer = _configure(internvl2, grounding or recognise(sam2_state, sam2))
    network = checkpoint.build_on_meta(config, tokenizer)
    expected = checkpoint.expected_shapes(network, entries(network.state_dict(), config))
    state = _internvl2_state(internvl2, expected, config.language.vocab_size)
    state |= _sam2_state(sam2_state, expected, sam2)
    state |= _new_projection(config, seed)
    checkpoint.fill(network, checkpoint.natively(state.items(), network, "cpu", torch.float32))
    checkpoint.save(
        out,
        network,
        tokenizer,
        metadata or Metadata(name=out.resolve().name),
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
    )


def recognise(state: State, path: Path) -> GroundingConfig:
    """Find the released SAM2 size whose tensors these are; raises CheckpointError where there is none."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for config in RELEASED.values():
        with torch.device("meta"):
            candidate = build_grounding(config).state_dict()
        if {key: tuple(tensor.shape) for key, tensor in candidate.items()} == shapes:
            return config
    raise CheckpointError(f"{path}: none of SAM2's released sizes ({', '.join(RELEASED)}); describe it by a config")


def grounding_from_json(data: dict[str, Any]) -> GroundingConfig:
    """Read SAM2's dimensions from a config.json with `grounding_encoder_config`, or from that block alone."""
    return GroundingConfig.from_json(data.get("grounding_encoder_config", data))


def _configure(internvl2: Path, grounding: GroundingConfig) -> tuple[DeFakerOneConfig, Tokenizer]:
    published = checkpoint.read_config(internvl2)
    tokenizer = Tokenizer.from_directory(internvl2).with_sa2va_tokens()
    rows = max(published.language.vocab_size, tokenizer.size)
    return published.with_grounding(grounding).with_vocabulary(rows), tokenizer


def _internvl2_state(directory: Path, expected: dict[str, tuple[int, ...]], rows: int) -> State:
    files = weights.WeightFiles.find(directory)
    state = {key: _grown(tensor, rows) if key in _VOCABULARY else tensor for key, tensor in files.read()}
    wanted = {k: shape for k, shape in expected.items() if not k.startswith((SAM2_PREFIX, _PROJECTION))}
    weights.compare(wanted, {key: tuple(tensor.shape) for key, tensor in state.items()}, str(directory))
    return state


def _grown(tensor: Tensor, rows: int) -> Tensor:
    mean = tensor.float().mean(dim=0, keepdim=True)
    return torch.cat([tensor.float(), mean.expand(rows - len(tensor), -1)])


def _sam2_state(state: State, expected: dict[str, tuple[int, ...]], path: Path) -> State:
    named = {SAM2_PREFIX + _to_sa2va(key): tensor for key, tensor in state.items()}
    wanted = {key: shape for key, shape in expected.items() if key.startswith(SAM2_PREFIX)}
    weights.compare(wanted, {key: tuple(tensor.shape) for key, tensor in named.items()}, str(path))
    return named


def _to_sa2va(key: str) -> str:
    # SAM2 calls the memory encoder's layer scale gamma; Sa2VA renamed it, since old loaders rewrite that word.
    return key.replace(".gamma", ".g_weight") if key.startswith("memory_encoder.fuser.") else key


def _new_projection(config: DeFakerOneConfig, seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    width, out = config.language.hidden_size, config.grounding.d_model
    shapes = {"0.weight": (width, width), "0.bias": (width,), "2.weight": (out, width), "2.bias": (out,)}
    state = {_PROJECTION + name: torch.zeros(shape) for name, shape in shapes.items()}
    for name in ("0.weight", "2.weight"):
        nn.init.normal_(state[_PROJECTION + name], std=config.language.initializer_range, generator=generator)
    return state
