"""How fast is the detector with nothing around it? One process: decode, detect in batches, encode mask and heat map.

No queue, no database, no blob store, no second process; all cores for the detector. For each line that comes in it runs
all files once and prints seconds and CPU seconds: several can start together, and one can take turns with others. With
`BARE_THREADS` the detector has so many cores.

    python -m tests.bench.bare WEIGHTS BATCH FILE...
"""

import os
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from worker.defakerone import DeFakerOne
from worker.defakerone.images import load_image
from worker.defakerone.placement import choose_device, choose_dtype
from worker.png import encode_heatmap, encode_mask


def run(model: DeFakerOne, files: list[Path], size: int) -> int:
    """Screen all files; returns the bytes that came out."""
    written = 0
    for start in range(0, len(files), size):
        images = [load_image(path.read_bytes()).pixels for path in files[start : start + size]]
        for found in model.detect([Image.fromarray(pixels) for pixels in images]):
            written += len(encode_mask(found.mask)) + len(encode_heatmap(found.heatmap))
    return written


def main() -> None:
    weights, size, *names = sys.argv[1:]
    device = choose_device("auto")
    model = DeFakerOne.from_pretrained(weights, device, choose_dtype("auto", device))
    files = [Path(name) for name in names]
    if "BARE_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["BARE_THREADS"]))
    run(model, files[: int(size)], int(size))
    print("ready", flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        run(model, files, int(size))
        print(time.perf_counter() - start, time.process_time() - used, flush=True)


if __name__ == "__main__":
    main()
