"""How much of the detector's speed reaches the user, and what is the design worth?

Images/s of the whole line with a full queue (claim, decode, hash, detect, encode, upload, commit, event) over a bare
loop of the same weights in one process, and over a naive Celery design. The three run one after the other on the same
files; the line's time is read from its own rows, from the first claim to the last commit.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import redis
from PIL import Image
from sqlalchemy import exists, func, select

from screening.tables import Attempt, Screening, State
from tests.bench import naive
from tests.bench.results import save, show
from tests.running_line import RunningLine, running_line, wait_for
from worker.commands.runtime import default_weights
from worker.defakerone.placement import choose_device

SAMPLES = Path(__file__).parents[2] / "screening" / "samples"
RATIOS = {"over_bare": "bare loop", "over_naive": "naive"}
TARGETS = {"over_bare": 0.95, "over_naive": 2.0}
LONGEST = 900.0  # seconds for one part


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint folder; default: the bundled one.")
@click.option("--images", default=96, show_default=True, help="For the line and the bare loop.")
@click.option("--naive-images", default=32, show_default=True)
@click.option("--batch", default=8, show_default=True)
def command(weights: Path | None, images: int, naive_images: int, batch: int) -> None:
    """Images a second: the line, bare loops, a naive design."""
    weights = (weights or default_weights()).resolve()
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL, as root, runs as somebody else, who must be able to enter
        files = make_files(folder / "images", images)
        mix = describe(files)
        click.echo(f"{images} images: {mix}", err=True)
        bare = {"bare loop": measure_bare(weights, files, batch)}
        if choose_device("auto").type == "cpu":
            # Nobody's target: what is left to gain by any design, since nothing waits for anything.
            bare["bare loop, a process a core"] = measure_bare(weights, files, batch, len(os.sched_getaffinity(0)))
        with running_line(folder / "line", settings(weights, batch)) as line:
            whole = measure_line(line, files)
            few = files[:naive_images]
            simple = measure_naive(line, weights, few, folder)
            tuned = measure_naive(line, weights, few, folder, NAIVE_THREADS="1")
    report(mix, {"line": whole, **bare, "naive": simple, "naive, one thread a process": tuned}, batch)


def settings(weights: Path, batch: int) -> dict[str, str]:
    """Production's own waits, where tests have brief ones; all cores."""
    return {
        "ASSAY_WEIGHTS": str(weights),
        "ASSAY_BATCH_SIZE": str(batch),
        "ASSAY_LEASE_SECONDS": "60",
        "ASSAY_DRAIN_SECONDS": "60",
        "ASSAY_SWEEP_SECONDS": "2",
        "ASSAY_DECODERS": "2",
        "ASSAY_WORKER_THREADS": "0",
        "ASSAY_DEVICE": "auto",
    }


def quiet() -> dict[str, str]:
    """As the line's own processes: threads that wait do not spin, so that a shared machine disturbs both alike."""
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}


def make_files(folder: Path, count: int) -> list[Path]:
    """Copies of the sample photos, scaled as platforms get them, each with bytes of its own: none is a duplicate."""
    folder.mkdir()
    photos = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("sample-*.jpg"))]
    scales = [1.0, 0.5, 0.75, 1.5]
    base = []
    for number in range(len(photos) * len(scales)):
        photo, scale = photos[number % len(photos)], scales[number // len(photos)]
        file = BytesIO()
        size = (round(photo.width * scale), round(photo.height * scale))
        photo.resize(size).save(file, "PNG" if number % 5 == 4 else "JPEG", quality=90)
        base.append(file.getvalue())
    files = []
    for number in range(count):
        path = folder / f"{number:04}.img"
        path.write_bytes(base[number % len(base)] + number.to_bytes(8, "big"))  # readers stop before these
        files.append(path)
    return files


def describe(files: Sequence[Path]) -> str:
    """The mix in words: formats and megapixels."""
    images = [Image.open(path) for path in files]
    formats = Counter(image.format or "" for image in images)
    pixels = sorted(image.width * image.height / 1e6 for image in images)
    parts = ", ".join(f"{count} {name}" for name, count in formats.most_common())
    return f"{parts}; {pixels[0]:.1f} to {pixels[-1]:.1f} MP, median {pixels[len(pixels) // 2]:.1f}"


@dataclass(frozen=True, slots=True)
class Speed:
    """What one way of working reached. CPU time says more than images/s where the machine is shared."""

    images_per_second: float
    cpu_seconds_per_image: float  # of our own processes; PostgreSQL and Redis are not counted


def measure_bare(weights: Path, files: Sequence[Path], batch: int, processes: int = 0) -> Speed:
    """The bare loop in a process of its own, or in several that start together, each with one core and its share."""
    shares = [files[n :: processes or 1] for n in range(processes or 1)]
    environment = quiet() | ({"BARE_THREADS": "1"} if processes else {})
    command = [sys.executable, "-m", "tests.bench.bare", str(weights), str(batch)]
    with ExitStack() as stack:
        loops = [stack.enter_context(_piped([*command, *map(str, share)], environment)) for share in shares]
        for loop in loops:
            assert loop.stdout is not None
            assert loop.stdout.readline() == "ready\n", "a bare loop did not start"
        for loop in loops:
            assert loop.stdin is not None
            loop.stdin.write("go\n")
            loop.stdin.flush()
        answers = [loop.communicate(timeout=LONGEST)[0].split() for loop in loops]
    seconds = max(float(wall) for wall, _ in answers)
    return Speed(len(files) / seconds, sum(float(cpu) for _, cpu in answers) / len(files))


def _piped(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment))


