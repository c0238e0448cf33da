"""Which commands does the worker's side add to `assay`?

Each lives in its own module under `worker.commands` and is named there by an entry point in pyproject.toml, so that
running one imports no other. This module only gathers them.
"""

from worker.commands.bench import bench
from worker.commands.convert import convert
from worker.commands.detect import detect
from worker.commands.evaluate import evaluate

__all__ = ["bench", "convert", "detect", "evaluate"]
