"""Which numbers define a training run?

A run is a TOML file: the model to start from, the data, and stages that follow one another. Defaults are the paper's
(design: 11.2) where it states them and Sa2VA's where it does not. Unknown keys are refused by name.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from worker.defakerone.training.forgery.synthesis import Recipe

PARTS = ("vision", "connector", "language", "head", "projection", "grounding")
Branch = Literal["mask", "language", "joint"]
Source = Literal["traces", "forgeries", "manifest"]


class SettingsError(ValueError):
    """A training configuration that cannot be run; the message names the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run.

    `branch` says what is computed: the mask branch alone under a constant prompt, the language side alone, or both
    joined by [SEG]. `parts` are trained, the rest is frozen; `lora_rank` above 0 trains adapters in place of the
    language model's own weights. Rates are peaks of a linear warm-up and cosine decay.
    """

    name: str
    branch: Branch = "joint"
    source: Source = "forgeries"
    parts: tuple[str, ...] = PARTS
    steps: int = 1000
    minutes: float = 0.0  # ends the stage, and its decay, by the clock where that comes first; 0 never
    batch: int = 2
    accumulate: int = 1
    views: int = 1  # rows drawn from one synthesised picture, to spread its cost
    repeat: int = 1  # how often a synthesised picture comes back, among others, in another view
    replay: int = 1  # up to how often a batch is shown from the device's memory while the next one is being drawn
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices between hidden states, AdamW for the rest
    rate: float = 1e-5
    language_rate: float | None = None
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    lambda_text: float = 1.0
    lambda_seg: float = 1.0
    lambda_auxiliary: float = 0.0  # dense heads, correspondences and traces: for training from scratch only
    correspondence: float = 0.1  # weight, within lambda_auxiliary, of finding where a copied place came from
    positive_weight: float = 1.0
    recipe: Recipe | None = None  # what to forge, where it is not the run's recipe
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    square: int | None = None  # side of the mask branch's view; the model's own by default
    authentic: float = 0.0  # share of trace windows that show one history alone; forgeries go by their recipe
    crop: float = 0.0  # chance that a smaller view is a window instead of the whole picture
    tiles: int | None = None  # show at most so many tiles; all by default
    marker: Literal["prompt", "answer"] = "prompt"  # where [SEG] stands: after the prompt, or behind a positive answer
    validate_every: int = 500
    patience: int = 0  # validations without a better score before the stage ends; 0 never

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise SettingsError(f"stage {self.name!r}: parts {sorted(unknown)} are unknown; there are {PARTS}")
        if self.batch % self.views:
            raise SettingsError(f"stage {self.name!r}: batch {self.batch} is no multiple of views {self.views}")
        if min(self.steps, self.batch, self.accumulate, self.views, self.repeat, self.replay) < 1:
            raise SettingsError(
                f"stage {self.name!r}: steps, batch, accumulate, views, repeat and replay must be at least 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A whole run. Exactly one of `preset` (random weights) and `start` (a checkpoint) says where it begins."""

    name: str
    stages: tuple[Stage, ...]
    preset: str = ""
    start: Path | None = None
    tokenizer: Path | None = None
    photos: Path | None = None
    manifest: Path | None = None
    labelled: Path | None = None  # labelled pictures to mix among forgeries
    labelled_share: float = 0.0
    cache: Path | None = None
    seed: int = 0
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    ema: float = 0.998
    workers: int = 2
    threads: int | None = None
    validation_pictures: int = 160
    calibration_pictures: int = 0  # held-back pictures that fit calibration and guard at the end; 0 leaves both out
    save_minutes: float = 4.0
    high_pass_start: bool = False
    limit: int = 0  # train on so many photos or entries only, always the same ones; 0: on all
    domains: tuple[str, ...] = ()  # train on these domains of a manifest only; all by default
    max_tiles: int | None = None  # another number of tiles than the model's own
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Refuse contradictions before anything is loaded."""
        if bool(self.preset) == (self.start is not None):
            raise SettingsError("give either preset (random weights) or start (a checkpoint), not both")
        if not self.stages:
            raise SettingsError("no [[stage]]: a run needs at least one")
        for stage in self.stages:
            needed = "manifest" if stage.source == "manifest" else "photos"
            if getattr(self, needed) is None:
                raise SettingsError(f'stage {stage.name!r} reads {stage.source}: give {needed} = "..." or --{needed}')


def read_run(config: str, overrides: Mapping[str, Any] | None = None) -> Run:
    """Read a bundled configuration by name, or a TOML file; `overrides` replace top-level keys."""
    path = Path(config)
    try:
        bundled = files(__package__) / "configs" / f"{config}.toml"
        text = path.read_text(encoding="utf-8") if path.suffix == ".toml" else bundled.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise SettingsError(f"{config}: neither a .toml file nor one of {', '.join(bundled_runs())}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config}: no TOML ({error})") from error
    recipe_row = data.pop("recipe", {})
    recipe = _build(Recipe, _recipe_row(recipe_row), "recipe")
    stages = tuple(_stage(row, recipe_row) for row in data.pop("stage", []))
    top = {**data, **{key: value for key, value in (overrides or {}).items() if value is not None}}
    paths = {"start", "tokenizer", "photos", "manifest", "labelled", "cache"}
    typed = {key: Path(value) if key in paths else value for key, value in top.items()}
    run: Run = _build(Run, {**typed, "stages": stages, "recipe": recipe}, config)
    return run


def choose_stages(run: Run, names: str | None) -> Run:
    """Keep the stages named in a comma-separated list, in the run's own order; all of them without a list."""
    if names is None:
        return run
    wanted = [name.strip() for name in names.split(",")]
    known = [stage.name for stage in run.stages]
    if unknown := [name for name in wanted if name not in known]:
        raise SettingsError(f"no stage {', '.join(unknown)}; the configuration has {', '.join(known)}")
    return replace(run, stages=tuple(stage for stage in run.stages if stage.name in wanted))


def bundled_runs() -> list[str]:
    """Name the configurations that ship with the product."""
    return sorted(item.name.removesuffix(".toml") for item in (files(__package__) / "configs").iterdir())


def _stage(row: dict[str, Any], run_recipe: dict[str, Any]) -> Stage:
    """Build a stage; the keys of its own recipe replace the run's."""
    own = row.pop("recipe", None)
    recipe = _build(Recipe, _recipe_row({**run_recipe, **own}), "stage.recipe") if own else None
    stage: Stage = _build(Stage, {**row, "recipe": recipe}, "stage")
    return stage


def _recipe_row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "domains": tuple(row["domains"].items())} if "domains" in row else row


def _build(kind: type[Any], row: Mapping[str, Any], where: str) -> Any:
    known = {item.name for item in fields(kind)}
    if unknown := set(row) - known:
        raise SettingsError(f"{where}: unknown keys {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
    except TypeError as error:
        raise SettingsError(f"{where}: {error}") from error


def given(path: Path | None) -> Path:
    """Return a path that a stage needs."""
    if path is None:
        raise SettingsError("a path that this stage needs is not given")
    return path
