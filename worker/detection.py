"""How does a pool child get its detector, on which device, with how many threads?

Imported in the child only, after it knows its GPU: this module imports torch, and whatever touches CUDA before the fork
breaks it in every child.
"""

from pathlib import Path

import structlog
import torch
from PIL import Image

import worker.defakerone
from screening.settings import Settings
from worker.defakerone import DeFakerOne
from worker.defakerone.settings import InferenceSettings, MaskMode

logger = structlog.get_logger(__name__)

BUNDLED = Path(worker.defakerone.__file__).parent / "weights"


def load(settings: Settings) -> DeFakerOne:
    """Load the checkpoint; raises what `DeFakerOne.from_pretrained` raises where there are no usable weights."""
    device = choose_device(settings.device)
    return DeFakerOne.from_pretrained(
        settings.weights or BUNDLED,
        device=device,
        dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        settings=InferenceSettings(mask_mode=MaskMode.parse(settings.mask_mode)),
    )


def warm(model: DeFakerOne) -> None:
    """Run it once, so that the first upload waits for nothing.

    On a GPU every shape costs something once; on a CPU the first image touches all there is to touch.
    """
    if model.device.type == "cuda":
        model.warm()
    else:
        model.detect([Image.new("RGB", (448, 448), "grey")])


def choose_device(name: str) -> torch.device:
    """The device behind `ASSAY_DEVICE`; `auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
