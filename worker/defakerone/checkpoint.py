"""How does a directory become a network and a tokenizer, strictly, and back?

Sa2VA's layout is the only one on disk: what the paper's authors may release, what `assay convert` assembles and what
training saves all load here. Every missing, surplus or misshapen tensor is named; nothing is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from worker.defakerone import weights
from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.errors import CheckpointError, WeightsMissingError
from worker.defakerone.layout import Entry, State, entries, join_all
from worker.defakerone.lora import has_adapters, merge
from worker.defakerone.metadata import Metadata
from worker.defakerone.model import Network
from worker.defakerone.tokenizer import FILES as TOKENIZER_FILES
from worker.defakerone.tokenizer import IMAGE_CONTEXT, SEGMENTATION, Tokenizer

_DTYPES: Final = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint."""

    network: Network
    tokenizer: Tokenizer
    metadata: Metadata
    weights_sha256: str


def load(directory: Path, device: torch.device | str, dtype: torch.dtype) -> Checkpoint:
    """Load a Sa2VA or DeFakerOne directory; raises WeightsMissingError, CheckpointError or TokenizerError."""
    config, files = read_config(directory), weights.WeightFiles.find(directory)
    tokenizer = Tokenizer.from_directory(directory)
    network = build_on_meta(config, tokenizer)
    plan = entries(network.state_dict(), config)
    if has_adapters(files.files):
        raise CheckpointError(f"{directory} holds LoRA adapters: merge them with `assay convert export --lora-alpha A`")
    weights.compare(expected_shapes(network, plan), files.shapes(), str(directory))
    fill(network, natively(files.read(), network, device, dtype))
    return Checkpoint(network.eval(), tokenizer, Metadata.read(directory), files.sha256())


def load_merging(directory: Path, lora_alpha: float) -> Checkpoint:
    """Load a directory whose LoRA adapters were not merged, and merge them; float32 on the CPU."""
    config, files = read_config(directory), weights.WeightFiles.find(directory)
    network = build_on_meta(config, tokenizer := Tokenizer.from_directory(directory))
    state = merge(dict(files.read()), lora_alpha)
    expected = expected_shapes(network, entries(network.state_dict(), config))
    weights.compare(expected, {key: tuple(tensor.shape) for key, tensor in state.items()}, str(directory))
    fill(network, natively(state.items(), network, "cpu", torch.float32))
    return Checkpoint(network.eval(), tokenizer, Metadata.read(directory), files.sha256())


def save(
    directory: Path,
    network: Network,
    tokenizer: Tokenizer,
    metadata: Metadata,
    *,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int | None = None,
) -> None:
    """Write a complete checkpoint: first beside the target, so that a full disk leaves the target as it was."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as partial:
        target = Path(partial)
        weights.write(target, checkpoint_state(network, dtype), max_shard_bytes)
        tokenizer.save(target)
        metadata.write(target)
        _write_json(target / "config.json", network.config.to_json(_DTYPES[dtype]))
        _publish(target, directory)


def read_config(directory: Path) -> DeFakerOneConfig:
    """Read config.json; raises WeightsMissingError where there is none."""
    path = directory / "config.json"
    if not path.is_file():
        raise WeightsMissingError(f"{directory}: no checkpoint here (config.json is missing)")
    try:
        return DeFakerOneConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: unusable ({error})") from error


def build_on_meta(config: DeFakerOneConfig, tokenizer: Tokenizer) -> Network:
    """Build the network without memory for its weights; raises TokenizerError where the vocabulary lacks a token."""
    with torch.device("meta"):
        network = Network(config, tokenizer.id_of(IMAGE_CONTEXT), tokenizer.id_of(SEGMENTATION))
    if tokenizer.size > config.language.vocab_size:
        raise CheckpointError(f"the tokenizer has {tokenizer.size} ids, the model {config.language.vocab_size} rows")
    return network


def expected_shapes(network: Network, plan: list[Entry]) -> dict[str, tuple[int, ...]]:
    """Return the tensors and shapes that a checkpoint of this network must have."""
    native = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    return {key: tuple(tensor.shape) for key, tensor in join_all(plan, native).items()}


def fill(network: Network, state: State) -> None:
    """Give a network built on the meta device its weights and its rotary table."""
    network.load_state_dict(state, strict=True, assign=True)
    network.rebuild_rotary()
    network.language_model.rotary_emb.to(network.device)
    network.requires_grad_(requires_grad=True)


def checkpoint_state(network: Network, dtype: torch.dtype) -> State:
    """Return the network's weights under the checkpoint's names, on the CPU."""
    native = {name: tensor.detach().to("cpu", dtype) for name, tensor in network.state_dict().items()}
    return join_all(entries(native, network.config), native)


def copy_tokenizer_files(source: Path, target: Path) -> None:
    """Carry the tokenizer's own files along, for other readers of the layout."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def natively(
    tensors: Iterable[tuple[str, Tensor]], network: Network, device: torch.device | str, dtype: torch.dtype
) -> State:
    """Turn a checkpoint's tensors, whose names and shapes were compared before, into the network's state."""
    by_key = {entry.key: entry for entry in entries(network.state_dict(), network.config)}
    buffers = {name for name, _ in network.named_buffers()}  # SAM2's position matrix: always float32
    state: State = {}
    for key, tensor in tensors:
        entry = by_key[key]
        for name, part in zip(entry.native, entry.split(tensor), strict=True):
            state[name] = _place(part, device, torch.float32 if name in buffers else dtype)
    return state


def _place(tensor: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    # A copy in every case: a tensor that still maps the file would change when the file does.
    return tensor.to(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)


def _publish(partial: Path, directory: Path) -> None:
    """Move a finished checkpoint into place; weights of an older one that the new does not replace are removed."""
    directory.mkdir(exist_ok=True)
    new = {path.name for path in partial.iterdir()}
    for stale in [*directory.glob("model*.safetensors"), directory / weights.INDEX]:
        if stale.name not in new:
            stale.unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == "config.json"):  # config.json last: without it, nothing loads
        os.replace(partial / name, directory / name)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
