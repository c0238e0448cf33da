"""Checkpoints of other shapes than the fixture's give what the plain modules give, alone and in a batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.bench.straightforward import Straightforward
from tests.unit.defakerone.conftest import FIXTURE, PHOTOS, photo
from worker.defakerone import DeFakerOne
from worker.defakerone.config import DEFAKERONE_TINY, DeFakerOneConfig, GroundingConfig, VisionConfig

TINY = DEFAKERONE_TINY
SHAPES: dict[str, DeFakerOneConfig] = {
    "as many key heads as heads, no rope scaling, no thumbnail": replace(
        TINY,
        language=replace(TINY.language, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=3),
        use_thumbnail=False,
        max_tiles=12,
    ),
    "one key head, rope scaled, at least two tiles": replace(
        TINY,
        language=replace(
            TINY.language, num_attention_heads=4, num_key_value_heads=1, rope_type="linear", rope_factor=4
        ),
        min_tiles=2,
    ),
    "a vision tower without bias, odd widths, other eps": replace(
        TINY,
        vision=VisionConfig(
            hidden_size=36,
            num_hidden_layers=1,
            num_attention_heads=3,
            intermediate_size=50,
            patch_size=14,
            image_size=56,
            layer_norm_eps=1e-5,
            qkv_bias=False,
        ),
        language=replace(TINY.language, hidden_size=48, intermediate_size=70, rms_norm_eps=1e-6),
        max_tiles=1,
    ),
    "SAM2 with two heads, all levels fused, and video memory": replace(
        TINY,
        grounding=GroundingConfig(
            image_size=256,
            embed_dim=16,
            num_heads=2,
            stages=(2, 2, 3, 2),
            global_att_blocks=(5, 6),
            window_spec=(8, 4, 16, 8),
            window_pos_embed_bkg_spatial_size=(14, 14),
            d_model=64,
            fpn_top_down_levels=(0, 1, 2, 3),
            memory_attention_layers=1,
            memory_attention_ffn=32,
            memory_dim=16,
        ),
    ),
    "SAM2 whose maps do not divide into windows": replace(
        TINY, grounding=replace(TINY.grounding, image_size=384, window_spec=(8, 4, 16, 8), global_att_blocks=(2,))
    ),
}


def random_model(config: DeFakerOneConfig) -> DeFakerOne:
    """Draw weights large enough that every part matters."""
    model = DeFakerOne.from_config(config, FIXTURE / "checkpoint")
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_what_the_plain_modules_give(shape: str) -> None:
    model = random_model(SHAPES[shape])
    pictures = [photo(name) for name in PHOTOS] + [photo("portrait").resize((90, 700), Image.Resampling.BICUBIC)]
    straight = Straightforward(model, answer_tokens=1)
    for picture, detection in zip(pictures, model.detect(pictures), strict=True):
        answer = straight.detect(picture)
        assert detection.score == pytest.approx(answer.score, abs=1e-4)
        assert int((answer.mask.numpy() != detection.mask).sum()) <= 1e-3 * detection.mask.size


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_survives_its_checkpoint(shape: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[shape])
    model.save_pretrained(tmp_path / "saved", dtype=torch.float32, max_shard_bytes=200_000)
    again = DeFakerOne.from_pretrained(tmp_path / "saved")
    assert again.config == model.config
    before, after = (one.detect([photo("landscape")])[0] for one in (model, again))
    assert after.score == before.score
    assert (after.mask == before.mask).all()
