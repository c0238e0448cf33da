"""What helps the mask branch learn and is thrown away afterwards?

Dense heads on three feature levels, so that every stage of the encoder sees the pixels' labels directly, and a look
into two attention blocks, so that copies are learned as correspondences rather than guessed from their outcome.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worker.defakerone.grounding import GroundingFeatures, GroundingModel
from worker.defakerone.training.losses import correspondence_loss, mask_loss


class DenseHeads(nn.Module):
    """One linear read-out for each feature level."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths)

    def forward(self, levels: tuple[Tensor, ...], target: Tensor, weight: Tensor, positive_weight: float) -> Tensor:
        """Mean loss over the levels; the target (batch, h, w) is averaged down to each level's grid."""
        losses = []
        for head, level in zip(self.heads, levels, strict=True):
            logits = head(level.float())[:, 0]
            smaller = F.adaptive_avg_pool2d(target[:, None], logits.shape[-2:])[:, 0]
            losses.append(mask_loss(logits, smaller, weight, positive_weight))
        return torch.stack(losses).mean()


class AttentionWatch:
    """Keeps the qkv projections of the trunk's global blocks during one forward pass."""

    def __init__(self, grounding: GroundingModel) -> None:
        """Hook every global attention block."""
        trunk = grounding.image_encoder.trunk
        blocks = [trunk.blocks[index] for index in trunk.global_att_blocks]
        self.heads = [int(block.attn.num_heads) for block in blocks]
        self.seen: dict[int, Tensor] = {}
        self._hooks = [block.attn.qkv.register_forward_hook(self._keep(i)) for i, block in enumerate(blocks)]

    def _keep(self, index: int):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.seen[index] = output

        return hook

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def loss(self, field: Tensor) -> Tensor:
        """Mean correspondence loss over the blocks; `field` (n, h, w, 2) on the finest block's grid or a finer one."""
        terms = [
            correspondence_loss(seen, heads, coarser(field, seen.shape[1]))
            for heads, seen in zip(self.heads, map(self.seen.__getitem__, range(len(self.heads))), strict=True)
        ]
        self.seen.clear()
        return torch.stack(terms).mean()


def coarser(field: Tensor, side: int) -> Tensor:
    """Bring a field of doubles (n, h, w, 2) to a grid of `side`: known only where all cells beneath agree in kind."""
    factor = field.shape[1] // side
    if factor <= 1:
        return field
    blocks = field.unfold(1, factor, factor).unfold(2, factor, factor).flatten(4)  # (n, side, side, 2, cells)
    copied = (blocks >= 0).all(-1)
    alone = (blocks < 0).all(-1)
    return torch.where(copied | alone, blocks.mean(-1), torch.nan)


def feature_levels(features: GroundingFeatures) -> tuple[Tensor, ...]:
    """Order the three levels from fine to coarse."""
    return features.s4, features.s8, features.s16
