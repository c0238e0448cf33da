"""How does a layer of the vision tower run with fewer passes over memory?

transformers' InternVL layer applies activation, layer scale and residual in passes of their own. Here the activation
belongs to the matrix product, and scale and residual are one pass. The same parameters, the same sums. Where gradients
are wanted, transformers' own code runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.internvl.modeling_internvl import InternVLVisionLayer

from worker.defakerone.linear import linear, linear_gelu


class FastVisionLayer(InternVLVisionLayer):  # type: ignore[no-untyped-call]
    """A layer of InternViT: attention, then the two-layer network, each scaled and added to what came in."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(tiles, tokens, dim) -> the same."""
        if torch.is_grad_enabled():
            out: Tensor = super().forward(hidden_states)
            return out
        attended, _ = self.attention(self.layernorm_before(hidden_states))
        x = torch.addcmul(hidden_states, attended, self.lambda_1)
        widened = linear_gelu(self.mlp.fc1, self.layernorm_after(x))
        return torch.addcmul(x, linear(self.mlp.fc2, widened), self.lambda_2)


def use_fast_layers(tower: nn.Module) -> None:
    """Let every layer of an InternVL vision tower run as described above. Parameters stay where they are."""
    for module in tower.modules():
        if type(module) is InternVLVisionLayer:
            module.__class__ = FastVisionLayer
