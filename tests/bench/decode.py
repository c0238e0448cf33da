"""What does it cost that images are decoded in other processes?

The same files decoded by the library in this process, by a pool of one decoder asked by one thread, and by a pool of
two asked by two. Overhead is the second over the first; the rounds of the two take turns, so that a machine's moods hit
both alike.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from screening.settings import Settings
from worker.decoding.pool import DecoderPool
from worker.defakerone.images import load_image

SIZES = {"0.3 MP": (640, 480), "2 MP": (1920, 1080), "12 MP": (4000, 3000)}
FORMATS: dict[str, dict[str, int]] = {"JPEG": {"quality": 90}, "PNG": {"compress_level": 3}, "WEBP": {"quality": 85}}
Decode = Callable[[bytes], object]


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Of each kind; the fastest counts.")
def command(rounds: int) -> None:
    """Decode time in the pool's subprocesses over decode time in process."""
    results: list[dict[str, float | str]] = []
    with DecoderPool(Settings(decoders=1)) as one, DecoderPool(Settings(decoders=2)) as two:
        for format, options in FORMATS.items():
            for size, (width, height) in SIZES.items():
                data = photo(width, height, format, options)
                results.append({"image": f"{format} {size}", "bytes": len(data), **measure(data, rounds, one, two)})
    report(results)


def photo(width: int, height: int, format: str, options: dict[str, int]) -> bytes:
    """Smooth shapes with grain: what a camera's file costs to decode lies between those of a flat one and of noise."""
    chance = np.random.default_rng(0)
    shapes = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = chance.normal(0, 4, (height, width, 3))
    pixels = (np.asarray(shapes, np.float32) + grain).clip(0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def measure(data: bytes, rounds: int, one: DecoderPool, two: DecoderPool) -> dict[str, float]:
    """Seconds an image, the fastest of all rounds: what is above it is what else the machine did."""
    with ThreadPoolExecutor(2) as threads:
        ways: dict[str, Callable[[], float]] = {
            "in_process": lambda: timed(load_image, [data]),
            "pool": lambda: timed(one.decode, [data]),
            "pool_of_two": lambda: timed_together(threads, two.decode, [data] * 4),
        }
        for way in ways.values():
            way()
        times = {name: [] for name in ways}  # type: dict[str, list[float]]
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(way())
    return {name: min(found) for name, found in times.items()}


def timed(decode: Decode, files: Sequence[bytes]) -> float:
    """Seconds a file, one after the other."""
    begin = time.perf_counter()
    for data in files:
        decode(data)
    return (time.perf_counter() - begin) / len(files)


def timed_together(threads: ThreadPoolExecutor, decode: Decode, files: Sequence[bytes]) -> float:
    """Seconds a file, by two threads."""
    begin = time.perf_counter()
    for _ in threads.map(decode, files):
        pass
    return (time.perf_counter() - begin) / len(files)


def report(results: list[dict[str, float | str]]) -> None:
    """Print the table and keep the numbers with the load they were taken under."""
    table = Table(title="Decoding, ms an image", title_justify="left")
    for name in ("image", "in process", "pool of 1", "pool of 2", "pool / in process"):
        table.add_column(name, justify="left" if name == "image" else "right")
    for result in results:
        bare, pool, two = (float(result[name]) for name in ("in_process", "pool", "pool_of_two"))
        table.add_row(str(result["image"]), *(f"{1000 * t:.1f}" for t in (bare, pool, two)), f"{pool / bare:.2f}")
    Console().print(table)
    kept = Path("bench-results", "decode.json")
    kept.parent.mkdir(exist_ok=True)
    conditions = {"cores": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()[0]}
    kept.write_text(json.dumps({"bench": "decode", "conditions": conditions, "results": results}, indent=1) + "\n")
