"""How does a pool child get its detector, on which device, with how many threads?

Imported in the child only, after it knows its GPU: this module imports torch, and whatever touches CUDA before the fork
breaks it in every child.
"""

from pathlib import Path

from PIL import Image

import worker.defakerone
from screening.settings import Settings
from worker.defakerone import DeFakerOne
from worker.defakerone.placement import choose_device, choose_dtype
from worker.defakerone.settings import InferenceSettings, MaskMode

BUNDLED = Path(worker.defakerone.__file__).parent / "weights"


def load(settings: Settings) -> DeFakerOne:
    """Load the checkpoint; raises what `DeFakerOne.from_pretrained` raises where there are no usable weights."""
    device = choose_device(settings.device)
    return DeFakerOne.from_pretrained(
        settings.weights or BUNDLED,
        device=device,
        dtype=choose_dtype("auto", device),
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
