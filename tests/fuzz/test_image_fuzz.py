"""Whatever bytes arrive: intake's header reader and the decoders give a header, pixels or a typed refusal.

Never another exception, never a dead subprocess, never memory or descriptors left behind. A mutant is named by the seed
that is printed and its number; ASSAY_TEST_SEED makes the same ones again.
"""

import os
import random
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from screening import header
from screening.errors import FailureCode
from screening.header import Header, HeaderRefusedError
from screening.settings import Settings
from tests.conftest import SEED
from tests.corpus import FAILED_BY_THE_WORKER, SCREENED
from tests.corpus_files import pixels
from tests.crafting import png_of
from tests.mutation import mutate
from worker.decoding.pool import Decoded, DecodeRefusedError, DecoderPool

MUTANTS = 20_000 if os.environ.get("ASSAY_SOAK") == "1" else 500
SETTINGS = Settings(decoders=2)
LARGEST_SEED = 20_000  # bytes; the rest of the corpus makes slow mutants and teaches nothing more
FORMATS = {"jpeg", "png", "webp", "avif", "gif", "tiff", "bmp"}
# A mutant may be slow or large, and is refused for it with its decoder's life. It may not crash it.
DEADLY = {FailureCode.DECODE_TIMEOUT, FailureCode.DECODE_MEMORY}

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.timeout(3 * 3600 if MUTANTS > 1000 else 600),
]


@dataclass
class Tally:
    """What became of the mutants."""

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    deaths: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, end: str) -> None:
        with self._lock:
            self.ends[end] += 1

    def died(self) -> None:
        with self._lock:
            self.deaths += 1

    def is_wrong(self, number: int, data: bytes, what: str) -> None:
        folder = Path(os.environ.get("ASSAY_FUZZ_KEEP", "/tmp"), f"assay-fuzz-{SEED}-{number}.bin")  # noqa: S108
        folder.write_bytes(data)
        with self._lock:
            self.wrong.append(f"mutant {number} ({folder}): {what}")


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    made = [case.make() for case in (*SCREENED, *FAILED_BY_THE_WORKER) if not case.huge]
    return [data for data in made if 0 < len(data) <= LARGEST_SEED]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(SETTINGS) as made:
        yield made


def look(tally: Tally, pool: DecoderPool, number: int, data: bytes) -> None:
    """Send one mutant through both."""
    try:
        found = read_header(data)
        tally.count("header " + ("read" if isinstance(found, Header) else found.failure.code))
        decoded = decode(pool, data)
        if isinstance(decoded, DecodeRefusedError):
            judge_refusal(tally, number, data, decoded)
        else:
            judge_pixels(tally, number, data, decoded, found)
    except Exception:  # noqa: BLE001 - to find those that nobody foresaw is what this is for
        tally.is_wrong(number, data, traceback.format_exc(limit=-3))


def read_header(data: bytes) -> Header | HeaderRefusedError:
    try:
        return header.read(BytesIO(data), len(data), SETTINGS)
    except HeaderRefusedError as refused:
        return refused


def decode(pool: DecoderPool, data: bytes) -> Decoded | DecodeRefusedError:
    try:
        return pool.decode(data)
    except DecodeRefusedError as refused:
        return refused


def judge_refusal(tally: Tally, number: int, data: bytes, refused: DecodeRefusedError) -> None:
    code = refused.failure.code
    tally.count(f"decode {code}")
    if code in DEADLY:
        tally.died()
    if code == FailureCode.DECODE_CRASHED or refused.strike != (code in DEADLY):
        tally.is_wrong(number, data, refused.failure.detail)


def judge_pixels(tally: Tally, number: int, data: bytes, decoded: Decoded, found: Header | HeaderRefusedError) -> None:
    height, width, channels = decoded.pixels.shape
    sane = channels == 3 and decoded.format in FORMATS and 1 <= decoded.frames <= SETTINGS.max_frames
    if not sane or height * width > SETTINGS.max_pixels or max(height, width) > SETTINGS.max_side:
        tally.is_wrong(number, data, f"decoded to {decoded.pixels.shape}, {decoded.format}, {decoded.frames} frames")
    decoded.pixels.max()  # every page of the shared memory is there
    tally.count("decode pixels")
    if isinstance(found, Header):
        same = (found.width, found.height, found.format) == (width, height, decoded.format)
        tally.count("header and pixels " + ("agree" if same else "differ"))
    else:
        tally.count("only the decoder accepts")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_mutants_end_as_pixels_or_typed_refusals(pool: DecoderPool, seeds: list[bytes]) -> None:
    good = png_of(pixels())
    assert np.array_equal(pool.decode(good).pixels, pixels())
    before, tally = descriptors(), Tally()

    def one(number: int) -> None:
        look(tally, pool, number, mutate(random.Random(f"{SEED} {number}"), seeds))

    with ThreadPoolExecutor(SETTINGS.decoders) as threads:
        for _ in threads.map(one, range(MUTANTS)):
            pass
    print(f"\n{MUTANTS} mutants of {len(seeds)} seeds, ASSAY_TEST_SEED={SEED}")
    for end, count in sorted(tally.ends.items()):
        print(f"  {end:45} {count:6}")
    assert not tally.wrong, "\n".join(tally.wrong[:20])
    assert np.array_equal(pool.decode(good).pixels, pixels())
    assert len(pool.pids) == SETTINGS.decoders
    assert descriptors() == before
    assert tally.deaths <= MUTANTS / 1000, "mutants of small files should be neither slow nor large"
    # Both kinds must be there, or the mutations are too wild or too tame to find anything.
    assert min(tally.ends["decode pixels"], tally.ends["decode undecodable"]) > MUTANTS / 10
