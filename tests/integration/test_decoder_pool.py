"""The decoder subprocesses: right pixels, typed refusals, and nothing left behind whoever is killed when."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from screening.errors import FailureCode
from screening.settings import Settings
from worker.decoding.pool import DecoderClosedError, DecodeRefusedError, DecoderPool
from worker.defakerone.images import load_image

PATIENCE = 60.0  # seconds; a wait ends as soon as it can, and only a defect makes it last


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s until {what}"
        time.sleep(0.01)


def encoded(pixels: np.ndarray[Any, Any], format: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def noise(rng: random.Random, height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (height, width, 3), np.uint8)


def slow_png(megapixels: int) -> bytes:
    """Takes about a second per 30 MP to decode, and few bytes."""
    return encoded(np.zeros((megapixels * 250, 4000, 3), np.uint8), "PNG", compress_level=1)


def descriptors() -> set[str]:
    held = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            held.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the listing's own
            continue
    return held


def shared_memory() -> set[str]:
    names = os.listdir("/dev/shm")  # noqa: S108 - looked at, not written to
    return {name for name in names if "assay" in name or name.startswith("psm_")}  # ours, or Python's own kind


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(Settings(decoders=2)) as made:
        yield made


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_the_pixels_are_those_of_a_lossless_file(pool: DecoderPool, rng: random.Random, format: str) -> None:
    pixels = noise(rng, 37, 53)
    decoded = pool.decode(encoded(pixels, format))
    assert np.array_equal(decoded.pixels, pixels)
    assert (decoded.format, decoded.frames, decoded.orientation_applied, decoded.reasons) == (
        format.lower(), 1, False, [],
    )  # fmt: skip


def test_a_path_and_its_bytes_give_what_the_library_gives_in_process(
    pool: DecoderPool, rng: random.Random, tmp_path: Path
) -> None:
    data = encoded(noise(rng, 100, 140), "JPEG", quality=80)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    expected = np.asarray(load_image(data).image)
    assert np.array_equal(pool.decode(data).pixels, expected)
    assert np.array_equal(pool.decode(path).pixels, expected)


def test_the_array_may_be_written_to_and_outlives_the_pool(rng: random.Random) -> None:
    pixels = noise(rng, 8, 8)
    with DecoderPool(Settings(decoders=1)) as pool:
        first, second = pool.decode(encoded(pixels, "PNG")), pool.decode(encoded(pixels, "PNG"))
    first.pixels[:] = 0
    assert np.array_equal(second.pixels, pixels)


def test_many_threads_share_few_decoders_and_each_gets_its_own_picture(pool: DecoderPool, rng: random.Random) -> None:
    pictures = [noise(rng, rng.randrange(1, 200), rng.randrange(1, 200)) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda pixels: pool.decode(encoded(pixels, "PNG")).pixels, pictures))
    assert all(np.array_equal(result, pixels) for result, pixels in zip(results, pictures, strict=True))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", FailureCode.UNSUPPORTED_FORMAT),
        (b"dear sir, enclosed you find my picture", FailureCode.UNSUPPORTED_FORMAT),
        (b"\x89PNG\r\n\x1a\n", FailureCode.UNDECODABLE),
        (encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")[:-200], FailureCode.UNDECODABLE),
        (b"\xff" * (25 * 2**20 + 1), FailureCode.TOO_MANY_BYTES),
    ],
    ids=["empty", "text", "a signature alone", "truncated", "26 MB"],
)
def test_certain_refusals_are_final_and_keep_the_subprocess(pool: DecoderPool, data: bytes, code: FailureCode) -> None:
    before = pool.pids
    with pytest.raises(DecodeRefusedError) as refused:
        pool.decode(data)
    assert (refused.value.failure.code, refused.value.strike) == (code, False)
    assert pool.pids == before


def test_the_subprocess_holds_no_torch_no_secret_and_no_framework(pool: DecoderPool) -> None:
    pool.decode(slow_png(1))
    for pid in pool.pids:
        assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
        assert "ASSAY" not in Path(f"/proc/{pid}/environ").read_text()
    source = "import sys, worker.decoding.child; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pydantic", "sqlalchemy", "celery", "httpx", "structlog"} & set(loaded)


def test_a_decode_over_its_deadline_is_killed_and_the_next_one_succeeds(rng: random.Random) -> None:
    pixels = noise(rng, 10, 10)
    with DecoderPool(Settings(decoders=1, decode_seconds=0.1)) as pool:
        first = pool.pids
        with pytest.raises(DecodeRefusedError) as refused:
            pool.decode(slow_png(48))
        assert (refused.value.failure.code, refused.value.strike) == (FailureCode.DECODE_TIMEOUT, True)
        assert not alive(first[0])
        assert np.array_equal(eventually_decoded(pool, encoded(pixels, "PNG")), pixels)


def eventually_decoded(pool: DecoderPool, data: bytes) -> np.ndarray[Any, Any]:
    """With a deadline of 0.1 s on a busy machine, an innocent picture may need several tries."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return pool.decode(data).pixels
        except DecodeRefusedError:
            assert time.monotonic() < end


