"""On which device, in which type, does the detector run best where nobody says?"""

from __future__ import annotations

from typing import Final

import torch

AUTO: Final = "auto"


def choose_device(name: str = AUTO) -> torch.device:
    """Resolve `auto`: the first GPU where there is one. Touches CUDA: never call it before a Celery fork."""
    if name != AUTO:
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve `auto`: bfloat16 wherever the hardware multiplies it natively, else float32.

    A CPU without such instructions emulates bfloat16 and is slower with it; one that has them is nearly twice as fast
    (`assay bench detector`). Scores move by less than 0.01.
    """
    if name != AUTO:
        kind: torch.dtype = getattr(torch, name)
        return kind
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