def measure_line(line: RunningLine, files: Sequence[Path]) -> Speed:
    """From the first claim to the last commit, with every image queued before the worker starts."""
    ids = line.accept([path.read_bytes() for path in files], ring=False)
    sweeper = line.start("sweeper")
    worker = line.screen_worker()
    used = worker.cpu_seconds()
    # Asking for every row twenty times a second would take a tenth of a core from what is measured.
    wait_for("the queue is empty", lambda: not any_live(line), LONGEST, every=0.5)
    used = worker.cpu_seconds() - used
    line.check(ids)
    worker.stop()
    sweeper.stop()
    with line.sessions() as session:
        first = select(func.min(Attempt.started_at)).where(Attempt.screening_id.in_(ids)).scalar_subquery()
        last = select(func.max(Screening.finished_at)).where(Screening.id.in_(ids)).scalar_subquery()
        seconds = session.scalar(select(func.extract("epoch", last - first)))
    return Speed(len(ids) / float(seconds or 0), used / len(ids))


def any_live(line: RunningLine) -> bool:
    """Whether any screening is still to end."""
    with line.sessions() as session:
        return session.scalar(select(exists().where(Screening.state.in_((State.QUEUED, State.RUNNING))))) or False


def measure_naive(line: RunningLine, weights: Path, files: Sequence[Path], folder: Path, **extra: str) -> Speed:
    """From the first task's start to the last one's end, with every message there before the worker starts."""
    environment = {"NAIVE_REDIS": line.redis.url, "NAIVE_WEIGHTS": str(weights), "NAIVE_FOLDER": str(folder)}
    environment |= extra
    line.flush_redis()
    naive.app.conf.broker_url = line.redis.url
    for path in files:
        naive.app.send_task("naive.screen", args=[str(path)])
    worker = line.start("-A", "tests.bench.naive", "worker", module="celery", **environment)
    with redis.Redis.from_url(line.redis.url) as client:
        wait_for("the detector is loaded", lambda: int(client.llen(naive.STARTED)) > 0, LONGEST)
        used = worker.cpu_seconds()
        wait_for("every image went through", lambda: int(client.llen(naive.ENDED)) == len(files), LONGEST)
        times: dict[str, Any] = {
            key: [float(v) for v in client.lrange(key, 0, -1)] for key in (naive.STARTED, naive.ENDED)
        }
    used = worker.cpu_seconds() - used
    worker.stop()
    seconds: float = max(times[naive.ENDED]) - min(times[naive.STARTED])
    return Speed(len(files) / seconds, used / len(files))


def report(mix: str, speeds: dict[str, Speed], batch: int) -> None:
    """Print the table, keep the figures."""
    line = speeds["line"].images_per_second
    columns = ["", "images/s", "CPU s/image", "line is times"]
    rows = [
        (name, f"{s.images_per_second:.2f}", f"{s.cpu_seconds_per_image:.3f}", f"{line / s.images_per_second:.2f}")
        for name, s in speeds.items()
    ]
    show(f"The line: {mix}; batches of {batch}", columns, rows)
    ratios = {name: line / speeds[key].images_per_second for name, key in RATIOS.items()}
    save(
        "line", {"mix": mix, "batch": batch, **{k: asdict(s) for k, s in speeds.items()}, **ratios, "targets": TARGETS}
    )
