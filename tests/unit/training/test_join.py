"""Two branches that learned apart become one checkpoint, also where one of them has another shape by now."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from worker.defakerone.config import DEFAKERONE_TINY
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.metadata import Metadata
from worker.defakerone.training.gpu import join
from worker.defakerone.training.objective import constant_prompt

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"


def test_a_joined_checkpoint_has_ones_verdicts_and_the_others_masks(tmp_path: Path) -> None:
    finer = replace(DEFAKERONE_TINY, vision=replace(DEFAKERONE_TINY.vision, patch_size=4), downsample_ratio=0.25)
    trained = Metadata(name="joined", training={"pictures": 7})
    DeFakerOne.from_config(DEFAKERONE_TINY, TOKENIZER, trained, seed=1).save_pretrained(tmp_path / "mask")
    DeFakerOne.from_config(finer, TOKENIZER, seed=2).save_pretrained(tmp_path / "language")
    join(tmp_path / "mask", tmp_path / "language", tmp_path / "out")
    mask, language, joined = (DeFakerOne.from_pretrained(tmp_path / name) for name in ("mask", "language", "out"))
    assert joined.config == language.config
    assert joined.metadata.training == {"pictures": 7}
    pixels = np.random.default_rng(5).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    prepared = joined.preprocess(Image.fromarray(pixels))
    torch.testing.assert_close(
        joined.infer([prepared])[0].word_logits, language.infer([prepared])[0].word_logits, atol=0, rtol=0
    )
    assert torch.equal(constant_prompt(joined.network), constant_prompt(mask.network))
    for one, two in zip(joined.network.grounding.parameters(), mask.network.grounding.parameters(), strict=True):
        assert torch.equal(one, two)
