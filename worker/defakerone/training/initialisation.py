"""Where does a small forensic model start, when there is no pretraining to inherit?

Most filters that meet the pixels start as high-pass filters: a photograph's traces lie in its residual, and a random
filter mostly sees brightness. Filters are drawn from a cosine basis and scaled on real pictures so that every channel
starts equally loud.
"""

import math

import torch
from torch import Tensor, nn

from worker.defakerone.model import Network

CONSTANT_CHANNELS, CONSTANT = 2, 0.3
"""Channels that start constant: layer norm divides by a token's loudness, which only beside a constant stays known."""


def cosine_filters(side: int, count: int, generator: torch.Generator, highest_first: bool) -> Tensor:
    """Draw (count, 3, side, side) filters: mixtures of a few cosine planes, each along one colour axis."""
    index = torch.arange(side)
    basis = torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / (2 * side))
    planes = torch.einsum("ia,jb->ijab", basis, basis)
    planes = planes / planes.flatten(2).norm(dim=2)[..., None, None]
    level = (index[:, None] + index[None]).float()
    allowed = torch.nonzero(level >= side * 0.4 if highest_first else (level > 0) & (level < side * 0.5))
    filters = torch.zeros(count, 3, side, side)
    for number in range(count):
        picks = allowed[torch.randint(len(allowed), (4,), generator=generator)]
        mixture = torch.randn(4, generator=generator)
        plane = (planes[picks[:, 0], picks[:, 1]] * mixture[:, None, None]).sum(0)
        grey = torch.rand(1, generator=generator) < 0.6
        colour = torch.full((3,), 0.577) if grey else torch.randn(3, generator=generator)
        filters[number] = colour[:, None, None] * plane
    return filters


@torch.no_grad()
def start_high_pass(convolution: nn.Conv2d, pictures: Tensor, share: float = 0.7, seed: int = 0) -> None:
    """Start `share` of a convolution's filters as high-pass, the rest as broad ones, each with unit output.

    `pictures` is a normalised batch (n, 3, h, w).
    """
    generator = torch.Generator().manual_seed(seed)
    constant = CONSTANT_CHANNELS
    side, total = convolution.kernel_size[0], convolution.out_channels - constant
    high = round(total * share)
    filters = [
        cosine_filters(side, high, generator, highest_first=True),
        cosine_filters(side, total - high, generator, highest_first=False),
    ]
    convolution.weight[constant:].copy_(torch.cat(filters))
    convolution.weight[:constant].zero_()
    convolution.bias.zero_()  # type: ignore[union-attr]
    loudness = convolution(pictures).std((0, 2, 3)).clamp(min=1e-4)
    convolution.weight.div_(loudness[:, None, None, None])
    convolution.bias[:constant] = CONSTANT  # type: ignore[index]


@torch.no_grad()
def start_forensic(network: Network, pictures: Tensor) -> None:
    """Prepare a random network for training from scratch: both branches' first filters and full layer scales."""
    embeddings, trunk = network.vision_tower.embeddings, network.grounding.image_encoder.trunk
    for convolution in (embeddings.patch_embeddings.projection, trunk.patch_embed.proj):
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101 - by construction of both branches
        start_high_pass(convolution, pictures)
    last = network.seg_projection[-1]
    assert isinstance(last, nn.Linear)  # noqa: S101 - Linear, ReLU, Linear
    nn.init.zeros_(last.weight)  # the mask branch learns under a constant prompt first: joining starts from just that
    for layer in network.vision_tower.encoder.layer:
        for scale in (layer.lambda_1, layer.lambda_2):
            assert isinstance(scale, Tensor)  # noqa: S101 - transformers' layer scales
            scale.fill_(1.0)
