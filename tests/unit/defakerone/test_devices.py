"""A GPU says what the CPU says: the bundled checkpoint, in the type that each would be run in."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import worker.defakerone.compiling
from tests.unit.defakerone.conftest import DEVICE
from worker.commands.runtime import default_weights
from worker.defakerone import DeFakerOne
from worker.defakerone.compiling import compiled_twin
from worker.defakerone.hiera import FastBlock
from worker.defakerone.norms import FastRMSNorm

SAMPLES = Path(__file__).parents[3] / "screening" / "samples"


def pictures() -> list[Image.Image]:
    return [Image.open(SAMPLES / f"sample-{number}.jpg").convert("RGB") for number in range(1, 5)]


@pytest.mark.skipif(DEVICE == "cpu", reason="ASSAY_TEST_DEVICE names no other device")
def test_another_device_gives_nearly_the_same_in_bfloat16() -> None:
    plain = DeFakerOne.from_pretrained(default_weights())
    other = DeFakerOne.from_pretrained(default_weights(), DEVICE, torch.bfloat16)
    for a, b in zip(plain.detect(pictures()), other.detect(pictures()), strict=True):
        apart = float((a.mask != b.mask).mean())
        print(f"cpu float32 {a.score:.4f}, {DEVICE} bfloat16 {b.score:.4f}, mask pixels apart {apart:.5f}")
        assert b.score == pytest.approx(a.score, abs=0.03)
        assert apart < 0.02


@pytest.fixture
def _few_are_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(worker.defakerone.compiling, "_OFTEN", 1)  # the fixture is so small that nothing comes often
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_few_are_often")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's compiler, of torch itself
def test_a_compiled_layer_gives_the_same_for_any_number_of_images(model: DeFakerOne) -> None:
    twin = compiled_twin(model.network, backend="eager")
    ours, theirs = (next(m for m in network.modules() if isinstance(m, FastBlock)) for network in (model.network, twin))
    assert ours is not theirs
    assert "forward" in vars(theirs)
    assert "forward" not in vars(ours)
    assert all(a is b for a, b in zip(model.network.parameters(), twin.parameters(), strict=True))
    with torch.inference_mode():
        for images in (2, 3, 1):
            x = torch.randn(images, 64, 64, ours.dim, device=model.device)
            torch.testing.assert_close(theirs(x), ours(x), rtol=1e-4, atol=1e-4)


def test_a_norm_gives_transformers_answer(model: DeFakerOne) -> None:
    ours = model.network.language_model.norm
    assert isinstance(ours, FastRMSNorm)
    plain: nn.Module = copy.deepcopy(ours)
    plain.__class__ = LlamaRMSNorm
    x = torch.randn(3, 5, len(ours.weight), device=model.device) * 7
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), plain(x))


def test_passes_are_larger_on_a_gpu_unless_their_size_is_set(model: DeFakerOne) -> None:
    sizes = model.with_settings(vision_chunk=3).settings
    assert sizes.pass_sizes("cpu").vision_chunk == sizes.pass_sizes("cuda").vision_chunk == 3
    assert sizes.pass_sizes("cuda").grounding_chunk > sizes.pass_sizes("cpu").grounding_chunk
