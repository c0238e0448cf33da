"""How good are the averaged weights on pictures and cameras that training never sees?

A quick look for early stopping and curves, at the decoder's own resolution. `assay evaluate` measures at full size
with intervals.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worker.defakerone.evaluation.localization import two_sample_auc
from worker.defakerone.training.batches import Batch
from worker.defakerone.training.objective import Objective, Result


class Scores:
    """Collects what validation reads from each batch."""

    def __init__(self) -> None:
        self.pixel_f1: dict[str, list[float]] = defaultdict(list)
        self.pixel_auc: list[float] = []
        self.fake: list[bool] = []
        self.domains: list[str] = []
        self.verdicts: list[float] = []
        self.peaks: list[float] = []

    def add(self, batch: Batch, result: Result) -> None:
        """Read one batch."""
        self.fake += batch.fake.bool().tolist()
        self.domains += [domain for domain, _ in batch.kinds]
        if result.verdicts is not None:
            self.verdicts += result.verdicts.float().tolist()
        if result.masks is not None and batch.targets is not None and batch.supervised is not None:
            chance = result.masks.low_res_logits.float().sigmoid()
            if len(chance) == len(batch.fake):
                self.peaks += chance.flatten(1).topk(20).values.mean(1).tolist()
                self._pixels(chance, batch.targets, batch.supervised, batch.kinds)

    def _pixels(self, chance: Tensor, targets: Tensor, supervised: Tensor, kinds: tuple[tuple[str, str], ...]) -> None:
        for row, (domain, _) in enumerate(kinds):
            truth = (targets[row] > 0.5).cpu().numpy().ravel()
            if not truth.any() or not supervised[row]:
                continue
            found = chance[row].cpu().numpy().ravel()
            hard = found > 0.5
            self.pixel_f1[domain].append(float(2 * (hard & truth).sum() / (hard.sum() + truth.sum())))
            self.pixel_auc.append(area(found, truth))

    def summary(self) -> dict[str, float]:
        """Mean scores; `score` is what early stopping follows: the mean of those that exist."""
        every = [value for values in self.pixel_f1.values() for value in values]
        found: dict[str, float] = {f"pixel_f1_{d}": float(np.mean(v)) for d, v in sorted(self.pixel_f1.items())}
        if every:
            found |= {"pixel_f1": float(np.mean(every)), "pixel_auc": float(np.nanmean(self.pixel_auc))}
        labels = np.array(self.fake)
        for name, values in (("image_auc", self.verdicts), ("image_auc_mask", self.peaks)):
            if len(values) == len(labels) and labels.any() and not labels.all():
                found[name] = area(np.array(values), labels)
        if len(self.verdicts) == len(labels):
            found |= self._by_domain(labels)
        followed = [found[name] for name in ("pixel_f1", "pixel_auc", "image_auc") if name in found]
        return found | {"score": float(np.mean(followed)) if followed else 0.0, "pictures": float(len(labels))}

    def _by_domain(self, labels: npt.NDArray[Any]) -> dict[str, float]:
        domains, scores = np.array(self.domains), np.array(self.verdicts)
        areas = {domain: area(scores[domains == domain], labels[domains == domain]) for domain in sorted(set(domains))}
        return {f"image_auc_{domain}": value for domain, value in areas.items() if not np.isnan(value)}


def area(scores: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """ROC-AUC; nan where one class is missing."""
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        return float("nan")
    values = scores.astype(np.float32)
    return two_sample_auc(values[truth], values[~truth])


@torch.no_grad()
def validate(objective: Objective, loader: Any, device: torch.device) -> dict[str, float]:
    """Score the objective's present weights on a loader."""
    scores = Scores()
    training = objective.training
    objective.eval()
    for batch in loader:
        moved = batch.to(device)
        scores.add(moved, objective(moved))
    objective.train(training)
    return scores.summary()
