"""What is DeFakerOne, as a network?

InternVL2 and SAM2 joined as in Sa2VA (arXiv 2501.04001), for the paper's joint detection and localization:

    tiles -> InternViT -> pixel shuffle, connector -> image tokens -+
                                                                    +-> language model -> verdict (first answer token)
    question, answer suffix --------------------------------> ids --+                  -> [SEG] state -> projection: e
    square copy -> SAM2 image encoder -> features, prompted by e -> SAM2 mask decoder -> mask logits

`Network` is differentiable throughout, holds no state between calls and takes several images of unequal tile counts:
    network(pixel_values, input_ids, sam_pixel_values, logit_positions=...) -> ModelOutput
Rows are padded on the right. Attention is causal, so no real position ever sees a pad, and no mask is needed: the
attention kernel keeps its fast causal path, and padding changes nothing. Parts can be called alone: `embed_tiles`,
`run_language`, `grounding.encode`, `grounding.decode`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import InternVLVisionConfig, LlamaConfig
from transformers.models.internvl.configuration_internvl import InternVLConfig
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector, InternVLVisionModel
from transformers.models.llama.modeling_llama import LlamaModel, LlamaRotaryEmbedding

from worker.defakerone.attention import FULL
from worker.defakerone.config import DeFakerOneConfig, LanguageConfig, VisionConfig
from worker.defakerone.errors import PromptError
from worker.defakerone.grounding import Masks, build_grounding
from worker.defakerone.linear import use_fused_linear
from worker.defakerone.norms import use_fast_norms
from worker.defakerone.prefix import CAUSAL
from worker.defakerone.records import Record
from worker.defakerone.vision import use_fast_layers


@dataclass(frozen=True, slots=True)
class ModelOutput(Record):
    """All that one pass gives. n_seg counts [SEG] tokens over the batch in reading order, `seg_rows` says whose."""

    vision_embeds: Tensor  # (all tiles, tokens, dim)
    hidden: Tensor  # (batch, length, dim), after the final norm
    logits: Tensor  # (batch, length, vocab); (positions, vocab) where `logit_positions` was given
    seg_rows: Tensor  # (n_seg,)
    seg_hidden: Tensor  # (n_seg, dim), where the INPUT token is [SEG]
    seg_embed: Tensor  # (n_seg, d), SAM2's prompt
    multimask_logits: Tensor  # (n_seg, 3, S/4, S/4)
    ious: Tensor  # (n_seg, 3)
    low_res_logits: Tensor  # (n_seg, S/4, S/4), the multimask with the best predicted IoU
    object_scores: Tensor  # (n_seg, 1), never a gate


class Network(nn.Module):
    """The modules and how they join. `image_id`, `seg_id`: the vocabulary's <IMG_CONTEXT> and [SEG]."""

    def __init__(self, config: DeFakerOneConfig, image_id: int, seg_id: int) -> None:
        super().__init__()
        self.config, self.image_id, self.seg_id = config, image_id, seg_id
        language, width = config.language, config.language.hidden_size
        native = native_config(config)
        self.vision_tower = InternVLVisionModel(native.vision_config)  # type: ignore[arg-type]
        self.connector = InternVLMultiModalProjector(native)
        self.language_model = LlamaModel(native.text_config)  # type: ignore[arg-type]
        self.lm_head = nn.Linear(width, language.vocab_size, bias=False)
        self.seg_projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.grounding.d_model)
        )
        self.grounding = build_grounding(config.grounding)
        use_fast_layers(self.vision_tower)
        use_fast_norms(self.language_model)
        use_fused_linear(self)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        sam_pixel_values: Tensor,
        *,
        logit_positions: Tensor | None = None,
    ) -> ModelOutput:
        """Run the whole model.

        `pixel_values` (all tiles, 3, s, s): the tiles of every row, one row after the other. `input_ids` (batch,
        length), padded on the right. `sam_pixel_values` (batch, 3, S, S); only rows with a [SEG] are encoded.
        `logit_positions` (batch, length) bool: where the language head is wanted; everywhere by default.
        Raises PromptError where the <IMG_CONTEXT> tokens and the tiles do not match.
        """
        vision_embeds = self.embed_tiles(pixel_values)
        hidden = self.run_language(input_ids, vision_embeds)
        rows, positions = torch.nonzero(input_ids == self.seg_id, as_tuple=True)
        seg_hidden = hidden[rows, positions]
        seg_embed = self.seg_projection(seg_hidden)
        masks = self.ground(sam_pixel_values, rows, seg_embed)
        return ModelOutput(
            vision_embeds=vision_embeds,
            hidden=hidden,
            logits=self.lm_head(hidden if logit_positions is None else hidden[logit_positions]),
            seg_rows=rows,
            seg_hidden=seg_hidden,
            seg_embed=seg_embed,
            multimask_logits=masks.multimask_logits,
            ious=masks.ious,
            low_res_logits=masks.low_res_logits,
            object_scores=masks.object_scores,
        )

    def encode_vision(self, pixel_values: Tensor) -> Tensor:
        """Return InternViT's last hidden state, CLS first: (tiles, 1 + patches, dim)."""
        hidden: Tensor = self.vision_tower(pixel_values.to(self.dtype)).last_hidden_state
        return hidden

    def embed_tiles(self, pixel_values: Tensor) -> Tensor:
        """Turn normalised tiles (tiles, 3, s, s) into language embeddings (tiles, tokens, dim)."""
        patches = self.encode_vision(pixel_values)[:, 1:]
        embeds: Tensor = self.connector(pixel_shuffle(patches, self.config.fold))
        return embeds

    def embed_tokens(self, input_ids: Tensor, vision_embeds: Tensor) -> Tensor:
        """Embed ids (batch, length), the image's positions taken from `vision_embeds`: (batch, length, dim)."""
        embeds: Tensor = self.language_model.embed_tokens(input_ids)
        at_image = input_ids == self.image_id
        flat = vision_embeds.reshape(-1, vision_embeds.shape[-1])
        if int(at_image.sum()) != len(flat):
            raise PromptError(f"{int(at_image.sum())} image tokens in the prompt, {len(flat)} in the tiles")
        return embeds.masked_scatter(at_image[..., None], flat.to(embeds.dtype))

    def run_language(self, input_ids: Tensor, vision_embeds: Tensor) -> Tensor:
        """Return the last hidden state after the final norm: (batch, length, dim)."""
        embeds = self.embed_tokens(input_ids, vision_embeds)
        hidden: Tensor = self.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return hidden

    def ground(self, sam_pixel_values: Tensor, rows: Tensor, seg_embed: Tensor) -> Masks:
        """Decode a mask for each prompt: `rows` (n_seg,) says whose image, `seg_embed` (n_seg, d) what to look for."""
        if len(rows) == 0:
            return self._no_masks(sam_pixel_values)
        images, which = torch.unique(rows, return_inverse=True)
        features = self.grounding.encode(sam_pixel_values[images])
        return self.grounding.decode(features.rows(which), seg_embed)

    def _no_masks(self, like: Tensor) -> Masks:
        side = self.config.grounding.image_size // 4
        empty = (like.new_zeros(0, *shape, dtype=self.dtype) for shape in ((3, side, side), (3,), (1,)))
        return Masks(*empty)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return self.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.lm_head.weight.device

    def cast(self, device: torch.device | str, dtype: torch.dtype) -> Network:
        """Move everything; cast parameters only.

        Buffers keep float32: rotary frequencies in bfloat16 give cosines wrong by up to 2.0 at position 3500, and
        SAM2's position matrix meets float32 coordinates. Use this, never `.to(dtype)`.
        """
        for parameter in self.parameters():
            parameter.data = parameter.data.to(device=device, dtype=dtype)
        for module in self.modules():
            for name, buffer in module.named_buffers(recurse=False):
                kept = torch.float32 if buffer.is_floating_point() else buffer.dtype
                setattr(module, name, buffer.to(device=device, dtype=kept))
        return self

    def rebuild_rotary(self) -> None:
        """Compute the rotary frequencies anew: after building on the meta device they hold no numbers."""
        with torch.device("cpu"):
            self.language_model.rotary_emb = LlamaRotaryEmbedding(self.language_model.config)


