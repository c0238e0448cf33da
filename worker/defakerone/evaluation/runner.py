"""How is a whole manifest measured without holding more than a few images at a time?

Images are read one after the other (the next one while the current batch is judged), changed, judged in small batches
and measured at once; what stays is a score and a curve an image. Batches never change a result.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from worker.defakerone.evaluation.cache import MeasurementCache
from worker.defakerone.evaluation.perturbations import Perturbation, perturb
from worker.defakerone.evaluation.predictors import Prediction, Predictor
from worker.defakerone.evaluation.results import ImageResult, Mask, Measurement, measure
from worker.defakerone.manifest import Entry
from worker.defakerone.samples import Digests, Sample, file_digests, load_sample

BATCH = 8
PIXELS_AT_ONCE = 24_000_000
"""A batch ends before it holds more pixels than this, unless it is a single image."""

Change = Perturbation | None
Listener = Callable[[Entry, Prediction], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to judge: as it is (`change` None) or perturbed."""

    entry: Entry
    digests: Digests
    change: Change
    image: Image.Image
    mask: Mask


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one job; `change` tells what had been done to the image."""

    change: Change
    result: ImageResult


@dataclass(frozen=True, slots=True)
class Runner:
    """Measures a predictor on the entries of a manifest.

    `changes` holds None for the image as it is, and perturbations. `listener` sees every prediction on an unchanged
    image, once; with a listener, unchanged images are judged even if the cache knows their measurement.
    """

    predictor: Predictor
    changes: Sequence[Change] = (None,)
    seed: int = 0
    batch: int = BATCH
    cache: MeasurementCache | None = None
    listener: Listener | None = None

    def run(self, entries: Sequence[Entry]) -> Iterator[Outcome]:
        """Measure every entry under every change; raises ManifestError naming the file that could not be used.

        Results come as they are ready: those from the cache before those that a batch still waits for.
        """
        waiting: list[Job] = []
        for step in self._prefetched(entries):
            yield from step.known
            for job in step.jobs(self.seed):
                if waiting and self._full(waiting, job):
                    yield from self._judge(waiting)
                    waiting = []
                waiting.append(job)
        if waiting:
            yield from self._judge(waiting)

    def _full(self, waiting: list[Job], job: Job) -> bool:
        pixels = sum(other.image.width * other.image.height for other in [*waiting, job])
        return len(waiting) >= self.batch or pixels > PIXELS_AT_ONCE

    def _judge(self, jobs: list[Job]) -> Iterator[Outcome]:
        for job, prediction in zip(jobs, self.predictor.predict([job.image for job in jobs]), strict=True):
            if self.listener is not None and job.change is None:
                self.listener(job.entry, prediction)
            measured = measure(job.entry, job.mask, prediction)
            if self.cache is not None:
                self.cache.keep(job.digests.image, job.digests.mask, _name(job.change), measured)
            yield Outcome(job.change, ImageResult(job.entry, measured))

    def _prefetched(self, entries: Sequence[Entry]) -> Iterator["_Step"]:
        """Read one image ahead on a thread; decoding releases the interpreter."""
        with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
            rest = iter(entries)
            ahead: list[Future[_Step]] = [reader.submit(self._step, entry) for entry in islice(rest, 1)]
            while ahead:
                ahead += [reader.submit(self._step, entry) for entry in islice(rest, 1)]
                yield ahead.pop(0).result()

    def _step(self, entry: Entry) -> "_Step":
        digests = file_digests(entry)
        found = {change: self._find(digests, change) for change in self.changes}
        todo = [change for change, measured in found.items() if measured is None]
        known = [
            Outcome(change, ImageResult(entry, measured)) for change, measured in found.items() if measured is not None
        ]
        return _Step(known, todo, digests, load_sample(entry) if todo else None)

    def _find(self, digests: Digests, change: Change) -> Measurement | None:
        if self.cache is None or (change is None and self.listener is not None):
            return None
        return self.cache.find(digests.image, digests.mask, _name(change))


@dataclass(frozen=True, slots=True)
class _Step:
    """What one entry asks for: outcomes that are known, and changes that have to be judged."""

    known: list[Outcome]
    todo: list[Change]
    digests: Digests
    sample: Sample | None

    def jobs(self, seed: int) -> Iterator[Job]:
        if self.sample is None:
            return
        for change in self.todo:
            image, mask = self.sample.image, self.sample.mask
            if change is not None:
                image, mask = perturb(image, mask, change, seed=seed, image_id=self.digests.image)
            yield Job(self.sample.entry, self.digests, change, image, mask)


def _name(change: Change) -> str | None:
    return None if change is None else change.name


def predict_again(entries: Sequence[Entry], predictor: Predictor) -> Iterator[tuple[Sample, Prediction]]:
    """Judge some entries once more, one by one, for their pictures: keeping every heat map would not fit in memory."""
    for entry in entries:
        sample = load_sample(entry)
        (prediction,) = predictor.predict([sample.image])
        yield sample, prediction
