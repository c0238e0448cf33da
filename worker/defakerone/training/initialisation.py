"""Where does a small forensic model start, when there is no pretraining to inherit?

Most filters that meet the pixels start as high-pass filters: a photograph's traces lie in its residual, and a random
filter mostly sees brightness. Filters are taken from a cosine basis and scaled on real pictures so that every channel
starts equally loud. The vision tower's patches are larger than a trace needs: there each filter starts within one cell
of the patch, and the first layer starts with how far its channels lie from zero: a residual's sign says nothing.
"""

import math

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn
from transformers.models.internvl.modeling_internvl import InternVLVisionLayer

from worker.defakerone.model import Network

CONSTANT_CHANNELS, CONSTANT = 2, 0.3
"""Channels that start constant: layer norm divides by a token's loudness, which only beside a constant stays known."""
CELL = 4
"""Side of a local filter: beside an edge, some cells of a patch are flat, and there noise and compression show."""
LOCAL = 0.9
"""Share of the vision tower's filters that are local."""
SPREAD = 0.3
"""What is left of the first layer's random weights between the rows that are set."""
LOUD = 2.0
"""Weight of a channel in its two rows: GELU is straight near zero and bends for what is loud."""
CYCLES = (1.0, 2.0)
"""Waves across the picture that tell the mask branch where a token lies: a copy differs from itself by place alone."""


def cosine_filters(side: int, count: int, generator: torch.Generator, highest_first: bool) -> Tensor:
    """Draw (count, 3, side, side) filters: mixtures of a few cosine planes, each along one colour axis."""
    planes, level = _planes(side)
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


def _planes(side: int) -> tuple[Tensor, Tensor]:
    """Give the cosine planes (side, side, side, side) of length 1 by their two frequencies, and the sums of those."""
    index = torch.arange(side)
    basis = torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / (2 * side))
    planes = torch.einsum("ia,jb->ijab", basis, basis)
    level = (index[:, None] + index[None]).float()
    return planes / planes.flatten(2).norm(dim=2)[..., None, None], level


def local_filters(side: int, limit: int) -> Tensor:
    """Give at most `limit` filters (n, 3, side, side) that see one cell each, the cells of one kernel in a row.

    Kernels: cosine planes of grey, highest frequencies first, and the highest of red against blue at the end.
    """
    cells = side // CELL
    planes, level = _planes(CELL)
    ranked = planes.flatten(0, 1)[level.flatten().argsort(descending=True, stable=True)[:-1]]  # without the constant
    count = max(1, min(limit // cells**2, len(ranked) + 1))
    grey = ranked[: count - 1, None] * 0.577
    colour = ranked[:1, None] * torch.tensor([0.7, 0.0, -0.7])[:, None, None]
    kernels = torch.cat([grey.expand(-1, 3, -1, -1), colour])
    filters = torch.zeros(count, cells, cells, 3, side, side)
    for row in range(cells):
        for column in range(cells):
            down, across = row * CELL, column * CELL
            filters[:, row, column, :, down : down + CELL, across : across + CELL] = kernels
    return filters.flatten(0, 2)[:limit]


@torch.no_grad()
def start_high_pass(
    convolution: nn.Conv2d, pictures: Tensor, share: float = 0.7, seed: int = 0, silent: int = 0
) -> None:
    """Start `share` of a convolution's filters as high-pass, the rest as broad ones, each with unit output.

    `pictures` is a normalised batch (n, 3, h, w); the last `silent` filters start at zero.
    """
    generator = torch.Generator().manual_seed(seed)
    side, total = convolution.kernel_size[0], convolution.out_channels - CONSTANT_CHANNELS - silent
    high = round(total * share)
    broad = cosine_filters(side, total - high, generator, highest_first=False)
    _set_filters(convolution, pictures, torch.cat([cosine_filters(side, high, generator, highest_first=True), broad]))


@torch.no_grad()
def start_local(convolution: nn.Conv2d, pictures: Tensor, seed: int = 0) -> int:
    """Start the filters of patches (stride = side) as local ones, the rest as broad ones; says how many are local."""
    side, total = convolution.kernel_size[0], convolution.out_channels - CONSTANT_CHANNELS
    local = local_filters(side, round(total * LOCAL))
    generator = torch.Generator().manual_seed(seed)
    broad = cosine_filters(side, total - len(local), generator, highest_first=False)
    _set_filters(convolution, pictures, torch.cat([local, broad]))
    return len(local)


@torch.no_grad()
def start_distances(layer: nn.Linear, first: int, count: int) -> None:
    """Start a layer before a GELU with two rows for each of `count` channels, one for either sign."""
    count = min(count, layer.out_features // 2)
    layer.weight.mul_(SPREAD)
    layer.weight[: 2 * count].zero_()
    channel = torch.arange(count)
    layer.weight[2 * channel, first + channel] = LOUD
    layer.weight[2 * channel + 1, first + channel] = -LOUD


def _set_filters(convolution: nn.Conv2d, pictures: Tensor, filters: Tensor) -> None:
    """Set filters behind the constant channels, as loud as each other on `pictures`."""
    chosen = slice(CONSTANT_CHANNELS, CONSTANT_CHANNELS + len(filters))
    convolution.weight.zero_()
    convolution.weight[chosen].copy_(filters)
    convolution.bias.zero_()  # type: ignore[union-attr]
    loudness = convolution(pictures).std((0, 2, 3)).clamp(min=1e-4)
    convolution.weight.div_(loudness[:, None, None, None])
    convolution.bias[:CONSTANT_CHANNELS] = CONSTANT  # type: ignore[index]


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
    patches, pixels = embeddings.patch_embeddings.projection, trunk.patch_embed.proj
    assert isinstance(patches, nn.Conv2d)  # noqa: S101 - by construction of both branches
    assert isinstance(pixels, nn.Conv2d)  # noqa: S101
    start_high_pass(pixels, pictures, silent=start_positions(trunk))
    local = start_local(patches, pictures)
    first = network.vision_tower.encoder.layer[0]
    assert isinstance(first, InternVLVisionLayer)  # noqa: S101 - by construction
    start_distances(first.mlp.fc1, CONSTANT_CHANNELS, local)
    last = network.seg_projection[-1]
    assert isinstance(last, nn.Linear)  # noqa: S101 - Linear, ReLU, Linear
    nn.init.zeros_(last.weight)  # the mask branch learns under a constant prompt first: joining starts from just that
    for layer in network.vision_tower.encoder.layer:
        for scale in (layer.lambda_1, layer.lambda_2):
            assert isinstance(scale, Tensor)  # noqa: S101 - transformers' layer scales
            scale.fill_(1.0)
