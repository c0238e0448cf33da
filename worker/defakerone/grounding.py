"""How does SAM2 turn an image and the language model's [SEG] vectors into masks?

SAM2 2.0 (arXiv 2408.00714) from sam2's own classes, without Hydra, used the way Sa2VA uses it: encode the square image,
prompt the mask decoder with [not a point, not a point, e], take the multimask with the best predicted IoU. The object
score never gates a mask, and nothing is remembered between images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from worker.defakerone.attention import attend, blocks_pay
from worker.defakerone.config import GroundingConfig
from worker.defakerone.hiera import use_fast_blocks
from worker.defakerone.records import Record


@dataclass(frozen=True, slots=True)
class GroundingFeatures:
    """What the image encoder gives the mask decoder, one row an image. I = input side, d = model width."""

    s4: Tensor  # (n, d/8, I/4, I/4)
    s8: Tensor  # (n, d/4, I/8, I/8)
    s16: Tensor  # (n, d, I/16, I/16), no_mem_embed added

    def rows(self, index: Tensor) -> GroundingFeatures:
        """Pick images by index (m,); an image may be picked several times, once for each of its prompts."""
        return GroundingFeatures(self.s4[index], self.s8[index], self.s16[index])


@dataclass(frozen=True, slots=True)
class Masks(Record):
    """The mask decoder's answer, one row a prompt."""

    multimask_logits: Tensor  # (m, 3, I/4, I/4)
    ious: Tensor  # (m, 3), predicted, 0..1
    object_scores: Tensor  # (m, 1), reported only: it gates nothing

    @property
    def best(self) -> Tensor:
        """Index of the multimask with the highest predicted IoU: (m,)."""
        return self.ious.argmax(dim=1)

    @property
    def low_res_logits(self) -> Tensor:
        """The best multimask: (m, I/4, I/4)."""
        return self.multimask_logits[torch.arange(len(self.ious), device=self.ious.device), self.best]


class DecoderAttention(Attention):  # type: ignore[misc]
    """Attention of the mask decoder: sam2's own, but for the kernel, where that is slow at four numbers a head."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n, queries, dim), (n, keys, dim), (n, keys, dim) -> like the queries."""
        if self.training or not blocks_pay(q):
            out: Tensor = super().forward(q, k, v)
            return out
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        attended = attend(*(self._separate_heads(part, self.num_heads) for part in parts))
        projected: Tensor = self.out_proj(self._recombine_heads(attended))
        return projected


class GroundingModel(SAM2Base):  # type: ignore[misc]
    """SAM2 with the two calls that a single image needs."""

    def encode(self, sam_pixel_values: Tensor) -> GroundingFeatures:
        """Encode normalised squares (n, 3, I, I)."""
        dtype = self.no_mem_embed.dtype
        s4, s8, s16 = self.image_encoder(sam_pixel_values.to(dtype))["backbone_fpn"]
        decoder = self.sam_mask_decoder
        s16 = s16.to(dtype) + self.no_mem_embed.view(1, -1, 1, 1)  # the neck fuses this level in float32
        return GroundingFeatures(s4=decoder.conv_s0(s4), s8=decoder.conv_s1(s8), s16=s16)

    def decode(self, features: GroundingFeatures, seg_embeds: Tensor) -> Masks:
        """Decode one prompt a row: `seg_embeds` (m, d) beside features of m images."""
        dtype = features.s16.dtype
        # One dummy point of label -1; without a box the encoder pads a second one. Both become `not_a_point`.
        nowhere = torch.zeros(len(seg_embeds), 1, 2, device=seg_embeds.device)
        points = (nowhere, -torch.ones_like(nowhere[..., 0]))
        sparse, dense = self.sam_prompt_encoder(points=points, boxes=None, masks=None)
        masks, ious, _, scores = self.sam_mask_decoder(
            image_embeddings=features.s16,
            image_pe=self.sam_prompt_encoder.get_dense_pe().to(dtype),
            sparse_prompt_embeddings=torch.cat([sparse.to(dtype), seg_embeds[:, None].to(dtype)], dim=1),
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=True,
            repeat_image=False,
            high_res_features=[features.s4, features.s8],
        )
        return Masks(multimask_logits=masks, ious=ious, object_scores=scores)


