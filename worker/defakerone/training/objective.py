"""What does one batch cost under one stage? Network, auxiliary heads and loss weights, as one module.

The auxiliary heads live here and not in the network: they leave with the training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worker.defakerone.grounding import GroundingFeatures, Masks
from worker.defakerone.model import Network, pixel_shuffle
from worker.defakerone.preprocessing import normalise
from worker.defakerone.training.auxiliary import AttentionWatch, DenseHeads, feature_levels
from worker.defakerone.training.batches import Batch
from worker.defakerone.training.forgery.traces import TRACES
from worker.defakerone.training.losses import IGNORED, multimask_loss
from worker.defakerone.training.settings import Stage

OBJECT, DENSE, TRACE = 0.3, 0.5, 3.0
"""Weights of the auxiliary terms among themselves; `lambda_auxiliary` scales them all."""


@dataclass(frozen=True)
class Result:
    """What one pass gives: the weighted sum to minimise, its terms, and what validation reads."""

    loss: Tensor
    terms: dict[str, Tensor]
    masks: Masks | None = None
    verdicts: Tensor | None = None  # (n,) S_tamper


class Objective(nn.Module):
    """The loss of one stage."""

    def __init__(self, network: Network, stage: Stage, word_ids: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.stage = network, stage
        width = network.config.grounding.d_model
        levels = (width // 8, width // 4, width)
        self.dense = DenseHeads(levels)
        self.trace = nn.ModuleList(nn.Conv2d(level, len(TRACES), 1) for level in levels)
        self.patch = nn.Linear(network.config.vision.hidden_size, 1 + len(TRACES))
        self.cell = nn.Linear(network.config.language.hidden_size, 1)
        self.words = word_ids
        self.watch = AttentionWatch(network.grounding) if stage.branch == "mask" else None

    def forward(self, batch: Batch) -> Result:
        """Compute the stage's loss on one batch."""
        terms: dict[str, Tensor] = {}
        masks = verdicts = None
        prompt: Tensor | None = None
        if batch.ids is not None:
            verdicts, prompt = self._language(batch, terms)
        if batch.squares is not None:
            masks = self._masks(batch, prompt, terms)
        weights = {"text": self.stage.lambda_text, "mask": self.stage.lambda_seg}
        total = sum(
            (weights.get(name, self.stage.lambda_auxiliary) * term for name, term in terms.items()),
            torch.zeros((), device=batch.fake.device),
        )
        return Result(total, {name: term.detach() for name, term in terms.items()}, masks, verdicts)

    def _language(self, batch: Batch, terms: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        assert batch.tiles is not None  # noqa: S101 - the stage's batches hold it
        assert batch.ids is not None  # noqa: S101
        assert batch.labels is not None  # noqa: S101 - the stage's batches hold it
        assert batch.verdicts is not None  # noqa: S101
        network, ids = self.network, batch.ids
        patches = network.encode_vision(normalise(batch.tiles))[:, 1:]
        hidden = network.run_language(ids, network.connector(pixel_shuffle(patches, network.config.fold)))
        kept = batch.labels[:, 1:] != IGNORED
        logits = network.lm_head(hidden[:, :-1][kept]).float()
        terms["text"] = F.cross_entropy(logits, batch.labels[:, 1:][kept])
        first = hidden[torch.arange(len(ids), device=ids.device), batch.verdicts].float()
        words = network.lm_head.weight[list(self.words)].float()
        verdict = (first @ words.T).softmax(-1)[:, :4].sum(-1)
        if self.stage.lambda_auxiliary:
            self._patch_terms(batch, patches, hidden, verdict, terms)
        seg = ids == network.seg_id
        prompt = network.seg_projection(hidden[seg]) if self.stage.branch == "joint" and bool(seg.any()) else None
        return verdict.detach(), prompt

    def _patch_terms(
        self, batch: Batch, patches: Tensor, hidden: Tensor, verdict: Tensor, terms: dict[str, Tensor]
    ) -> None:
        assert batch.patches is not None  # noqa: S101 - the stage's batches hold it
        assert batch.ids is not None  # noqa: S101
        read = self.patch(patches.float())
        terms["patch"] = _balanced(read[..., 0].flatten(), batch.patches.flatten())
        if batch.traces is not None:  # one tile a row, so rows and tiles agree
            target = batch.traces.flatten(2).transpose(1, 2)
            terms["trace"] = 5 * TRACE * F.mse_loss(read[..., 1:], target)
        coarse = F.avg_pool2d(batch.patches[:, None], self.network.config.fold)[:, 0]
        at_image = batch.ids == self.network.image_id
        terms["cell"] = DENSE * _balanced(self.cell(hidden[at_image].float()).flatten(), coarse.flatten())
        terms["verdict"] = F.binary_cross_entropy(verdict.clamp(1e-6, 1 - 1e-6), batch.fake)

    def _masks(self, batch: Batch, prompt: Tensor | None, terms: dict[str, Tensor]) -> Masks:
        assert batch.squares is not None  # noqa: S101 - the stage's batches hold it
        assert batch.targets is not None  # noqa: S101
        assert batch.supervised is not None  # noqa: S101
        grounding, side = self.network.grounding, batch.squares.shape[1]
        grounding.sam_prompt_encoder.image_embedding_size = (side // 16, side // 16)
        features: GroundingFeatures = grounding.encode(normalise(batch.squares))
        shown, fake, target, weight = features, batch.fake, batch.targets, batch.supervised
        if prompt is None:
            prompt = constant_prompt(self.network).expand(len(batch.squares), -1)
        elif self.stage.marker == "answer":  # only positive answers hold a [SEG]
            rows = torch.nonzero(batch.fake > 0)[:, 0]
            shown, fake, target, weight = features.rows(rows), fake[rows], target[rows], weight[rows]
        masks: Masks = grounding.decode(shown, prompt)
        ious = masks.ious.float()
        terms["mask"] = multimask_loss(masks.multimask_logits.float(), ious, target, weight, self.stage.positive_weight)
        if self.stage.lambda_auxiliary:
            self._square_terms(batch, features, terms)
            if batch.traces is None:
                scores = masks.object_scores.float()[:, 0]
                terms["object"] = OBJECT * F.binary_cross_entropy_with_logits(scores, fake)
        if self.watch is not None:
            self.watch.seen.clear()
        # Across several devices, only what the loss depends on may hang on the graph that leaves this module.
        return Masks(masks.multimask_logits.detach(), masks.ious.detach(), masks.object_scores.detach())

    def _square_terms(self, batch: Batch, features: GroundingFeatures, terms: dict[str, Tensor]) -> None:
        assert batch.targets is not None  # noqa: S101 - the stage's batches hold it
        assert batch.supervised is not None  # noqa: S101
        levels = feature_levels(features)
        terms["dense"] = DENSE * self.dense(levels, batch.targets, batch.supervised, self.stage.positive_weight)
        watched = self.watch is not None and self.watch.seen and batch.traces is None  # inference passes by the watch
        if watched and self.watch is not None and batch.doubles is not None and self.stage.correspondence:
            terms["correspondence"] = self.stage.correspondence * self.watch.loss(batch.doubles)
        if batch.traces is not None:
            reads = [head(level.float()) for head, level in zip(self.trace, levels, strict=True)]
            errors = [F.mse_loss(read, _pooled(batch.traces, read)) for read in reads]
            terms["trace"] = 5 * torch.stack(errors).sum()


def _pooled(maps: Tensor, like: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, (like.shape[-2], like.shape[-1]))


def constant_prompt(network: Network) -> Tensor:
    """Give the prompt (d,) of the mask branch alone: what [SEG] projects to before it depends on anything."""
    last = network.seg_projection[-1]
    assert isinstance(last, nn.Linear)  # noqa: S101 - Linear, ReLU, Linear
    return last.bias


def _balanced(logits: Tensor, share: Tensor) -> Tensor:
    weight = 1 + 3 * (share > 0.3).float()
    return (F.binary_cross_entropy_with_logits(logits.float(), share, reduction="none") * weight).mean()
