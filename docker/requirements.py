"""Which part of requirements.lock does one image need? The closure of one extra, with its hashes.

python docker/requirements.py api > docker/api-requirements.txt

Run it in the environment that the lock describes: dependencies are read from the installed packages. Torch is left out,
because it is installed first and by itself.
"""

import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# torch comes first and alone; its own dependencies beside it; torchvision never (its builds need CUDA).
APART = {"torch", "torchvision", "triton"}


def closure(extra: str) -> set[str]:
    """The canonical names of everything that `assay-screening[extra]` imports, but torch."""
    found: set[str] = set()
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    waiting = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"][extra]]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in APART or (name in found and not wanted.extras):
            continue
        found.add(name)
        waiting += _needed(wanted)
    return found


def _needed(wanted: Requirement) -> list[Requirement]:
    lines = [Requirement(line) for line in distribution(wanted.name).requires or []]
    extras = ("", *wanted.extras)
    return [r for r in lines if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)]


def entries() -> dict[str, str]:
    """The lock's entries by canonical name, each with its hashes."""
    parts = re.split(r"^(?=\S)", ROOT.joinpath("requirements.lock").read_text(), flags=re.MULTILINE)
    pinned = [part for part in parts if "==" in part.partition("\n")[0] and not part.startswith("#")]
    return {canonicalize_name(part.partition("==")[0]): part for part in pinned}


def requirements(extra: str) -> str:
    """The file of one image. Raises KeyError where the lock lacks a package."""
    lock = entries()
    head = f"# The part of requirements.lock that the {extra} image needs; made by docker/requirements.py.\n"
    return head + "".join(lock[name] for name in sorted(closure(extra)))


if __name__ == "__main__":
    sys.stdout.write(requirements(sys.argv[1]))
