"""With which random weights does training from scratch begin?

transformers' modules initialise themselves, but leave learned positions at zero; SAM2's leave theirs at zero too and
give everything else torch's defaults. From scratch, positions that start equal are slow to part.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from worker.defakerone.model import Network

_STD: Final = 0.02


@torch.no_grad()
def initialise(network: Network) -> None:
    """Draw positions, heads and projections of a freshly built network from the current random state."""
    embeddings = network.vision_tower.embeddings
    trunk = network.grounding.image_encoder.trunk
    for positions in (embeddings.cls_token, embeddings.position_embeddings, trunk.pos_embed, trunk.pos_embed_window):
        _draw(positions)
    _draw(network.lm_head.weight)
    for part in (network.connector, network.seg_projection):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                _draw(module.weight)
                nn.init.zeros_(module.bias)


def _draw(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=_STD)
