"""How does stage 3 change the language model without touching its weights?

Low-rank adapters (arXiv 2106.09685) on the seven projections of every block: W x + alpha / r * B A x, with B zero at
the start. Paper: r = 128, alpha = 16; targets are our inference (design: 11.2). They are merged before anything is
saved.
"""

import math

import torch
from torch import Tensor, nn

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the layer's output, (..., out)."""
        addition = self.dropout(hidden) @ self.down.T @ self.up.T
        out: Tensor = self.base(hidden) + addition * self.scale
        return out

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain layer that computes the same."""
        self.base.weight.add_((self.up.float() @ self.down.float() * self.scale).to(self.base.weight.dtype))
        return self.base


def add_adapters(language_model: nn.Module, rank: int, alpha: float, dropout: float) -> list[nn.Parameter]:
    """Put an adapter on every target of the language model and return what they train."""
    added: list[nn.Parameter] = []
    for module in list(language_model.modules()):
        for name, child in list(module.named_children()):
            if name in TARGETS and isinstance(child, nn.Linear):
                adapter = LoraLinear(child, rank, alpha, dropout)
                setattr(module, name, adapter)
                added += [adapter.down, adapter.up]
    return added


def merge_adapters(language_model: nn.Module) -> None:
    """Fold every adapter into its layer."""
    for module in list(language_model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLinear):
                setattr(module, name, child.merged())
