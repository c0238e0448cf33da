"""How long does finding near-duplicates among a million images take, turned and mirrored copies included?"""

import time
from statistics import median, quantiles
from uuid import UUID

import click
import numpy as np

from screening.similar import BYTES, TRANSFORMS, Likeness
from tests.bench import results


@click.command()
@click.option("--images", type=int, default=1_000_000, show_default=True)
@click.option("--rounds", type=int, default=200, show_default=True)
def command(images: int, rounds: int) -> None:
    """Near-duplicate lookup: eight hashes asked of a million."""
    chance = np.random.default_rng(0)
    hashes = chance.integers(0, 256, (images, BYTES), dtype=np.uint8)
    likeness, start = Likeness(), time.perf_counter()
    likeness.add([(UUID(int=number), row.tobytes()) for number, row in enumerate(hashes)])
    build = time.perf_counter() - start
    times = []
    for _ in range(rounds):
        wanted = hashes[chance.integers(images)].copy()
        for bit in chance.choice(256, 20, replace=False):
            wanted[bit // 8] ^= 1 << (bit % 8)
        asked = [chance.bytes(BYTES) for _ in TRANSFORMS[1:]]
        start = time.perf_counter()
        found = likeness.near([wanted.tobytes(), *asked])
        times.append((time.perf_counter() - start) * 1000)
        assert found[0].distance == 20
    report = {"images": images, "build_s": build, "p50_ms": median(times), "p95_ms": quantiles(times, n=20)[-1]}
    row = (f"{images:,} images", f"{build:.1f} s", f"{report['p50_ms']:.1f} ms", f"{report['p95_ms']:.1f} ms")
    results.show("Near-duplicates by PDQ and its dihedral hashes", ("", "build", "p50", "p95"), [row])
    results.save("similar", report)
