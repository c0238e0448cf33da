"""Where do the pictures of a stage come from? From photos that are forged on the fly, from manifests, or from both.

Picture number i depends on the source's seed and on i alone.
"""

from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.manifest import Entry, read_manifest
from worker.defakerone.samples import check_files, load_sample
from worker.defakerone.training.forgery.corpus import default_cache
from worker.defakerone.training.forgery.journey import resize_both, travel
from worker.defakerone.training.forgery.photos import PhotoLibrary, split_of, stable_order
from worker.defakerone.training.forgery.synthesis import Sample, Synthesizer
from worker.defakerone.training.forgery.traces import TraceSample, draw_traces
from worker.defakerone.training.settings import Run, Stage, given

LONGEST = 900  # side to which a labelled picture is reduced before it travels, like the scenes of forgeries


class Source(Protocol):
    """Gives picture number `index`."""

    def draw(self, index: int) -> Sample | TraceSample:
        """Draw one sample."""
        ...


class TraceSource:
    """Windows whose pixels' processing is known."""

    def __init__(self, library: PhotoLibrary, seed: int, side: int, authentic: float = 0.0) -> None:
        """Keep the library; `side` is the window's, `authentic` the chance that it has one history only."""
        self.library, self.seed, self.side, self.authentic = library, seed, side, authentic

    def draw(self, index: int) -> TraceSample:
        """Draw window number `index`."""
        return draw_traces(np.random.default_rng((self.seed, index)), self.library, self.side, self.authentic)


class ManifestSource:
    """Balanced domain sampling over a manifest: a domain, an operation within it, then an image (design: 11.2)."""

    def __init__(self, entries: list[Entry], seed: int) -> None:
        """Index the entries; raises ValueError where there are none."""
        self.seed = seed
        self.tree: dict[str, dict[str, list[Entry]]] = {}
        for entry in entries:
            self.tree.setdefault(entry.domain, {}).setdefault(entry.operation, []).append(entry)
        if not entries:
            raise ValueError("no entry to train on: the manifest has none in this split")

    def draw(self, index: int) -> Sample:
        """Draw entry number `index`; raises the ManifestError that names a file at fault."""
        rng = np.random.default_rng((self.seed, index))
        domain = _pick(rng, sorted(self.tree))
        operation = _pick(rng, sorted(self.tree[domain]))
        entries = self.tree[domain][operation]
        loaded = load_sample(entries[int(rng.integers(len(entries)))])
        pixels = np.asarray(loaded.image)
        mask = np.zeros(pixels.shape[:2], np.uint8) if loaded.mask is None else loaded.mask * np.uint8(255)
        entry = loaded.entry
        known = not entry.is_fake or loaded.mask is not None
        return Sample(pixels, mask, entry.is_fake, entry.domain, entry.operation, (entry.id,), masked=known)


class MixedSource:
    """Forgeries with a share of labelled pictures among them, which then travel the same platforms."""

    def __init__(self, forgeries: Source, labelled: ManifestSource, share: float, seed: int) -> None:
        """`share` of all pictures come from `labelled`: generated ones, say, that nothing here can synthesise."""
        self.forgeries, self.labelled, self.share, self.seed = forgeries, labelled, share, seed

    def draw(self, index: int) -> Sample | TraceSample:
        """Draw picture number `index` from one of the two."""
        rng = np.random.default_rng((self.seed, index, 3))
        if rng.random() >= self.share:
            return self.forgeries.draw(index)
        sample = self.labelled.draw(index)
        size = np.array(sample.mask.shape[::-1])
        fitted = tuple(int(side) for side in np.maximum(64, size * min(1.0, LONGEST / size.max())))
        pixels, mask, _ = resize_both(sample.pixels, sample.mask, (fitted[0], fitted[1]), cv2.INTER_AREA)
        pixels, mask, _ = travel(rng, pixels, mask)
        return replace(sample, pixels=pixels, mask=mask)


class RepeatedSource:
    """Shows each picture several times, within a stretch that fits memory: drawing costs more than looking.

    Which picture a number stands for depends on the number alone, so a resumed run sees what an unbroken one sees.
    """

    def __init__(self, source: Source, times: int, stretch: int = 384) -> None:
        """Show `stretch` pictures `times` each, in random order, before the next ones."""
        self.source, self.times, self.stretch = source, times, stretch
        self.kept: tuple[int, dict[int, Sample | TraceSample]] = -1, {}

    def draw(self, index: int) -> Sample | TraceSample:
        """Draw the picture that number `index` shows."""
        block, place = divmod(index, self.times * self.stretch)
        if self.kept[0] != block:
            self.kept = block, {}
            self.order = np.random.default_rng(block).permutation(self.times * self.stretch)
        number = block * self.stretch + int(self.order[place]) % self.stretch
        held = self.kept[1]
        if number not in held:
            held[number] = self.source.draw(number)
        return held[number]


def open_source(run: Run, config: DeFakerOneConfig, stage: Stage, split: str, seed: int) -> Source:
    """Open what a stage reads in one split; raises SettingsError, PhotoError or the error that names a file."""
    if stage.source == "manifest":
        return ManifestSource(_entries(run, split), seed)
    limit = run.limit if split == "train" else 0
    library = PhotoLibrary(given(run.photos), split, run.cache or default_cache(), limit=limit)
    if stage.source == "traces":
        square = stage.square or config.grounding.image_size
        side = square if stage.branch == "mask" else config.vision.image_size
        traces = TraceSource(library, seed, side, stage.authentic)
        return RepeatedSource(traces, stage.repeat) if stage.repeat > 1 else traces
    source: Source = Synthesizer(library, seed, stage.recipe or run.recipe)
    if split != "train":
        return source
    if run.labelled is not None:
        labelled = [entry for entry in read_manifest(run.labelled) if split_of(entry) == split]
        check_files(labelled)
        source = MixedSource(source, ManifestSource(labelled, seed), run.labelled_share, seed)
    return RepeatedSource(source, stage.repeat) if stage.repeat > 1 else source


def _entries(run: Run, split: str) -> list[Entry]:
    """Choose a manifest's entries of one split; what limits training leaves validation whole."""
    entries = [entry for entry in read_manifest(given(run.manifest)) if split_of(entry) == split]
    if split == "train":
        allowed = [entry for entry in entries if not run.domains or entry.domain in run.domains]
        entries = sorted(allowed, key=lambda entry: stable_order(entry.id))[: run.limit or None]
    check_files(entries)
    return entries


def _pick(rng: np.random.Generator, names: list[str]) -> str:
    return names[int(rng.integers(len(names)))]
