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


def correspondence_loss(query_key: Tensor, heads: int, field: Tensor, count: int = 96) -> Tensor:
    """Teach one attention head to look from a copied place to its double.

    `query_key` (batch, h, w, 3 * dim) is a block's qkv projection. `field` (batch, h, w, 2) holds the x and y, in
    fractions of the picture, where each cell's content also lies; below 0 where it lies nowhere else, nan where nobody
    knows. The loss is the cross-entropy of head 0's attention, at up to `count` copied cells of each picture, against
    the cells around the double, weighted bilinearly. The cell itself competes: the head has to learn to pass over it.
    """
    batch, height, width, triple = query_key.shape
    split = query_key.reshape(batch, height * width, 3, heads, triple // 3 // heads).float()
    cells, goals = height * width, field.reshape(batch, height * width, 2)
    copied = goals[..., 0] >= 0  # nan compares false
    chosen = (torch.rand(batch, cells, device=field.device) + copied).topk(min(count, cells), dim=1).indices
    queries = split[:, :, 0, 0].gather(1, chosen[..., None].expand(-1, -1, split.shape[-1]))
    scores = torch.einsum("nqd,nkd->nqk", queries, split[:, :, 1, 0]) * queries.shape[-1] ** -0.5
    goal = goals.gather(1, chosen[..., None].expand(-1, -1, 2)).nan_to_num().clamp(0, 1)
    index, share = bilinear_cells(goal, height, width)
    cost = -(scores.log_softmax(-1).gather(2, index) * share).sum(-1)
    return weighted_mean(cost, copied.gather(1, chosen).float())


def bilinear_cells(places: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Find the four cells around places (..., 2), given in fractions: their flat indices and weights, (..., 4)."""
    x = (places[..., 0] * width - 0.5).clamp(0, width - 1)
    y = (places[..., 1] * height - 0.5).clamp(0, height - 1)
    left, top = x.floor().clamp(max=width - 2), y.floor().clamp(max=height - 2)
    right, low = x - left, y - top
    corner = (top * width + left).long()
    index = torch.stack([corner, corner + 1, corner + width, corner + width + 1], -1)
    share = torch.stack([(1 - right) * (1 - low), right * (1 - low), (1 - right) * low, right * low], -1)
    return index, share
