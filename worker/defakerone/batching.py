"""Which images share one pass of the language model?

Images of one tile count have rows of one length, so they share a pass without padding. Unlike ones join while the
padding stays a small share, since a pass that is nearly full costs less than two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """Images (by index) that share a pass, and the length that their rows are padded to."""

    indices: tuple[int, ...]
    length: int


def group_rows(lengths: Sequence[int], max_positions: int, padding_share: float) -> list[Group]:
    """Group rows of these lengths: longest first, at most `max_positions` padded positions a group.

    A row that alone exceeds the limit gets a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        if groups and _fits([lengths[other] for other in (*groups[-1], index)], max_positions, padding_share):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [Group(tuple(members), lengths[members[0]]) for members in groups]


def _fits(lengths: list[int], max_positions: int, padding_share: float) -> bool:
    padded = lengths[0] * len(lengths)
    return padded <= max_positions and padded - sum(lengths) <= padding_share * padded


def chunks(count: int, size: int) -> Iterator[slice]:
    """Cut `count` things into runs of `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
