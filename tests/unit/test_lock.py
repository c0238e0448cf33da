"""The lock holds what every Python that we support needs, not only the one that it was written with."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Debian 12 has 3.11.2, for which redis asks for a package that 3.11.3 has in its standard library.
PYTHONS = ("3.11.0", "3.11.2", "3.11.9", "3.12.3", "3.13.1", "3.14.0")
# The Makefile installs these before the lock; torchvision never, because its builds need CUDA.
APART = {"torch", "setuptools", "wheel", "torchvision"}
LINES = re.findall(r"^\S.*==.*$", (Path(__file__).parents[2] / "requirements.lock").read_text(), re.MULTILINE)
LOCKED: dict[str, str] = {
    canonicalize_name(line.partition("==")[0]): line for line in LINES if not line.startswith("#")
}


def asked_by(name: str) -> list[Requirement]:
    """What an installed package asks for; nothing of one that this Python does not need."""
    try:
        return [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        assert " ; " in LOCKED[name], f"{name} is locked and not installed"
        return []


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_that_a_locked_package_needs_is_missing(python: str, machine: str) -> None:
    environment: dict[str, str] = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_full_version": python, "python_version": python.rpartition(".")[0], "platform_machine": machine,
        "extra": "",
    }  # fmt: skip
    missing = {
        f"{name} needs {needed}"
        for name in LOCKED
        for needed in asked_by(name)
        if (needed.marker is None or needed.marker.evaluate(environment))
        and canonicalize_name(needed.name) not in LOCKED.keys() | APART
    }
    assert missing == set()
