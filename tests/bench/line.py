"""How much of the detector's speed reaches the user, and what is the design worth?

Images/s of the whole line (claim, decode, hash, detect, encode, upload, commit, event) over a bare loop of the same
weights in one process, and over a naive Celery design, on the same files.

The line and the bare loop take turns, round after round, so that a machine that does something else meanwhile slows
both; whoever waits is stopped, or waits for a line of text. The ratio is the median of the rounds' own ratios. The
line's times are read from its rows, with every image queued before its worker goes on:

- with a full queue: from the first commit to the last one before the queue was empty, which is what the target means;
- whole: from the first claim to the last commit, so with a start and an end in which not all cores have work. Longer
  queues have less of that.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import click
import redis
from PIL import Image
from sqlalchemy import exists, select

from screening.tables import Attempt, Screening, State
from tests.bench import naive
from tests.bench.results import save, show
from tests.running_line import Process, RunningLine, running_line, wait_for
from worker.commands.runtime import default_weights
from worker.defakerone.placement import choose_device

SAMPLES = Path(__file__).parents[2] / "screening" / "samples"
TARGETS = {"over_bare": 0.95, "over_naive": 2.0}
LONGEST = 900.0  # seconds for one part


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint folder; default: the bundled one.")
@click.option("--images", default=96, show_default=True, help="For the line and the bare loop, in each round.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--naive-images", default=32, show_default=True)
@click.option("--batch", default=8, show_default=True)
def command(weights: Path | None, images: int, rounds: int, naive_images: int, batch: int) -> None:
    """Images a second: the line and a bare loop in turns, bare loops on a core each, a naive design."""
    weights = (weights or default_weights()).resolve()
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL, as root, runs as somebody else, who must be able to enter
        files = make_files(folder / "images", images)
        mix = describe(files)
        click.echo(f"{images} images: {mix}", err=True)
        others: dict[str, Speed] = {}
        if choose_device("auto").type == "cpu":
            # Nobody's target: what is left to gain by any design, since nothing waits for anything.
            with bare_loops(weights, files, batch, len(os.sched_getaffinity(0))) as loops:
                others["bare loop, a process a core"] = loops.run()
        with running_line(folder / "line", settings(weights, batch)) as line:
            turns = take_turns(line, weights, files, batch, rounds)
            few = files[:naive_images]
            others["naive"] = measure_naive(line, weights, few, folder)
            others["naive, one thread a process"] = measure_naive(line, weights, few, folder, NAIVE_THREADS="1")
    report(mix, turns, others, batch)


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


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of the two."""

    bare: Speed
    line: Speed  # from the first claim to the last commit
    full: float  # the line's images/s while its queue was full

    @property
    def over_bare(self) -> float:
        """What the target is about."""
        return self.full / self.bare.images_per_second

    @property
    def whole_over_bare(self) -> float:
        return self.line.images_per_second / self.bare.images_per_second


@dataclass(frozen=True, slots=True)
class BareLoops:
    """Processes that have loaded the detector, and share some files among them."""

    processes: Sequence[subprocess.Popen[str]]
    images: int

    def run(self) -> Speed:
        """Screen all files once, in all processes at the same time."""
        for loop in self.processes:
            assert loop.stdin is not None
            loop.stdin.write("go\n")
            loop.stdin.flush()
        answers = [_answer(loop).split() for loop in self.processes]
        seconds = max(float(wall) for wall, _ in answers)
        return Speed(self.images / seconds, sum(float(cpu) for _, cpu in answers) / self.images)


@contextmanager
def bare_loops(weights: Path, files: Sequence[Path], batch: int, processes: int = 0) -> Iterator[BareLoops]:
    """The bare loop in a process of its own, or in several, each with one core and its share."""
    shares = [files[n :: processes or 1] for n in range(processes or 1)]
    environment = quiet() | ({"BARE_THREADS": "1"} if processes else {})
    command = [sys.executable, "-m", "tests.bench.bare", str(weights), str(batch)]
    with ExitStack() as stack:
        loops = [stack.enter_context(_piped([*command, *map(str, share)], environment)) for share in shares]
        assert {_answer(loop) for loop in loops} == {"ready"}, "a bare loop did not start"
        yield BareLoops(loops, len(files))


