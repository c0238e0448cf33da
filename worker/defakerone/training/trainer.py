"""How does a run become weights? Stage after stage, resumable at any update, on one device or many.

A run's folder holds `run.json` (what is being run), `log.jsonl`, `curves.png`, `last.pt` (everything a resumed run
needs) and, after each validation that is the best so far, `checkpoint/` (what every other command loads). Files are
replaced whole: a kill or a full disk leaves the last complete state.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import structlog
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from worker.defakerone.config import PRESETS, DeFakerOneConfig
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.preprocessing import normalise
from worker.defakerone.training.balance import balance_masks
from worker.defakerone.training.batches import Batch, Collate, Views, batches
from worker.defakerone.training.calibrate import calibrated
from worker.defakerone.training.forgery.corpus import default_cache
from worker.defakerone.training.forgery.photos import PhotoLibrary
from worker.defakerone.training.forgery.synthesis import Sample, Synthesizer
from worker.defakerone.training.initialisation import start_forensic
from worker.defakerone.training.lora import merge_adapters
from worker.defakerone.training.objective import Objective, Result
from worker.defakerone.training.optimisation import MasterWeights, choose_parameters, count
from worker.defakerone.training.progress import append_event, draw_curves
from worker.defakerone.training.replay import Replay
from worker.defakerone.training.rows import RowWriter
from worker.defakerone.training.settings import Run, SettingsError, Stage, given
from worker.defakerone.training.sources import Source, TraceSource, open_source
from worker.defakerone.training.state import Position, TrainingError, write_whole
from worker.defakerone.training.validation import validate

log = structlog.get_logger()
VALIDATION_SEED, BALANCE_SEED, CALIBRATION_SEED = 4242, 6161, 7171
LOG_EVERY = 25
TOKENIZER = Path(str(files("worker.defakerone"))) / "weights"  # the bundled checkpoint's own vocabulary
PIECE_BYTES = 15_000_000
"""Largest file of a checkpoint: what the repository takes in one file, with room to spare."""


class Trainer:
    """One run in one folder."""

    def __init__(self, run: Run, folder: Path) -> None:
        """Load or build the model and prepare the folder; raises SettingsError, TrainingError or a data error."""
        self.run, self.folder = run, folder
        if run.threads:
            torch.set_num_threads(run.threads)
        self.accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
        self.device = self.accelerator.device
        self.model = build_model(run)
        self.precision = getattr(torch, run.precision)
        self.writer = RowWriter(self.model.tokenizer, self.model.metadata.prompt, self.model.config.tokens_per_tile)
        self.sources: dict[tuple[str, str, int], Source] = {}
        self.heads: dict[str, Tensor] = {}  # the auxiliary heads, handed from stage to stage
        self.shown: tuple[int, list[Batch]] | None = None  # the stage's validation batches, drawn once
        self.position = Position()
        with self.accelerator.main_process_first():  # one process describes the run, the others compare with it
            self._prepare_folder()

    def train(self) -> Path:
        """Run every stage that is left and return the checkpoint's folder."""
        resumed = self._load()
        for number in range(self.position.stage, len(self.run.stages)):
            if number != self.position.stage:
                self.position = Position(stage=number, pictures=self.position.pictures)
            self._train_stage(self.run.stages[number], resumed)
            resumed = None
        if self.run.calibration_pictures:
            self._calibrate()
        return self.folder / "checkpoint"

    def _calibrate(self) -> None:
        """Fit mask balance, calibration and guard on forgeries that neither training nor early stopping has seen."""
        model = DeFakerOne.from_pretrained(self.folder / "checkpoint", self.device)
        self._note(balance=balance_masks(model, self._held_back(BALANCE_SEED)))
        calibrated_model, report = calibrated(model, self._held_back(CALIBRATION_SEED))
        self._note(calibration=report)
        calibrated_model.save_pretrained(self.folder / "checkpoint", max_shard_bytes=PIECE_BYTES)

    def _held_back(self, seed: int) -> Iterator[Sample]:
        library = PhotoLibrary(given(self.run.photos), "validation", self.run.cache or default_cache())
        pictures = Synthesizer(library, seed, self.run.recipe)
        return (pictures.draw(number) for number in range(self.run.calibration_pictures))

    def _train_stage(self, stage: Stage, resumed: dict[str, Any] | None) -> None:
        torch.manual_seed(self.run.seed + self.position.stage)
        self._start_weights(resumed)
        objective = Objective(self.model.network, stage, self.model.word_ids).to(self.device)
        objective.load_state_dict(self.heads, strict=False)
        live = choose_parameters(objective, stage)
        weights = MasterWeights(live, stage, self.precision, self.run.ema)
        self.model.network.cast(self.device, self.precision)
        if resumed is not None:
            weights.restore(resumed["weights"])
            torch.set_rng_state(resumed["rng"])
        wrapped = self.accelerator.prepare(objective)
        self._note(stage=stage.name, trained=count(live.values()), resumed_at=self.position.step)
        self._loop(stage, wrapped, objective, weights)
        weights.publish(weights.average)
        self.heads = {n: v for n, v in objective.state_dict().items() if not n.startswith("network.")}
        if stage.lora_rank:
            merge_adapters(self.model.network.language_model)
        self._save_checkpoint()

    def _loop(self, stage: Stage, wrapped: torch.nn.Module, objective: Objective, weights: MasterWeights) -> None:
        wrapped.train()
        stream = self._stream(stage)
        sums: dict[str, Tensor] = {}
        began = saved = ticked = time.monotonic()
        ranks = self.accelerator.num_processes
        elapsed = self._elapsed(stage)
        while self.position.step < stage.steps and elapsed < 1:
            for _ in range(stage.accumulate):
                result: Result = wrapped(next(stream))
                self._refuse_nan(result)
                self.accelerator.backward(result.loss / stage.accumulate)
                for name, term in result.terms.items():
                    sums[name] = sums[name] + term if name in sums else term  # on the device: reading would wait for it
            length = weights.step(elapsed)
            self.position.seconds += time.monotonic() - ticked
            ticked, elapsed = time.monotonic(), self._elapsed(stage)
            self.position.step += 1
            self.position.pictures += stage.batch * stage.accumulate * ranks
            if self.position.step % LOG_EVERY == 0:
                self._note_terms(stage, sums, length, time.monotonic() - began)
                sums, began = {}, time.monotonic()
            last = self.position.step == stage.steps or elapsed >= 1
            if self.position.step % stage.validate_every == 0 or last:
                if self._validate(stage, objective, weights):
                    break
                self._save(weights)
                saved = time.monotonic()
            elif time.monotonic() - saved > 60 * self.run.save_minutes:
                self._save(weights)
                saved = time.monotonic()

    def _stream(self, stage: Stage) -> Iterator[Batch]:
        """Give the stage's batches on the device, from the position on."""
        drawn = iter(self._loader(stage, "train", self.position.step * stage.accumulate))
        if stage.replay > 1:
            return iter(Replay(drawn, self.device, stage.replay))
        return (batch.to(self.device) for batch in drawn)

    def _elapsed(self, stage: Stage) -> float:
        return self.position.seconds / 60 / stage.minutes if stage.minutes else 0.0

    def _validate(self, stage: Stage, objective: Objective, weights: MasterWeights) -> bool:
        """Score the averaged weights, keep them if they are the best, and say whether the stage should end."""
        if stage.source == "traces":
            return False
        weights.publish(weights.average)
        if self.shown is None or self.shown[0] != self.position.stage:
            stop = max(1, self.run.validation_pictures // stage.batch)
            self.shown = self.position.stage, list(self._loader(stage, "validation", 0, stop=stop))
        scores = validate(objective, self.shown[1], self.device)
        self._note(pictures=self.position.pictures, scores=scores)
        improved = scores["score"] > self.position.best
        self.position.best = max(self.position.best, scores["score"])
        self.position.stale = 0 if improved else self.position.stale + 1
        if improved and not stage.lora_rank:  # adapters are merged, and so saved, at the stage's end only
            self._save_checkpoint()
        weights.publish(weights.masters)
        if self.accelerator.is_main_process:
            draw_curves(self.folder / "log.jsonl", self.folder / "curves.png")
        return bool(stage.patience) and self.position.stale >= stage.patience

    def _loader(self, stage: Stage, split: str, start: int, stop: int | None = None) -> Any:
        train = split == "train"
        seed = self.run.seed * 100 + self.position.stage if train else VALIDATION_SEED
        views = Views(self._source(stage, split, seed), stage, self.model.config, self.writer, seed, train)
        collate = Collate(self.model.config.language.pad_token_id)
        ranks = self.accelerator.num_processes if train else 1
        rank = self.accelerator.process_index if train else 0
        return batches(views, collate, start, self.run.workers, rank, ranks, stop)

    def _source(self, stage: Stage, split: str, seed: int) -> Source:
        key = (stage.name, split, seed)
        if key not in self.sources:
            self.sources[key] = open_source(self.run, self.model.config, stage, split, seed)
        return self.sources[key]

    def _start_weights(self, resumed: dict[str, Any] | None) -> None:
        """Prepare weights at a run's beginning; a resumed stage has that behind it."""
        if resumed is None and self.run.high_pass_start and not self.position.stage:
            network = self.model.network
            start_forensic(network, self._windows(network.config.vision.image_size))

    def _windows(self, side: int) -> Tensor:
        """Sixteen normalised windows (16, 3, side, side) of the photos."""
        library = PhotoLibrary(given(self.run.photos), "train", self.run.cache or default_cache())
        windows = TraceSource(library, self.run.seed, side)
        return normalise(torch.stack([torch.from_numpy(windows.draw(number).pixels) for number in range(16)]))

    def _refuse_nan(self, result: Result) -> None:
        if not bool(torch.isfinite(result.loss)):
            terms = {name: float(term) for name, term in result.terms.items()}
            raise TrainingError(
                f"step {self.position.step}: the loss is {float(result.loss)} ({terms}); lower the rate"
            )

    def _note_terms(self, stage: Stage, sums: dict[str, Tensor], length: float, seconds: float) -> None:
        count_ = LOG_EVERY * stage.accumulate
        pictures = LOG_EVERY * stage.batch * stage.accumulate * self.accelerator.num_processes
        terms = {name: float(value) / count_ for name, value in sums.items()}
        self._note(pictures=self.position.pictures, terms=terms, gradient=length, per_second=pictures / seconds)

    def _note(self, **event: Any) -> None:
        if self.accelerator.is_main_process:
            stamped = {"stage": self.run.stages[self.position.stage].name, "step": self.position.step, **event}
            append_event(self.folder / "log.jsonl", stamped)
            log.info("training", **stamped)

    def _save(self, weights: MasterWeights) -> None:
        if not self.accelerator.is_main_process:
            return
        network: dict[str, Tensor] = self.model.network.state_dict()
        state = {
            "position": asdict(self.position),
            "network": network,
            "weights": weights.state(),
            "rng": torch.get_rng_state(),
        }
        write_whole(self.folder / "last.pt", state)

    def _load(self) -> dict[str, Any] | None:
        path = self.folder / "last.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        self.position = Position(**state["position"])
        stage = self.run.stages[self.position.stage]
        held = {name: value for name, value in state["network"].items() if ".base." not in name}
        if not stage.lora_rank:
            self.model.network.load_state_dict(held)
        elif len(held) != len(state["network"]):
            plain = {name.replace(".base.", "."): value for name, value in state["network"].items()}
            own = self.model.network.state_dict()
            self.model.network.load_state_dict({name: plain[name] for name in own})
        return state

    def _save_checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        where = self.folder / "checkpoint"
        trained = {"run": self.run.name, "pictures": self.position.pictures, "seed": self.run.seed}
        self.model.metadata = replace(self.model.metadata, name=self.run.name, training=trained)
        try:
            self.model.save_pretrained(where, max_shard_bytes=PIECE_BYTES)
        except OSError as error:
            raise TrainingError(f"{where}: cannot be written: {error.strerror or error}") from error

    def _prepare_folder(self) -> None:
        description = json.dumps(asdict(self.run), default=str, indent=1)
        path = self.folder / "run.json"
        if path.exists() and path.read_text(encoding="utf-8") != description:
            raise TrainingError(f"{self.folder}: holds another run ({path}); give another folder, or the same settings")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(description, encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"{self.folder}: cannot be written: {error.strerror or error}") from error


def build_model(run: Run) -> DeFakerOne:
    """Load the checkpoint to start from, or build a preset with random weights."""
    if run.start is not None:
        model = DeFakerOne.from_pretrained(run.start)
        model.config = model.network.config = _tiled(model.config, run)
        return model
    if run.preset not in PRESETS:
        raise SettingsError(f"preset {run.preset!r} is unknown; there are {', '.join(sorted(PRESETS))}")
    config = _tiled(PRESETS[run.preset], run)
    return DeFakerOne.from_config(config, run.tokenizer or TOKENIZER, seed=run.seed)


def _tiled(config: DeFakerOneConfig, run: Run) -> DeFakerOneConfig:
    return config if run.max_tiles is None else replace(config, max_tiles=run.max_tiles)