def test_a_stopped_subprocess_is_killed_at_the_deadline() -> None:
    with DecoderPool(Settings(decoders=1, decode_seconds=4)) as pool:
        pool.decode(slow_png(1))
        os.kill(pool.pids[0], signal.SIGSTOP)
        with pytest.raises(DecodeRefusedError) as refused:
            pool.decode(slow_png(1))
        assert refused.value.failure.code == FailureCode.DECODE_TIMEOUT


def test_a_picture_too_large_for_the_address_space_costs_its_decoder_alone(rng: random.Random) -> None:
    pixels = noise(rng, 10, 10)
    with DecoderPool(Settings(decoders=1, decode_memory=400 * 2**20)) as pool:
        with pytest.raises(DecodeRefusedError) as refused:
            pool.decode(slow_png(48))
        assert (refused.value.failure.code, refused.value.strike) == (FailureCode.DECODE_MEMORY, True)
        assert np.array_equal(pool.decode(encoded(pixels, "PNG")).pixels, pixels)


def test_a_killed_subprocess_is_a_strike_for_its_image_and_for_no_other(rng: random.Random) -> None:
    pixels = noise(rng, 10, 10)
    with DecoderPool(Settings(decoders=1)) as pool, ThreadPoolExecutor(1) as threads:
        pool.decode(encoded(pixels, "PNG"))
        kill_while_it_decodes(pool, doomed := threads.submit(pool.decode, slow_png(48)))
        with pytest.raises(DecodeRefusedError, match="SIGKILL") as refused:
            doomed.result()
        assert (refused.value.failure.code, refused.value.strike) == (FailureCode.DECODE_CRASHED, True)
        assert np.array_equal(pool.decode(encoded(pixels, "PNG")).pixels, pixels)


def kill_while_it_decodes(pool: DecoderPool, decode: Future[Any]) -> None:
    pid = pool.pids[0]
    wait_until(lambda: at_work(pid) or decode.done(), "the decode has begun")
    os.kill(pid, signal.SIGKILL)


def at_work(pid: int) -> bool:
    """Whether the subprocess is in the middle of a request: that is when it has the image open."""
    try:
        return any("assay-image" in os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def test_a_subprocess_that_died_idle_is_replaced(rng: random.Random) -> None:
    pixels = noise(rng, 10, 10)
    with DecoderPool(Settings(decoders=1)) as pool:
        pool.decode(encoded(pixels, "PNG"))
        first = pool.pids[0]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first), "it is dead")
        assert np.array_equal(pool.decode(encoded(pixels, "PNG")).pixels, pixels)


def test_closing_ends_decodes_at_work_and_leaves_no_process_descriptor_or_shared_memory() -> None:
    before, shm = descriptors(), shared_memory()
    pool = DecoderPool(Settings(decoders=2))
    with ThreadPoolExecutor(4) as threads:
        pool.decode(slow_png(1))
        pids = pool.pids
        data = slow_png(48)
        running = [threads.submit(pool.decode, data) for _ in range(4)]
        wait_until(lambda: any(at_work(pid) for pid in pids), "a decode has begun")
        pool.close()
        ends = [future.exception() for future in running]
    # A busy machine may let one finish before it is closed; none may end in any other way.
    assert any(isinstance(end, DecoderClosedError) for end in ends)
    assert all(end is None or isinstance(end, DecoderClosedError) for end in ends)
    assert not any(alive(pid) for pid in pids)
    assert descriptors() == before
    assert shared_memory() == shm
    pool.close()
    with pytest.raises(DecoderClosedError):
        pool.decode(b"")


PARENT = """
import sys, threading
from screening.settings import Settings
from worker.decoding.pool import DecoderPool
pool = DecoderPool(Settings(decoders=2))
data = sys.stdin.buffer.read()
pool.decode(data)
print(*pool.pids, flush=True)
for _ in range(2):
    threading.Thread(target=lambda: [pool.decode(data) for _ in range(1000)]).start()
"""


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "stopped"])
def test_no_subprocess_outlives_a_parent_that_was_killed(busy: bool) -> None:
    shm = shared_memory()
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(slow_png(20))
        parent.stdin.close()
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        wait_until(lambda: all(at_work(pid) for pid in pids), "both decode")
        if not busy:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        parent.kill()
    wait_until(lambda: not any(alive(pid) for pid in pids), "the subprocesses are gone")
    assert shared_memory() == shm


def test_a_fresh_subprocess_follows_after_a_number_of_decodes(
    monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    monkeypatch.setattr("worker.decoding.decoder.DECODES_A_LIFE", 2)
    data = encoded(noise(rng, 4, 4), "PNG")
    with DecoderPool(Settings(decoders=1)) as pool:
        lives = [pool.decode(data) is not None and pool.pids[0] for _ in range(6)]
    assert len(set(lives)) == 4  # what is seen after the second decode of a life is already the next
