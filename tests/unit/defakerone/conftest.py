"""The reference fixture, loaded once on ASSAY_TEST_DEVICE (else the CPU), and one thread for torch: others work too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from worker.defakerone import DeFakerOne

FIXTURE = Path(__file__).parents[2] / "fixtures" / "defakerone"
PHOTOS = ("landscape", "portrait")
DEVICE = os.environ.get("ASSAY_TEST_DEVICE", "cpu")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # the reference is float32; of matrix products torch says so by itself
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> DeFakerOne:
    return DeFakerOne.from_pretrained(FIXTURE / "checkpoint", device=DEVICE, dtype=torch.float32)


def photo(name: str) -> Image.Image:
    with Image.open(FIXTURE / f"{name}.png") as image:
        return image.convert("RGB")


def expected(name: str) -> dict[str, Any]:
    with np.load(FIXTURE / f"expected_{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
