"""Which parameters move in a stage, how fast, and in which precision?

Weights are computed with in bfloat16 and kept in float32 beside it: in bfloat16 alone, small updates would be rounded
away. The validated and saved weights are an exponential average of the float32 ones.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worker.defakerone.model import Network
from worker.defakerone.training.lora import add_adapters
from worker.defakerone.training.objective import Objective
from worker.defakerone.training.settings import Stage


def part_modules(network: Network) -> dict[str, nn.Module]:
    """Name the trainable parts."""
    return {
        "vision": network.vision_tower,
        "connector": network.connector,
        "language": network.language_model,
        "head": network.lm_head,
        "projection": network.seg_projection,
        "grounding": network.grounding,
    }


def _free(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.requires_grad = True


def choose_parameters(objective: Objective, stage: Stage) -> dict[str, Tensor]:
    """Freeze everything, then free the stage's parts (or put adapters on the language model); returns what moves."""
    network = objective.network
    network.requires_grad_(requires_grad=False)
    for name, module in part_modules(network).items():
        if name == "language" and stage.lora_rank:
            adapters = add_adapters(module, stage.lora_rank, stage.lora_alpha, stage.lora_dropout)
            _free(adapters)
        elif name in stage.parts:
            _free(module.parameters())
    return {name: p for name, p in objective.named_parameters() if p.requires_grad}


def rate_at(stage: Stage, step: int, elapsed: float = 0.0) -> float:
    """Share of the peak rate before update `step` (0-based): linear warm-up, then cosine to 2 %.

    `elapsed` is the share of the stage's minutes that has passed, for stages that warm up and end by the clock.
    """
    warm = max(1, round(stage.warmup * stage.steps))
    risen = max((step + 1) / warm, elapsed / stage.warmup if stage.warmup else 1.0)
    if risen < 1:
        return risen
    progress = max(elapsed, (step - warm) / max(1, stage.steps - warm), 0.0)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class MasterWeights:
    """Float32 copies of what moves, their optimiser and their average."""

    def __init__(self, live: dict[str, Tensor], stage: Stage, precision: torch.dtype, decay: float) -> None:
        """Cast `live` to `precision` and keep float32 copies; `decay` is the average's."""
        self.live, self.stage, self.decay = live, stage, decay
        self.masters = {n: p.detach().clone().float() for n, p in live.items()}
        _free(self.masters.values())
        self.average = {name: master.detach().clone() for name, master in self.masters.items()}
        for name, parameter in live.items():
            if name.startswith("network."):
                parameter.data = parameter.data.to(precision)
        self.optimizers = list(self._optimizers())
        self.steps = 0

    def _optimizers(self) -> Iterator[torch.optim.Optimizer]:
        # In the model's own order: a resumed run, another process, finds each momentum by its place in this list.
        turned = {
            name: m for name, m in self.masters.items() if self.stage.optimizer == "muon" and is_hidden_matrix(name, m)
        }
        plain = {name: master for name, master in self.masters.items() if name not in turned}
        yield torch.optim.AdamW(self._groups(plain), betas=self.stage.betas)
        if turned:
            # Steps are scaled to AdamW's usual length, so that one rate serves both.
            yield torch.optim.Muon(self._groups(turned), momentum=0.95, adjust_lr_fn="match_rms_adamw")

    def _groups(self, masters: dict[str, Tensor]) -> list[dict[str, Any]]:
        groups = []
        for language in (False, True):
            for decayed in (False, True):
                chosen = [
                    master
                    for name, master in masters.items()
                    if name.startswith("network.language_model") == language and (master.ndim > 1) == decayed
                ]
                peak = self.stage.language_rate if language and self.stage.language_rate else self.stage.rate
                decay = self.stage.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "lr": peak, "peak": peak})
        return [group for group in groups if group["params"]]

    def step(self, elapsed: float = 0.0) -> float:
        """Move by the live gradients and say how long they were; a step with infinite ones is skipped."""
        for name, parameter in self.live.items():
            self.masters[name].grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        length = float(nn.utils.clip_grad_norm_(self.masters.values(), self.stage.clip))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate_at(self.stage, self.steps, elapsed)
            if math.isfinite(length):
                optimizer.step()
        self.steps += 1
        self._average()
        self.publish(self.masters)
        return length

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.average.values()), list(self.masters.values()), 1 - decay)

    @torch.no_grad()
    def publish(self, values: dict[str, Tensor]) -> None:
        """Put values into the live parameters."""
        torch._foreach_copy_(list(self.live.values()), [values[name] for name in self.live])

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "masters": {name: master.detach() for name, master in self.masters.items()},
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        for name, master in self.masters.items():
            master.copy_(state["masters"][name])
            self.average[name].copy_(state["average"][name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.steps = state["steps"]
        self.publish(self.masters)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix between hidden states, which Muon (Jordan et al. 2024) turns as a whole.

    Embeddings, first filters and read-outs are not: their rows stand for things of their own.
    """
    if not name.startswith("network.") or parameter.ndim != 2 or min(parameter.shape) < 16:
        return False
    return any(part in name for part in (".blocks.", ".layers.", ".layer.", "connector."))


def count(parameters: Iterable[Tensor]) -> int:
    """Number of values."""
    return sum(parameter.numel() for parameter in parameters)
