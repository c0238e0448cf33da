"""How does torch.compile pay within seconds?

Compiling the whole network takes minutes. But its layers are copies of a few, and they do nearly all of the work: so
only the layers that come often are compiled, each kind once, for any number of rows. What is gained is between the
matrix products: norms, activations, rotations, scales and residuals in few passes over memory.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import MethodType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from worker.defakerone.hiera import FastBlock
from worker.defakerone.vision import FastVisionLayer

_OFTEN: Final = 3  # a layer of which there are fewer copies costs more to compile than it ever gains
_VARIANTS: Final = 64  # of one kind: Hiera's stages, each for one image and for several. torch gives up beyond eight

SomeModule = TypeVar("SomeModule", bound=nn.Module)


def compiled_twin(network: SomeModule, backend: str = "inductor") -> SomeModule:
    """Return the same network on the very same parameters, whose repeated layers run compiled."""
    torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)
    twin = _twin(network)
    layers = list(_layers(twin))
    copies = Counter(kind for _, kind in layers)
    for layer, kind in layers:
        if copies[kind] >= _OFTEN:
            own: Any = type(layer)
            layer.__dict__["forward"] = MethodType(_compiled(own, backend), layer)
    return twin


def _twin(module: SomeModule) -> SomeModule:
    """Copy the modules, not their parameters: what the original learns, the copy knows."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {name: child and _twin(child) for name, child in module._modules.items()}
    return twin


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, tuple[Any, ...]]]:
    """Yield every layer that can be compiled, and which of them are copies of it: those of the same answer."""
    for module in network.modules():
        if isinstance(module, FastBlock):
            yield module, (FastBlock, module.dim, module.dim_out, module.window_size)
        elif isinstance(module, FastVisionLayer | LlamaDecoderLayer):
            yield module, (type(module),)


@cache
def _compiled(kind: Any, backend: str) -> Callable[..., Any]:
    if not issubclass(kind, FastBlock):
        compiled: Callable[..., Any] = torch.compile(kind.forward, dynamic=True, backend=backend)
        return compiled
    # A block of Hiera cuts an image into windows: with sides that may vary, that takes many times as long to compile,
    # and divisions to run. Only how many images there are may vary.
    block: Callable[..., Any] = torch.compile(kind.forward, dynamic=False, backend=backend)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(x, 0)
        out: Tensor = block(self, x)
        return out

    return forward