def _piped(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Leaving it closes its stdin, at which it ends, and waits for that."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment))


def _answer(loop: subprocess.Popen[str]) -> str:
    assert loop.stdout is not None
    return loop.stdout.readline().strip()


def take_turns(line: RunningLine, weights: Path, files: Sequence[Path], batch: int, rounds: int) -> list[Turn]:
    """The bare loop, the line, the bare loop, ..."""
    sweeper, worker = line.start("sweeper"), line.screen_worker()
    turns = []
    with bare_loops(weights, files, batch) as loop:
        for number in range(rounds):
            for process in (sweeper, worker):
                process.send_all(signal.SIGSTOP)
            bare = loop.run()
            # Bytes of its own for each round, or it would find what the last one found. Readers stop before these.
            ids = line.accept([path.read_bytes() + number.to_bytes(2, "big") for path in files], ring=False)
            for process in (sweeper, worker):
                process.send_all(signal.SIGCONT)
            turns.append(Turn(bare, *measure_line(line, worker, ids)))
    worker.stop()
    sweeper.stop()
    return turns


def measure_line(line: RunningLine, worker: Process, ids: Sequence[UUID]) -> tuple[Speed, float]:
    """How fast a worker screens what is queued: all in all, and with a full queue."""
    used = worker.cpu_seconds()
    line.doorbell.ring_screening()
    # Whoever asks takes time from what is measured; when it ended, the rows say.
    wait_for("the queue is empty", lambda: not any_live(line), LONGEST, every=1.0)
    used = worker.cpu_seconds() - used
    line.check(ids)
    with line.sessions() as session:
        claims = session.scalars(select(Attempt.started_at).where(Attempt.screening_id.in_(ids))).all()
        commits = session.scalars(select(Screening.finished_at).where(Screening.id.in_(ids))).all()
    ends = sorted(commit.timestamp() for commit in commits if commit is not None)
    first, last = min(claims).timestamp(), max(claims).timestamp()
    return Speed(len(ids) / (ends[-1] - first), used / len(ids)), _while_full(ends, last)


def _while_full(ends: Sequence[float], last_claim: float) -> float:
    """Images/s from the first commit (which is not counted) to the last one before the queue was empty."""
    full = [end for end in ends if end <= last_claim]
    counted = [end for end in full if end > full[0]]
    assert counted, "too few images to see the line at work: take more"
    return len(counted) / (counted[-1] - full[0])


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


def report(mix: str, turns: Sequence[Turn], others: Mapping[str, Speed], batch: int) -> None:
    """Print the table, keep the figures."""
    line, bare = _median([turn.line for turn in turns]), _median([turn.bare for turn in turns])
    full = Speed(median(turn.full for turn in turns), line.cpu_seconds_per_image)
    speeds = {"line, full queue": full, "line, whole": line, "bare loop": bare, **others}
    columns = ["", "images/s", "CPU s/image", "full line is times"]
    rows = [
        (name, f"{s.images_per_second:.2f}", f"{s.cpu_seconds_per_image:.3f}", f"{_times(full, s):.2f}")
        for name, s in speeds.items()
    ]
    show(f"The line: {mix}; batches of {batch}; medians of {len(turns)} rounds", columns, rows)
    ratios = {
        "over_bare": median(turn.over_bare for turn in turns),
        "whole_over_bare": median(turn.whole_over_bare for turn in turns),
        "over_naive": _times(line, others["naive"]),
    }
    rounds = [asdict(turn) | {"over_bare": turn.over_bare, "whole_over_bare": turn.whole_over_bare} for turn in turns]
    for name in ("over_bare", "whole_over_bare"):
        each = " ".join(f"{turn[name]:.2f}" for turn in rounds)
        click.echo(f"{name}: {ratios[name]:.2f}, the median of {each}")
    kept = {"mix": mix, "batch": batch, "rounds": rounds, **{name: asdict(speed) for name, speed in speeds.items()}}
    save("line", {**kept, **ratios, "targets": TARGETS})


def _median(speeds: Sequence[Speed]) -> Speed:
    """Of each figure by itself."""
    return Speed(median(s.images_per_second for s in speeds), median(s.cpu_seconds_per_image for s in speeds))


def _times(speed: Speed, other: Speed) -> float:
    return speed.images_per_second / other.images_per_second
