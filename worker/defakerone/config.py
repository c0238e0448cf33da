"""Which numbers define a DeFakerOne, and how do they stand in a checkpoint's config.json?

The layout of config.json is Sa2VA's (`model_type: sa2va_chat`): `vision_config`, `llm_config`, tiling keys at the top.
`grounding_encoder_config` is our extension, since released Sa2VA files imply Hiera-L and name no SAM2 dimension.
Whatever the architecture here does not do is refused by name instead of being ignored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, TypeVar

from worker.defakerone.errors import CheckpointError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """InternViT. Defaults: InternViT-300M-448px, 304.0M parameters."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    patch_size: int = 14
    image_size: int = 448  # side of one tile, pixels
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    initializer_range: float = 0.02

    @property
    def grid(self) -> int:
        """Patches along one side of a tile."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """InternLM2, expressed as Llama. Defaults: InternLM2-chat-1.8B inside InternVL2-2B with Sa2VA's five tokens."""

    vocab_size: int = 92558
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_key_value_heads: int = 8
    intermediate_size: int = 8192
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1_000_000.0
    rope_type: str = "dynamic"
    rope_factor: float = 2.0
    max_position_embeddings: int = 32768
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 2
    initializer_range: float = 0.02

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True)
class GroundingConfig:
    """SAM2 (2.0). Defaults: Hiera-L at 1024 px. `video_memory` keeps the tensors that only video uses."""

    image_size: int = 1024
    embed_dim: int = 144
    num_heads: int = 2
    stages: tuple[int, ...] = (2, 6, 36, 4)
    global_att_blocks: tuple[int, ...] = (23, 33, 43)
    window_pos_embed_bkg_spatial_size: tuple[int, int] = (7, 7)
    window_spec: tuple[int, ...] = (8, 4, 16, 8)
    d_model: int = 256
    fpn_top_down_levels: tuple[int, ...] = (2, 3)
    memory_attention_layers: int = 4
    memory_attention_ffn: int = 2048
    memory_dim: int = 64
    video_memory: bool = True

    @classmethod
    def from_json(cls, data: Json) -> GroundingConfig:
        """Read the block `grounding_encoder_config`; keys that it lacks are Hiera-L's."""
        return _read(cls, data)

    @property
    def channels(self) -> list[int]:
        """Trunk channels from the coarsest level to the finest."""
        return [self.embed_dim * 2**level for level in reversed(range(len(self.stages)))]


