"""Every number of the reference implementation, single and in one padded batch, within the fixture's tolerances."""

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.unit.defakerone.conftest import PHOTOS, expected, photo
from worker.defakerone import DeFakerOne
from worker.defakerone.localization import upsample_logits
from worker.defakerone.model import ModelOutput
from worker.defakerone.preprocessing import Prepared

ANSWERS = ("A", "B")


def close(actual: torch.Tensor, reference: Any, tolerance: float) -> None:
    torch.testing.assert_close(
        actual.detach().cpu().double(), torch.as_tensor(np.asarray(reference)).double(), rtol=0, atol=tolerance
    )


@cache
def prepare(model: DeFakerOne, name: str) -> Prepared:
    return model.preprocess(photo(name))


def row(name: str, answer: str) -> list[int]:
    arrays = expected(name)
    return [*arrays["prompt_ids"].tolist(), *arrays[f"suffix_ids_{answer}"].tolist()]


def on_cpu(output: ModelOutput) -> ModelOutput:
    return ModelOutput(**{field.name: getattr(output, field.name).cpu() for field in fields(output)})


@cache
def single(model: DeFakerOne, name: str, answer: str) -> ModelOutput:
    prepared = prepare(model, name)
    return on_cpu(model.forward(prepared.pixel_values, torch.tensor([row(name, answer)]), prepared.sam_pixel_values))


@cache
def batched(model: DeFakerOne, answer: str) -> ModelOutput:
    rows = [row(name, answer) for name in PHOTOS]
    longest = max(map(len, rows))
    pad = model.config.language.pad_token_id
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in rows])
    prepared = [prepare(model, name) for name in PHOTOS]
    tiles, squares = (torch.cat([getattr(p, name) for p in prepared]) for name in ("pixel_values", "sam_pixel_values"))
    return on_cpu(model.forward(tiles, ids, squares))


def outputs(model: DeFakerOne, name: str, answer: str, batch: bool) -> dict[str, torch.Tensor]:
    """One photo's share of a pass: its tiles, its row, its [SEG]."""
    if not batch:
        result, index, first = single(model, name, answer), 0, 0
    else:
        result, index = batched(model, answer), PHOTOS.index(name)
        first = sum(len(prepare(model, other).tiles_u8) for other in PHOTOS[:index])
    tiles = len(prepare(model, name).tiles_u8)
    return {
        "vision_embeds": result.vision_embeds[first : first + tiles],
        "logits": result.logits[index],
        **{
            key: result[key][index]
            for key in (
                "seg_hidden", "seg_embed", "multimask_logits", "ious", "low_res_logits", "object_scores", "seg_rows"
            )
        },
    }  # fmt: skip


both = pytest.mark.parametrize("batch", [False, True], ids=["single", "padded batch"])
each_photo = pytest.mark.parametrize("name", PHOTOS)
each_answer = pytest.mark.parametrize("answer", ANSWERS)


@each_photo
def test_tiles_and_square_equal_the_reference_bit_for_bit(model: DeFakerOne, name: str) -> None:
    prepared, arrays = prepare(model, name), expected(name)
    np.testing.assert_array_equal(prepared.tiles_u8.numpy(), arrays["tiles_u8"])
    np.testing.assert_array_equal(prepared.sam_u8[0].numpy(), arrays["sam_input_u8"])
    close(prepared.pixel_values[:, :, :4, :4], arrays["pixel_values_head"], 1e-6)
    sums = prepared.pixel_values.double().sum(dim=(2, 3)).numpy()
    np.testing.assert_allclose(sums, arrays["pixel_values_sum"], rtol=1e-6)
    assert prepared.size == tuple(arrays["image_hw"])


@each_photo
@each_answer
def test_prompt_and_suffix_ids_equal_the_reference(model: DeFakerOne, name: str, answer: str) -> None:
    arrays = expected(name)
    tiles = len(prepare(model, name).tiles_u8)
    assert model.prompt.ids(tiles, suffix=False) == arrays["prompt_ids"].tolist()
    assert model.prompt.verdict_position(tiles) == len(arrays["prompt_ids"]) - 1
    assert model.word_ids == tuple(arrays["word_ids"])
    assert row(name, answer).index(model.prompt.seg_id) == arrays[f"seg_pos_{answer}"]
    text = {"A": "Yes, it is edited. [SEG]<|im_end|>", "B": "[SEG]"}[answer]
    assert model.tokenizer.encode(text) == arrays[f"suffix_ids_{answer}"].tolist()


