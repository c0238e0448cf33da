"""How does the language model normalise with fewer passes over memory?

transformers takes a root mean square in seven steps, in float32. On a GPU torch has one kernel for it, which rounds
once less. On a CPU, and where gradients are wanted, transformers' own code runs. The same parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class FastRMSNorm(LlamaRMSNorm):
    """RMS norm (arXiv 1910.07467) of the last dimension."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., dim) -> the same."""
        if hidden_states.device.type == "cpu" or torch.is_grad_enabled():
            out: Tensor = super().forward(hidden_states)
            return out
        return F.rms_norm(hidden_states, hidden_states.shape[-1:], self.weight, self.variance_epsilon)


def use_fast_norms(language_model: nn.Module) -> None:
    """Let every norm of a Llama model run as described above. Parameters stay where they are."""
    for module in language_model.modules():
        if type(module) is LlamaRMSNorm:
            module.__class__ = FastRMSNorm