@dataclass(frozen=True, slots=True)
class DeFakerOneConfig:
    """The whole model. Defaults: the paper's size, InternVL2-2B + SAM2 Hiera-L, 2.435B parameters."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    downsample_ratio: float = 0.5  # pixel shuffle: side of the token grid over side of the patch grid
    min_tiles: int = 1
    max_tiles: int = 12  # without the thumbnail
    use_thumbnail: bool = True

    @property
    def tokens_per_tile(self) -> int:
        """Language positions that one tile takes (256 at the paper's size)."""
        return int(self.vision.grid * self.downsample_ratio) ** 2

    @property
    def fold(self) -> int:
        """How many patches, along each side, pixel shuffle folds into one token (2 at the paper's size)."""
        return round(1 / self.downsample_ratio)

    @classmethod
    def from_json(cls, data: Json) -> DeFakerOneConfig:
        """Read a Sa2VA or InternVL2 config.json; raises CheckpointError naming every key that it cannot honour."""
        _refuse_unsupported(data)
        return cls(
            vision=_read(VisionConfig, data["vision_config"]),
            language=_read_language(data["llm_config"]),
            grounding=GroundingConfig.from_json(data.get("grounding_encoder_config", {})),
            downsample_ratio=data.get("downsample_ratio", 0.5),
            min_tiles=data.get("min_dynamic_patch", 1),
            max_tiles=data.get("max_dynamic_patch", 12),
            use_thumbnail=data.get("use_thumbnail", True),
        )

    def to_json(self, dtype: str = "bfloat16") -> Json:
        """Write the same layout. No `auto_map`: nothing in our checkpoints asks for remote code."""
        return {
            "architectures": ["Sa2VAChatModel"],
            "model_type": "sa2va_chat",
            "torch_dtype": dtype,
            "tie_word_embeddings": False,
            "hidden_size": self.language.hidden_size,
            "template": "internlm2_chat",
            **_FIXED_TOP,
            "force_image_size": self.vision.image_size,
            "downsample_ratio": self.downsample_ratio,
            "use_thumbnail": self.use_thumbnail,
            "min_dynamic_patch": self.min_tiles,
            "max_dynamic_patch": self.max_tiles,
            "vision_config": {"model_type": "intern_vit_6b", **_FIXED_VISION, **asdict(self.vision)},
            "llm_config": _write_language(self.language),
            "grounding_encoder_config": asdict(self.grounding),
        }

    def with_grounding(self, grounding: GroundingConfig) -> DeFakerOneConfig:
        """Return the same model with another SAM2."""
        return replace(self, grounding=grounding)

    def with_vocabulary(self, vocab_size: int) -> DeFakerOneConfig:
        """Return the same model with another number of tokens."""
        return replace(self, language=replace(self.language, vocab_size=vocab_size))


# What the architecture is fixed to: the value that a config must have where it names the key at all.
_FIXED_TOP: Final[Json] = {"ps_version": "v2", "select_layer": -1, "dynamic_image_size": True, "pad2square": False}
_FIXED_VISION: Final[Json] = {
    "hidden_act": "gelu",
    "norm_type": "layer_norm",
    "qk_normalization": False,
    "num_channels": 3,
    "drop_path_rate": 0.0,
}
_FIXED_LANGUAGE: Final[Json] = {"hidden_act": "silu", "bias": False, "tie_word_embeddings": False}
_MODEL_TYPES: Final = ("sa2va_chat", "internvl_chat")


_Part = TypeVar("_Part", VisionConfig, LanguageConfig, GroundingConfig)


def _refuse_unsupported(data: Json) -> None:
    if data.get("model_type") not in _MODEL_TYPES:
        raise CheckpointError(f"config.json: model_type is {data.get('model_type')!r}, supported: {_MODEL_TYPES}")
    missing = [key for key in ("vision_config", "llm_config") if not isinstance(data.get(key), dict)]
    if missing:
        raise CheckpointError(f"config.json: no {' and no '.join(missing)}")
    wrong = [
        f"{section}{key} is {block[key]!r}, supported is {value!r}"
        for section, block, fixed in (
            ("", data, {**_FIXED_TOP, "tie_word_embeddings": False}),
            ("vision_config.", data["vision_config"], {**_FIXED_VISION, "drop_path_rate": None}),
            ("llm_config.", data["llm_config"], _FIXED_LANGUAGE),
        )
        for key, value in fixed.items()
        if value is not None and key in block and block[key] != value
    ]
    if wrong:
        raise CheckpointError("config.json: " + "; ".join(wrong))


def _read(kind: type[_Part], block: Json) -> _Part:
    known = {f.name for f in fields(kind)}
    values: Json = {key: tuple(v) if isinstance(v, list) else v for key, v in block.items() if key in known}
    return kind(**values)


def _read_language(block: Json) -> LanguageConfig:
    scaling = block.get("rope_scaling") or {"type": "default", "factor": 1.0}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind not in ("default", "dynamic", "linear"):
        raise CheckpointError(f"config.json: llm_config.rope_scaling is of type {kind!r}; supported: dynamic, linear")
    return replace(_read(LanguageConfig, block), rope_type=kind, rope_factor=float(scaling["factor"]))


def _write_language(language: LanguageConfig) -> Json:
    block = asdict(language)
    kind, factor = block.pop("rope_type"), block.pop("rope_factor")
    scaling = None if kind == "default" else {"type": kind, "factor": factor}
    return {"model_type": "internlm2", **_FIXED_LANGUAGE, **block, "rope_scaling": scaling}


# Every part of the paper's model, narrow enough to be trained without an accelerator. Small patches, since traces are
# lost in larger ones, and small tiles, since attention within a tile costs the square of its patches. Up to 24 of them
# show a picture of 512 x 512 or 768 x 512 at its own scale, and one of 4:3 at 512 x 384. 4 x 4 patches share a token.
DEFAKERONE_SMALL: Final = DeFakerOneConfig(
    vision=VisionConfig(
        hidden_size=64,
        num_hidden_layers=5,
        num_attention_heads=2,
        intermediate_size=192,
        patch_size=8,
        image_size=128,
    ),
    language=LanguageConfig(
        vocab_size=542,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=384,
        rope_type="default",
        rope_factor=1.0,
        rope_theta=10_000.0,
        max_position_embeddings=4096,
    ),
    grounding=GroundingConfig(
        image_size=512,
        embed_dim=32,
        num_heads=1,
        stages=(1, 2, 6, 1),
        global_att_blocks=(5, 8),  # from stride 16 on, as in SAM2: at stride 8 it was a quarter of the branch's time
        window_spec=(16, 16, 16, 8),  # 64 pixels at first: in smaller windows, most tokens lie at an edge
        d_model=64,
        video_memory=False,
    ),
    downsample_ratio=0.25,
    max_tiles=24,
)
# As small as the architecture goes: for tests of training.
DEFAKERONE_TINY: Final = DeFakerOneConfig(
    vision=VisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=8, image_size=64
    ),
    language=replace(
        DEFAKERONE_SMALL.language,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
    ),
    grounding=replace(
        DEFAKERONE_SMALL.grounding,
        image_size=128,
        embed_dim=16,
        stages=(1, 2, 1, 1),
        global_att_blocks=(2,),
        d_model=32,
    ),
    max_tiles=4,
)
PRESETS: Final[dict[str, DeFakerOneConfig]] = {
    "defakerone-2b": DeFakerOneConfig(),
    "defakerone-small": DEFAKERONE_SMALL,
    "defakerone-tiny": DEFAKERONE_TINY,
}