@each_photo
def test_vision_tower_equals_the_reference(model: DeFakerOne, name: str) -> None:
    with torch.inference_mode():
        hidden = model.network.encode_vision(prepare(model, name).pixel_values[:1].to(model.device))
    close(hidden[0], expected(name)["vit_last_hidden_tile0"], 1e-4)


@both
@each_photo
@each_answer
def test_language_side_equals_the_reference(model: DeFakerOne, name: str, answer: str, batch: bool) -> None:
    result, arrays = outputs(model, name, answer, batch), expected(name)
    close(result["vision_embeds"], arrays["vision_embeds"], 1e-5)
    first = result["logits"][len(arrays["prompt_ids"]) - 1]
    close(first, arrays["first_logits"], 7e-4)
    words = first[list(model.word_ids)].double().softmax(0)
    close(words, arrays["word_probs"], 1e-4)
    close(words[:4].sum(), arrays["s_tamper"], 1e-4)
    close(result["seg_hidden"], arrays[f"seg_hidden_{answer}"], 2e-4)
    close(result["seg_embed"], arrays[f"seg_embed_{answer}"], 2e-4)


@both
@each_photo
@each_answer
def test_masks_equal_the_reference(model: DeFakerOne, name: str, answer: str, batch: bool) -> None:
    result, arrays = outputs(model, name, answer, batch), expected(name)
    close(result["multimask_logits"], arrays[f"multimask_logits_{answer}"], 3e-3)
    close(result["ious"], arrays[f"ious_{answer}"], 2e-4)
    close(result["object_scores"], arrays[f"object_score_{answer}"], 1e-3)
    assert int(result["ious"].argmax()) == arrays[f"best_index_{answer}"]
    close(result["low_res_logits"], arrays[f"low_res_logits_{answer}"], 3e-3)
    height, width = arrays["image_hw"].tolist()
    final = upsample_logits(result["low_res_logits"].numpy(), model.config.grounding.image_size, (height, width))
    if answer == "A":
        close(torch.from_numpy(final), arrays["final_logits_A"], 3e-3)
    reference = np.unpackbits(arrays[f"final_mask_bits_{answer}"])[: height * width].reshape(height, width)
    assert int((reference != (final > 0)).sum()) <= 30
    assert float((final > 0).mean()) == pytest.approx(float(arrays[f"mask_area_{answer}"]), abs=2e-4)


@each_photo
def test_sam_features_equal_the_reference(model: DeFakerOne, name: str) -> None:
    arrays = expected(name)
    with torch.inference_mode():
        features = model.network.grounding.encode(prepare(model, name).sam_pixel_values.to(model.device))
    close(features.s16[0], arrays["sam_embed_s16"], 5e-4)
    close(features.s4[0], arrays["sam_feat_s4"], 5e-4)
    close(features.s8[0], arrays["sam_feat_s8"], 5e-4)


@each_photo
def test_greedy_decoding_equals_the_reference(model: DeFakerOne, name: str) -> None:
    prepared, arrays = prepare(model, name), expected(name)
    ids = arrays["prompt_ids"].tolist()
    network = model.network
    with torch.inference_mode():
        embeds = network.embed_tiles(prepared.pixel_values.to(model.device))
        for wanted in arrays["greedy_ids"].tolist():
            hidden = network.run_language(torch.tensor([ids], device=model.device), embeds)
            ids.append(int(network.lm_head(hidden[0, -1]).argmax()))
            assert ids[-1] == wanted


@each_photo
def test_losses_equal_the_reference(model: DeFakerOne, name: str) -> None:
    arrays = expected(name)
    result = single(model, name, "A")
    start, suffix = len(arrays["prompt_ids"]), torch.from_numpy(arrays["suffix_ids_A"]).long()
    logits = result.logits[0, start - 1 : start - 1 + len(suffix)]
    close(F.cross_entropy(logits, suffix), arrays["loss_text"], 1e-3)
    height, width = arrays["image_hw"].tolist()
    truth = torch.from_numpy(np.unpackbits(arrays["gt_mask"])[: height * width].reshape(1, 1, height, width)).float()
    low = result.low_res_logits[0]
    target = F.interpolate(truth, size=low.shape, mode="nearest")[0, 0]
    close(F.binary_cross_entropy_with_logits(low, target), arrays["loss_bce"], 1e-3)
    p = low.sigmoid()
    dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    close(dice, arrays["loss_dice"], 1e-3)
