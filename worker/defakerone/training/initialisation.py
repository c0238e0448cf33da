"""Where does a small forensic model start, when there is no pretraining to inherit?

Most filters that meet the pixels start as high-pass filters: a photograph's traces lie in its residual, and a random
filter mostly sees brightness. Filters are drawn from a cosine basis and scaled on real pictures so that every channel
starts equally loud.
"""

import math

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn

from worker.defakerone.model import Network

CONSTANT_CHANNELS, CONSTANT = 2, 0.3
"""Channels that start constant: layer norm divides by a token's loudness, which only beside a constant stays known."""
CYCLES = (1.0, 2.0)
"""Waves across the picture that tell the mask branch where a token lies: a copy differs from itself by place alone."""


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
def start_high_pass(
    convolution: nn.Conv2d, pictures: Tensor, share: float = 0.7, seed: int = 0, silent: int = 0
) -> None:
    """Start `share` of a convolution's filters as high-pass, the rest as broad ones, each with unit output.

    `pictures` is a normalised batch (n, 3, h, w); the last `silent` filters start at zero.
    """
    generator = torch.Generator().manual_seed(seed)
    constant = CONSTANT_CHANNELS
    side, total = convolution.kernel_size[0], convolution.out_channels - constant - silent
    high = round(total * share)
    filters = [
        cosine_filters(side, high, generator, highest_first=True),
        cosine_filters(side, total - high, generator, highest_first=False),
    ]
    convolution.weight.zero_()
    convolution.weight[constant : constant + total].copy_(torch.cat(filters))
    convolution.bias.zero_()  # type: ignore[union-attr]
    loudness = convolution(pictures).std((0, 2, 3)).clamp(min=1e-4)
    convolution.weight.div_(loudness[:, None, None, None])
    convolution.bias[:constant] = CONSTANT  # type: ignore[index]


@torch.no_grad()
def start_positions(trunk: Hiera) -> int:
    """Start Hiera's positions as waves across the picture in its last channels; returns how many channels they take.

    Within a window, positions start as weak waves in every other channel, so that neighbours can find each other.
    """
    across, window = trunk.pos_embed, trunk.pos_embed_window
    waves = torch.cat([_waves(across.shape[-1], cycles) for cycles in CYCLES])
    if len(waves) > across.shape[1] // 2:
        return 0
    across[0, -len(waves) :] = waves
    mixture = torch.randn(across.shape[1] - len(waves), 4, generator=torch.Generator().manual_seed(1)) * 0.2
    window[0, : -len(waves)] = torch.einsum("cw,whv->chv", mixture, _waves(window.shape[-1], 1.0))
    return len(waves)


def _waves(side: int, cycles: float) -> Tensor:
    """Sine and cosine along each axis: (4, side, side)."""
    angle = 2 * math.pi * cycles * (torch.arange(side) + 0.5) / side
    rows = torch.stack([angle.sin(), angle.cos()])
    return torch.cat([rows[:, None, :].expand(2, side, side), rows[:, :, None].expand(2, side, side)])


@torch.no_grad()
def start_forensic(network: Network, pictures: Tensor) -> None:
    """Prepare a random network for training from scratch: both branches' first filters and full layer scales."""
    embeddings, trunk = network.vision_tower.embeddings, network.grounding.image_encoder.trunk
    silent = start_positions(trunk)
    for convolution, without in ((embeddings.patch_embeddings.projection, 0), (trunk.patch_embed.proj, silent)):
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101 - by construction of both branches
        start_high_pass(convolution, pictures, silent=without)
    last = network.seg_projection[-1]
    assert isinstance(last, nn.Linear)  # noqa: S101 - Linear, ReLU, Linear
    nn.init.zeros_(last.weight)  # the mask branch learns under a constant prompt first: joining starts from just that
    for layer in network.vision_tower.encoder.layer:
        for scale in (layer.lambda_1, layer.lambda_2):
            assert isinstance(scale, Tensor)  # noqa: S101 - transformers' layer scales
            scale.fill_(1.0)
