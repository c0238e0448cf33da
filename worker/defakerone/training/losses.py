"""What does training minimise?

The paper's objective is lambda_txt CE + lambda_seg (BCE + Dice) (section 3). The other terms exist during training
only: they teach a small model from scratch what the paper's model inherits from pretraining.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""Label of a token that is not part of the answer."""


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the answer: logits (batch, length, vocabulary) predict labels (batch, length) one ahead."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum pt + 1) / (sum p + sum t + 1) for each map: (..., h, w) to (...)."""
    chance = logits.float().sigmoid()
    overlap = (chance * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (chance.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def bce_loss(logits: Tensor, target: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Mean binary cross-entropy of each map: (..., h, w) to (...); the loss fixture holds it at weight 1."""
    weight = torch.tensor(positive_weight, device=logits.device)
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none", pos_weight=weight)
    return loss.mean((-2, -1))


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of values under weights, 0 where no weight is left: samples without a mask contribute nothing."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor, positive_weight: float = 1.0) -> Tensor:
    """BCE + Dice over maps (batch, h, w); Dice counts only where something is marked."""
    marked = (target.flatten(1).sum(1) > 0.5).float()
    bce = weighted_mean(bce_loss(logits, target, positive_weight), weight)
    return bce + weighted_mean(dice_loss(logits, target), weight * marked)


def multimask_loss(multimasks: Tensor, ious: Tensor, target: Tensor, weight: Tensor, positive_weight: float) -> Tensor:
    """Teach all three multimasks (batch, 3, h, w), the best one twice, and the predicted IoUs (batch, 3)."""
    count = multimasks.shape[1]
    spread = target[:, None].expand(-1, count, -1, -1)
    marked = (target.flatten(1).sum(1) > 0.5).float()[:, None]
    each = bce_loss(multimasks, spread, positive_weight) + dice_loss(multimasks, spread) * marked
    best = F.one_hot(each.detach().argmin(1), count).float()
    masks = weighted_mean((each * (1 / count + best) / 2).sum(1), weight)
    with torch.no_grad():
        hard = (multimasks > 0).float()
        union = torch.maximum(hard, spread).sum((-2, -1))
        truth = torch.minimum(hard, spread).sum((-2, -1)) / union.clamp(min=1)
    iou = weighted_mean((ious.float() - truth).abs().mean(1), weight)
    return masks + 0.1 * iou


def correspondence_loss(query_key: Tensor, heads: int, pairs: Tensor) -> Tensor:
    """Teach one attention head to look from a copied place to where it came from.

    `query_key` (batch, h, w, 3 * dim) is a block's qkv projection; `pairs` (n, 5) holds batch index and two places
    (x, y, x', y') in token coordinates. The loss is the cross-entropy of head 0's attention at the first place against
    the token at the second.
    """
    batch, height, width, triple = query_key.shape
    split = query_key.reshape(batch, height * width, 3, heads, triple // 3 // heads).float()
    which = pairs[:, 0].long()
    start = pairs[:, 2].long().clamp(0, height - 1) * width + pairs[:, 1].long().clamp(0, width - 1)
    goal = pairs[:, 4].long().clamp(0, height - 1) * width + pairs[:, 3].long().clamp(0, width - 1)
    queries, keys = split[which, start, 0, 0], split[:, :, 1, 0]
    scores = torch.einsum("nd,nkd->nk", queries, keys[which]) * queries.shape[-1] ** -0.5
    return F.cross_entropy(scores, goal)
