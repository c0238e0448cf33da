"""How does a pool child get its detector, on which device, with how many threads?

Imported in the child only, after it knows its GPU: this module imports torch, and whatever touches CUDA before the fork
breaks it in every child.
"""

from pathlib import Path

import cv2
from PIL import Image

import worker.defakerone
from screening.settings import Settings
from worker.defakerone import DeFakerOne
from worker.defakerone.placement import choose_device, choose_dtype
from worker.defakerone.settings import InferenceSettings, MaskMode

BUNDLED = Path(worker.defakerone.__file__).parent / "weights"


def load(settings: Settings) -> DeFakerOne:
    """Load the checkpoint; raises what `DeFakerOne.from_pretrained` raises where there are no usable weights."""
    cv2.setNumThreads(1)  # images are finished side by side; its threads would wait for each other by spinning
    device = choose_device(settings.device)
    return DeFakerOne.from_pretrained(
        settings.weights or BUNDLED,
        device=device,
        dtype=choose_dtype(settings.dtype, device),
        settings=InferenceSettings(mask_mode=MaskMode.parse(settings.mask_mode), compile=settings.compile),
    )


def warm(model: DeFakerOne) -> None:
    """Run it once, so that the first upload waits for nothing.

    On a GPU every tile count costs something once. Code is compiled once for one image and once for several. On a CPU
    the first image touches all there is to touch.
    """
    if model.settings.compile:
        model.warm((1, 2))
    elif model.device.type == "cuda":
        model.warm()
    else:
        model.detect([Image.new("RGB", (448, 448), "grey")])
