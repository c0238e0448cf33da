"""The modules that run faster than the libraries' own compute the same."""

import copy

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from sam2.modeling.sam.transformer import Attention
from torch import nn
from transformers.models.internvl.modeling_internvl import InternVLVisionLayer

from worker.defakerone.config import DEFAKERONE_TINY, GroundingConfig
from worker.defakerone.grounding import DecoderAttention, build_grounding
from worker.defakerone.hiera import FastBlock, FastHiera
from worker.defakerone.linear import FusedLinear, linear_add, linear_gelu
from worker.defakerone.model import Network
from worker.defakerone.vision import FastVisionLayer

SHAPES = [
    GroundingConfig(image_size=256, embed_dim=16, num_heads=1, stages=(1, 2, 3, 1), global_att_blocks=(4,), d_model=32),
    GroundingConfig(image_size=256, embed_dim=16, num_heads=2, stages=(2, 1, 2, 2), global_att_blocks=(4, 6)),
    # A map of 24 pixels does not divide into windows of 16.
    GroundingConfig(image_size=384, embed_dim=16, num_heads=1, stages=(1, 1, 3, 1), global_att_blocks=(3,)),
]


def trunks(config: GroundingConfig) -> tuple[FastHiera, Hiera]:
    """Return one trunk of random weights as we run it and as sam2 does."""
    torch.manual_seed(5)
    fast = build_grounding(config).image_encoder.trunk.eval()
    for parameter in fast.parameters():
        nn.init.normal_(parameter, std=0.2)
    plain = copy.deepcopy(fast)
    plain.__class__ = Hiera
    for block in plain.blocks:
        block.__class__ = MultiScaleBlock
    return fast, plain


@pytest.mark.parametrize("config", SHAPES, ids=["fixture-like", "pooled one after the other", "padded windows"])
def test_the_image_encoder_gives_sam2s_features(config: GroundingConfig) -> None:
    fast, plain = trunks(config)
    assert isinstance(fast, FastHiera)
    assert all(isinstance(block, FastBlock) for block in fast.blocks)
    pixels = torch.randn(2, 3, config.image_size, config.image_size)
    with torch.no_grad():
        for ours, theirs in zip(fast(pixels), plain(pixels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_image_encoder_gives_an_image_the_same_features_alone_and_among_others() -> None:
    fast, _ = trunks(SHAPES[0])
    pixels = torch.randn(5, 3, 256, 256)  # more strips of windows than go through a block together
    with torch.no_grad():
        together = fast(pixels)
        for index in range(5):
            for alone, among in zip(fast(pixels[index : index + 1]), together, strict=True):
                torch.testing.assert_close(alone[0], among[index], rtol=1e-4, atol=1e-4)


def vision_layers() -> tuple[nn.Module, nn.Module]:
    """Return one layer of random weights as we run it and as transformers does."""
    torch.manual_seed(7)
    tower = Network(DEFAKERONE_TINY, 1, 2).eval().vision_tower
    fast = next(module for module in tower.modules() if isinstance(module, FastVisionLayer))
    for parameter in fast.parameters():
        nn.init.normal_(parameter, std=0.2)
    plain: nn.Module = copy.deepcopy(fast)
    plain.__class__ = InternVLVisionLayer
    return fast, plain


def test_a_vision_layer_gives_transformers_answer_and_gradients() -> None:
    fast, plain = vision_layers()
    x = torch.randn(3, 17, DEFAKERONE_TINY.vision.hidden_size)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
    for layer in (fast, plain):
        layer(x).square().mean().backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_mask_decoders_attention_gives_sam2s_answer() -> None:
    torch.manual_seed(8)
    fast = DecoderAttention(embedding_dim=32, num_heads=8, downsample_rate=2).eval().to(torch.bfloat16)
    plain = copy.deepcopy(fast)
    plain.__class__ = Attention
    few, many = (torch.randn(2, count, 32, dtype=torch.bfloat16) for count in (9, 256))
    with torch.no_grad():
        torch.testing.assert_close(fast(few, many, many), plain(few, many, many), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(fast(many, few, few), plain(many, few, few), rtol=2e-2, atol=2e-2)


def test_gradients_are_sam2s_own() -> None:
    fast, plain = trunks(SHAPES[0])
    pixels = torch.randn(1, 3, 256, 256)
    for trunk in (fast, plain):
        trunk(pixels)[-1].square().mean().backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_position_table_follows_the_weights() -> None:
    fast, plain = trunks(SHAPES[0])
    pixels = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        before = fast(pixels)[0]
        for trunk in (fast, plain):
            trunk.pos_embed.add_(1.0)
        assert not torch.allclose(fast(pixels)[0], before)
        torch.testing.assert_close(fast(pixels)[0], plain(pixels)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_fused_layers_compute_what_separate_operations_do(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(6)
    layer = nn.Linear(24, 40, bias=bias).to(dtype)
    x, residual = torch.randn(3, 5, 24).to(dtype), torch.randn(3, 5, 40).to(dtype)
    fused = copy.deepcopy(layer)
    fused.__class__ = FusedLinear
    near = 2e-2 if dtype == torch.bfloat16 else 1e-5
    with torch.no_grad():
        torch.testing.assert_close(fused(x), layer(x), rtol=near, atol=near)
        torch.testing.assert_close(linear_gelu(layer, x), nn.functional.gelu(layer(x)), rtol=near, atol=near)
        torch.testing.assert_close(linear_add(layer, x, residual), residual + layer(x), rtol=near, atol=near)
        assert fused(x[:0]).shape == (0, 5, 40)


def test_fused_layers_give_gradients() -> None:
    layer = FusedLinear(4, 3)
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.weight.grad is not None