def pixel_shuffle(patches: Tensor, factor: int) -> Tensor:
    """Fold factor x factor neighbouring patches into channels (InternVL's ps_version v2).

    (tiles, side * side, dim), row-major, becomes (tiles, (side/factor)^2, dim * factor^2); the channels of an output
    cell are its patches, row by row.
    """
    tiles, count, dim = patches.shape
    cells = round(count**0.5) // factor
    grid = patches.view(tiles, cells, factor, cells, factor, dim).transpose(2, 3)
    return grid.reshape(tiles, cells * cells, factor * factor * dim)


def native_config(config: DeFakerOneConfig) -> InternVLConfig:
    """Say the same in transformers' terms: InternVL's vision and connector, InternLM2 as Llama."""
    native = InternVLConfig(
        vision_config=_native_vision(config.vision),
        text_config=_native_language(config.language),
        downsample_ratio=config.downsample_ratio,
        tie_word_embeddings=False,
    )
    native.vision_config._attn_implementation = FULL  # type: ignore[union-attr]
    native.text_config._attn_implementation = CAUSAL  # type: ignore[union-attr]
    return native


def _native_vision(vision: VisionConfig) -> InternVLVisionConfig:
    return InternVLVisionConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads,
        intermediate_size=vision.intermediate_size,
        patch_size=vision.patch_size,
        image_size=vision.image_size,
        layer_norm_eps=vision.layer_norm_eps,
        attention_bias=vision.qkv_bias,
        initializer_range=vision.initializer_range,
        use_qk_norm=False,
        use_mean_pooling=True,  # makes the final norm an identity, which InternViT-300M does not have
    )


def _native_language(language: LanguageConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=language.vocab_size,
        hidden_size=language.hidden_size,
        num_hidden_layers=language.num_hidden_layers,
        num_attention_heads=language.num_attention_heads,
        num_key_value_heads=language.num_key_value_heads,
        head_dim=language.head_dim,
        intermediate_size=language.intermediate_size,
        rms_norm_eps=language.rms_norm_eps,
        max_position_embeddings=language.max_position_embeddings,
        initializer_range=language.initializer_range,
        rope_parameters={
            "rope_type": language.rope_type,
            "rope_theta": language.rope_theta,
            **({} if language.rope_type == "default" else {"factor": language.rope_factor}),
        },
        bos_token_id=language.bos_token_id,
        eos_token_id=language.eos_token_id,
        pad_token_id=language.pad_token_id,
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=False,
    )