class _LinspaceOnCpu(TorchFunctionMode):
    """Lets Hiera, which reads drop-path rates out of a `linspace`, be built on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        extra = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **extra})


def build_grounding(config: GroundingConfig) -> GroundingModel:
    """Build SAM2 with random weights on the current default device; the same tensors as `sam2_hiera_l.yaml` gives."""
    with _LinspaceOnCpu():
        model = GroundingModel(
            image_encoder=_image_encoder(config),
            memory_attention=_memory_attention(config) if config.video_memory else None,
            memory_encoder=_memory_encoder(config) if config.video_memory else None,
            num_maskmem=7 if config.video_memory else 1,
            image_size=config.image_size,
            directly_add_no_mem_embed=True,
            use_high_res_features_in_sam=True,
            multimask_output_in_sam=True,
            multimask_min_pt_num=0,
            multimask_max_pt_num=1,
            multimask_output_for_tracking=True,
            use_multimask_token_for_obj_ptr=True,
            iou_prediction_use_sigmoid=True,
            use_obj_ptrs_in_encoder=config.video_memory,
            add_tpos_enc_to_obj_ptrs=False,
            only_obj_ptrs_in_the_past_for_eval=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            fixed_no_obj_ptr=config.video_memory,
            use_mlp_for_obj_ptr_proj=True,
        )
    for module in model.sam_mask_decoder.modules():
        if type(module) is Attention:
            module.__class__ = DecoderAttention
    return model


class _NoPositions(nn.Module):
    """Stands in for the neck's position maps, which only video memory reads; they would cost a copy of every level."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def _positions(width: int) -> PositionEmbeddingSine:
    # `warmup_cache` would touch cuda:0 even where the model is for the CPU.
    return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, warmup_cache=False)


def _image_encoder(config: GroundingConfig) -> nn.Module:
    trunk = Hiera(
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        stages=config.stages,
        global_att_blocks=config.global_att_blocks,
        window_pos_embed_bkg_spatial_size=config.window_pos_embed_bkg_spatial_size,
        window_spec=config.window_spec,
    )
    use_fast_blocks(trunk)
    neck = FpnNeck(
        position_encoding=_NoPositions(),
        d_model=config.d_model,
        backbone_channel_list=config.channels,
        fpn_top_down_levels=list(config.fpn_top_down_levels),
        fpn_interp_model="nearest",
    )
    encoder: nn.Module = ImageEncoder(trunk=trunk, neck=neck, scalp=1)
    return encoder


def _memory_attention(config: GroundingConfig) -> nn.Module:
    # Plain attention in place of RoPEAttention: the same parameters, and never run here. RoPEAttention would put a
    # table on cuda:0 while it is built, which breaks building on the meta device.
    width, memory = config.d_model, config.memory_dim
    layer = MemoryAttentionLayer(
        activation="relu",
        d_model=width,
        dim_feedforward=config.memory_attention_ffn,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=Attention(embedding_dim=width, num_heads=1, downsample_rate=1, dropout=0.1),
        cross_attention=Attention(embedding_dim=width, num_heads=1, downsample_rate=1, dropout=0.1, kv_in_dim=memory),
    )
    attention: nn.Module = MemoryAttention(
        d_model=width, pos_enc_at_input=True, layer=layer, num_layers=config.memory_attention_layers
    )
    return attention


def _memory_encoder(config: GroundingConfig) -> nn.Module:
    block = CXBlock(dim=config.d_model, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True)
    encoder: nn.Module = MemoryEncoder(
        in_dim=config.d_model,
        out_dim=config.memory_dim,
        position_encoding=_positions(config.memory_dim),
        mask_downsampler=MaskDownSampler(embed_dim=config.d_model, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(block, num_layers=2),
    )
    return encoder
