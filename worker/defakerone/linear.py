"""How is `x @ W + b` computed fastest where the model runs?

On a CPU through oneDNN, with the bias, the activation or the residual inside the same kernel. By itself torch takes
oneDNN for bfloat16 only, and then in separate passes over memory; in float32 it takes MKL, which uses half of an AMD
processor's vector width (a 2048-wide product: 100 against 225 GFLOP/s on a core of an EPYC 9005). Elsewhere, and where
gradients are wanted: torch's own operations. Sums are the same but for their order.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DTYPES: Final = (torch.float32, torch.bfloat16)
_HAS_ONEDNN: Final = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return x @ W + b: (..., in) -> (..., out)."""
    if not _fuses(x):
        return F.linear(x, layer.weight, layer.bias)
    return _pointwise(x, layer, "none")


def linear_gelu(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return gelu(x @ W + b), the exact one (erf)."""
    if not _fuses(x):
        return F.gelu(F.linear(x, layer.weight, layer.bias))
    return _pointwise(x, layer, "gelu")


def linear_add(layer: nn.Linear, x: Tensor, residual: Tensor) -> Tensor:
    """Return residual + x @ W + b."""
    if not _fuses(x):
        return residual + F.linear(x, layer.weight, layer.bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, layer.weight, layer.bias, "add")
    return out


def _pointwise(x: Tensor, layer: nn.Linear, then: str) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, then, [], "none")
    return out


def _fuses(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype in _DTYPES
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # it fuses by itself
        and _HAS_ONEDNN
        and x.numel() > 0
    )


class FusedLinear(nn.Linear):
    """A linear layer that computes through `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(self, input)


def use_fused_linear(network: nn.Module) -> None:
    """Let every plain linear layer compute through `linear`. Parameters stay where they are."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = FusedLinear
