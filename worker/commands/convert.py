"""`assay convert`: assembles checkpoints from published parts, and rewrites them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.commands.runtime import DTYPES

if TYPE_CHECKING:
    from worker.defakerone.config import GroundingConfig

_FOLDER = click.Path(path_type=Path, file_okay=False)
_STORED = click.option(
    "--dtype", default="bfloat16", show_default=True, type=click.Choice(DTYPES[1:]), help="Type of the stored tensors."
)
_SHARD = click.option("--max-shard-mb", type=click.FloatRange(min=0.001), help="Cut the weights into such files.")


@click.group()
def convert() -> None:
    """Assemble or rewrite checkpoints."""


@convert.command()
@click.argument("internvl2", type=_FOLDER)
@click.argument("sam2", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("out", type=_FOLDER)
@click.option(
    "--grounding-config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON with SAM2's dimensions, or a config.json with `grounding_encoder_config`; released sizes need none.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the new [SEG] projection.")
@_STORED
@_SHARD
def assemble(
    internvl2: Path,
    sam2: Path,
    out: Path,
    grounding_config: Path | None,
    seed: int,
    dtype: str,
    max_shard_mb: float | None,
) -> None:
    """Make a checkpoint OUT from an InternVL2 folder and a SAM2 release file.

    Five tokens are added to the vocabulary, and the projection from [SEG] to SAM2 starts at random: detection works,
    localization has to be trained.
    """
    import torch

    from worker.defakerone.assemble import assemble as run

    with _refusals():
        run(
            internvl2,
            sam2,
            out,
            grounding=None if grounding_config is None else _read_grounding(grounding_config),
            seed=seed,
            dtype=getattr(torch, dtype),
            max_shard_bytes=_bytes(max_shard_mb),
        )
    _report(out)


@convert.command()
@click.argument("checkpoint", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@click.option("--lora-alpha", type=float, help="Merge LoRA adapters that were left in the checkpoint, with this alpha.")
@_STORED
@_SHARD
def export(checkpoint: Path, out: Path, lora_alpha: float | None, dtype: str, max_shard_mb: float | None) -> None:
    """Rewrite a Sa2VA or DeFakerOne checkpoint as OUT: type, shards, merged adapters, a tokenizer without code."""
    import torch

    from worker.defakerone.checkpoint import load, load_merging, save

    with _refusals():
        found = load(checkpoint, "cpu", torch.float32) if lora_alpha is None else load_merging(checkpoint, lora_alpha)
        save(
            out,
            found.network,
            found.tokenizer,
            found.metadata,
            dtype=getattr(torch, dtype),
            max_shard_bytes=_bytes(max_shard_mb),
        )
    _report(out)


def _read_grounding(path: Path) -> GroundingConfig:
    from worker.defakerone.assemble import grounding_from_json

    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return grounding_from_json(data)
    except (ValueError, TypeError, AttributeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--grounding-config") from error


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else int(megabytes * 1_000_000)


@contextmanager
def _refusals() -> Iterator[None]:
    from worker.defakerone.errors import CheckpointError

    try:
        yield
    except (CheckpointError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _report(out: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(out.glob("*.safetensors"))}
    click.echo(f"{out}: {sum(sizes.values()) / 1e6:.1f} MB of weights in {len(sizes)} file(s)")
