"""Where does a mask end? At 0.5, so that is where masks have to be best.

A mask branch that is unsure stays below 0.5 nearly everywhere: few pixels are manipulated, and cross-entropy is
right to say so. Overlap with the truth (F1) asks for another point to cut at. The shift that makes 0.5 that point is
fitted to held-back forgeries and folded into the decoder's own weights: nothing else has to know of it.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from worker.defakerone.detector import DeFakerOne
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.synthesis import Sample
from worker.defakerone.training.views import squeeze

Floats = npt.NDArray[Any]
SHIFTS: Final = np.arange(-3.0, 8.01, 0.25)
NEARLY: Final = 0.97
SHOWN: Final = 12  # pictures that show which values the decoder's features take


def balance_masks(model: DeFakerOne, samples: Iterable[Sample]) -> dict[str, float]:
    """Shift mask logits so that mean F1 at 0.5 is nearly the best on the forged samples; says what that gained.

    Pictures that were made as a whole do not count: the more is marked the better for them, whatever it is.
    """
    chosen = [sample for sample in samples if sample.masked and sample.mask.any() and not sample.mask.all()]
    first = _shift_once(model, chosen)
    second = _shift_once(model, chosen)  # through weights a shift is nearly the one meant: what it lacked comes now
    return {**second, "pixel_f1_before": first["pixel_f1_before"], "shift": first["shift"] + second["shift"]}


def _shift_once(model: DeFakerOne, chosen: list[Sample]) -> dict[str, float]:
    pairs = [(logits, truth) for logits, truth in (_judge(model, sample) for sample in chosen) if truth.any()]
    if not pairs:
        raise ValueError("no forged sample with a mask: there is nothing to balance masks on")
    curve = np.array([np.mean([overlap(logits + shift > 0, truth) for logits, truth in pairs]) for shift in SHIFTS])
    shift = least_marking(curve)
    shift_logits(model, shift, [sample.pixels for sample in chosen[:SHOWN]])
    before, after = (float(curve[place == SHIFTS][0]) for place in (0.0, shift))
    return {"pictures": float(len(pairs)), "shift": shift, "pixel_f1_before": before, "pixel_f1": after}


def least_marking(curve: Floats) -> float:
    """Return the smallest of the SHIFTS whose F1 in `curve` is nearly the best: the curve is flat around its top.

    What it marks less of are pixels that nobody touched, in authentic pictures too.
    """
    return float(SHIFTS[curve >= NEARLY * curve.max()].min())


def overlap(found: Floats, truth: Floats) -> float:
    """F1 of two boolean maps; the truth must not be empty."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def _judge(model: DeFakerOne, sample: Sample) -> tuple[Floats, Floats]:
    """Mask logits of one sample and its truth, both at the decoder's resolution."""
    (inference,) = model.infer([model.preprocess(Image.fromarray(sample.pixels))])
    assert inference.low_res_logits is not None  # noqa: S101 - the default settings localize every image
    _, truth = squeeze(sample.pixels, sample.mask, inference.low_res_logits.shape[0])
    return inference.low_res_logits, np.asarray(truth > 127)


@torch.no_grad()
def shift_logits(model: DeFakerOne, shift: float, pictures: list[Pixels]) -> None:
    """Add `shift` to every mask logit, by way of the weights; `pictures` show which values features take.

    A mask is the product of the decoder's upscaled features with a vector that a small network makes for each mask
    token. A constant cannot be added there, but least squares finds the vector whose product with the features is
    closest to 1 everywhere; `shift` times that vector joins the bias of the small network's last layer.
    """
    decoder = model.network.grounding.sam_mask_decoder
    one = _vector_of_one(model, pictures)
    for network in decoder.output_hypernetworks_mlps:
        bias = network.layers[-1].bias
        assert isinstance(bias, Tensor)  # noqa: S101 - by construction
        bias.copy_((bias.float() + shift * one.to(bias.device)).to(bias.dtype))


def _vector_of_one(model: DeFakerOne, pictures: list[Pixels]) -> Tensor:
    """Solve for the vector (channels,) whose product with the decoder's upscaled features is closest to 1."""
    seen: list[Tensor] = []
    last = model.network.grounding.sam_mask_decoder.output_upscaling[-1]
    hook = last.register_forward_hook(lambda _, __, output: seen.append(output.float()))
    model.infer([model.preprocess(Image.fromarray(pixels)) for pixels in pictures])
    hook.remove()
    features = torch.cat([maps.flatten(2).transpose(1, 2).flatten(0, 1) for maps in seen])
    found: Tensor = torch.linalg.lstsq(features, features.new_ones(len(features), 1)).solution[:, 0]
    return found
