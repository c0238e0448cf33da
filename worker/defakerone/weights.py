"""How are tensors read from and written to files without ever executing what is in them?

safetensors only, in one file or in shards with an index. A `.pt` is read in one place (`read_pt`, for SAM2's release
files) with `weights_only=True`. Other pickles are refused by name.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.defakerone.errors import CheckpointError, WeightsMissingError

WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The safetensors files of a checkpoint directory and where each tensor is."""

    directory: Path
    files: dict[str, str]  # tensor -> file name

    @classmethod
    def find(cls, directory: Path) -> WeightFiles:
        """Look for one file or an index; raises WeightsMissingError saying what was found instead."""
        index = directory / INDEX
        if index.is_file():
            files = _read_index(index)
        elif (directory / WHOLE).is_file():
            files = dict.fromkeys(_keys(directory / WHOLE), WHOLE)
        else:
            raise WeightsMissingError(_nothing_found(directory))
        return cls(directory, files)

    @property
    def paths(self) -> list[Path]:
        """Every file, by name."""
        return [self.directory / name for name in sorted(set(self.files.values()))]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Read every tensor's shape from the headers alone."""
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.paths:
            with _open(path) as handle:
                shapes |= {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
        return shapes

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor, file by file, mapped from disk until it is used."""
        with ExitStack() as stack:
            for path in self.paths:
                handle = stack.enter_context(_open(path))
                for key in handle.keys():  # noqa: SIM118
                    yield key, handle.get_tensor(key)

    def sha256(self) -> str:
        """Digest the weights: of the file itself, or of the lines `<digest>  <name>` of all shards by name."""
        digests = {path.name: _digest(path) for path in self.paths}
        if len(digests) == 1:
            return next(iter(digests.values()))
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


def write(directory: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int | None) -> list[str]:
    """Write tensors as one file, or as shards of at most `max_shard_bytes` with an index; return the file names.

    A single tensor over the limit gets a shard of its own, since a tensor cannot be cut.
    """
    shards = _shard(tensors, max_shard_bytes)
    if len(shards) == 1:
        _save(directory / WHOLE, shards[0])
        return [WHOLE]
    names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _save(directory / name, shard)
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return [*names, INDEX]


def read_pt(path: Path) -> dict[str, Tensor]:
    """Read a SAM2 release file, `{"model": state_dict}`, with `weights_only`: nothing in it can run."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path}: no such file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: not a file of plain tensors ({str(error).splitlines()[0]})") from error
    state = data.get("model") if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f'{path}: expected {{"model": state_dict}}, as SAM2 is released')
    return state


def compare(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise CheckpointError naming every missing, surplus and misshapen tensor; return where there is none."""
    missing = sorted(expected.keys() - found.keys())
    surplus = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{key} is {list(found[key])}, expected {list(shape)}"
        for key, shape in sorted(expected.items())
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    complaints = [
        f"{len(names)} {kind}:\n  " + "\n  ".join(names)
        for kind, names in (("missing", missing), ("surplus", surplus), ("misshapen", misshapen))
        if names
    ]
    if complaints:
        raise CheckpointError(f"{where} does not fit its config.json\n" + "\n".join(complaints))


def _read_index(index: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index}: not an index of shards") from error
    outside = sorted({name for name in files.values() if Path(name).name != name or not name.endswith(".safetensors")})
    if outside:
        raise CheckpointError(f"{index} points at {', '.join(outside)}: only safetensors files beside it are read")
    actual = {key: name for name in sorted(set(files.values())) for key in _keys(index.parent / name)}
    compare(dict.fromkeys(files, ()), dict.fromkeys(actual, ()), str(index))
    return actual


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path}: no such file") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or no safetensors file ({error})") from error


def _keys(path: Path) -> list[str]:
    with _open(path) as handle:
        return list(handle.keys())


def _nothing_found(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory}: no such checkpoint directory"
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    seen = f"; {', '.join(pickles)} could run code and is not read, save it as safetensors" if pickles else ""
    return f"{directory}: neither {WHOLE} nor {INDEX}{seen}"


def _shard(tensors: Mapping[str, Tensor], limit: int | None) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = float("inf") if limit is None else float(limit) - _HEADER_BYTES
    left = room
    for key, tensor in tensors.items():
        bytes_needed = tensor.nbytes + len(key) + _HEADER_BYTES  # the file's header names every tensor
        if shards[-1] and bytes_needed > left:
            shards.append({})
            left = room
        shards[-1][key] = tensor
        left -= bytes_needed
    return shards


_HEADER_BYTES: Final = 160  # type, shape and offsets of one tensor as JSON, generously


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
