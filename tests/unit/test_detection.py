"""The detector of a pool child is loaded as the settings say."""

from pathlib import Path

import pytest
import torch

from screening.settings import Settings
from worker import detection

FIXTURE = Path(__file__).parents[1] / "fixtures" / "defakerone" / "checkpoint"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's compiler, of torch itself
def test_type_mask_mode_and_compilation_come_from_the_settings() -> None:
    settings = Settings(weights=FIXTURE, device="cpu", dtype="bfloat16", mask_mode="above=0.3", compile=True)
    model = detection.load(settings)
    assert model.dtype == torch.bfloat16
    assert model.settings.compile
    assert str(model.settings.mask_mode) == "above=0.3"


def test_compilation_is_off_unless_asked_for() -> None:
    assert not Settings().compile
