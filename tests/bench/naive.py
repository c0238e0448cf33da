"""What does one get without a design? One Celery task an image: decode, detect as the reference does, write the mask.

Celery's and torch's own defaults: a process a core, each with a thread a core. `NAIVE_THREADS` sets the threads, for
the best that this design could do. No database, no leases, no heat map: it does less than the line.

    NAIVE_REDIS=... NAIVE_WEIGHTS=... NAIVE_FOLDER=... celery -A tests.bench.naive worker
"""

import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery, signals
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from tests.bench.straightforward import Straightforward

REDIS = os.environ.get("NAIVE_REDIS", "redis://localhost")
FOLDER = Path(os.environ.get("NAIVE_FOLDER", "."))
STARTED, ENDED = "naive:started", "naive:ended"

app = Celery("naive", broker=REDIS)


@lru_cache(maxsize=1)
def detector() -> "Straightforward":
    import torch

    from tests.bench.straightforward import Straightforward
    from worker.defakerone import DeFakerOne
    from worker.defakerone.placement import choose_device, choose_dtype

    device = choose_device("auto")
    if "NAIVE_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["NAIVE_THREADS"]))
    model = DeFakerOne.from_pretrained(os.environ["NAIVE_WEIGHTS"], device, choose_dtype("auto", device))
    straight = Straightforward(model)
    straight.detect(Image.new("RGB", (448, 448), "grey"))
    return straight


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _load(**_: Any) -> None:
    detector()


@app.task(name="naive.screen", ignore_result=True)  # type: ignore[untyped-decorator]
def screen(path: str) -> None:
    """Screen one file."""
    with redis.Redis.from_url(REDIS) as client:
        client.rpush(STARTED, time.time())
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        mask = detector().detect(image).mask
        Image.fromarray(mask.cpu().numpy()).convert("L").save(FOLDER / f"{Path(path).stem}.mask.png")
        client.rpush(ENDED, time.time())
