"""Which GPU is a pool child's own?

One child a GPU, told apart by its place in the pool. A child sees no other device: `CUDA_VISIBLE_DEVICES` is set before
torch is imported, so that "cuda" means the same in every child. GPUs are counted without torch, because whatever
touches CUDA in the parent breaks it in every forked child.
"""

import os
import shutil
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    answer = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    return [str(number) for number, line in enumerate(answer.stdout.splitlines()) if line.startswith("GPU ")]


def children(device: str) -> int:
    """How many children a screen worker has: one a GPU, one where there is none or one device was named."""
    return max(1, len(visible())) if device in ("auto", "cuda") else 1


def claim_own(device: str, place: int) -> None:
    """Let this process see the GPU of its place in the pool (0 for the first), and no other."""
    mine = visible()
    if device in ("auto", "cuda") and len(mine) > 1:
        os.environ[VISIBLE] = mine[place % len(mine)]
