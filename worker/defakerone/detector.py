"""Is this image forged, and where? The public face of the library.

    model = DeFakerOne.from_pretrained(path, device="cpu", dtype=torch.float32)
    for detection in model.detect([upright_image, ...]): detection.score, detection.label, detection.mask, ...

`detect` is three steps, which a pipeline may overlap on its own threads:

    prepared = model.preprocess(upright_image)      # CPU, any thread: pixel_values, sam_pixel_values, size
    inferences = model.infer([prepared, ...])       # the device, one thread at a time; raises for the batch as a whole
    detection = model.finish(prepared, inference)   # CPU, any thread: mask and heat map at full size, regions, reasons

`model.versions` names model, weights and preprocessing for the record. `model.warm()` runs every shape once.
`model.forward(pixel_values, input_ids, sam_pixel_values)` gives every intermediate tensor.

For training: `DeFakerOne.from_config(config, tokenizer_dir)` gives random weights, `model.network` is the nn.Module
(see `model.py` for its batched, differentiable forward), `model.prompt` the token ids around an image,
`model.tokenizer` the vocabulary, and `save_pretrained` writes what `from_pretrained` reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from worker.defakerone import checkpoint
from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.inference import Engine
from worker.defakerone.initialisation import initialise
from worker.defakerone.metadata import Metadata
from worker.defakerone.model import ModelOutput, Network
from worker.defakerone.preprocessing import PREPROCESS_VERSION, Prepared, preprocess
from worker.defakerone.prompt import Prompt, answer_word_ids, build_prompt
from worker.defakerone.settings import InferenceSettings
from worker.defakerone.tokenizer import IMAGE_CONTEXT, SEGMENTATION, Tokenizer
from worker.defakerone.verdict import Detection, Inference, conclude

_THREADS = min(16, os.cpu_count() or 1)  # Pillow, numpy and OpenCV release the interpreter lock
UNSAVED = "unsaved"  # the weights' digest of a model that was never on disk


class DeFakerOne:
    """The model with its vocabulary, prompt and metadata."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        metadata: Metadata,
        weights_sha256: str,
        settings: InferenceSettings | None = None,
    ) -> None:
        self.network, self.tokenizer, self.metadata = network, tokenizer, metadata
        self.config = network.config
        self.weights_sha256 = weights_sha256
        self.settings = settings or InferenceSettings()
        self.prompt: Prompt = build_prompt(tokenizer, metadata.prompt, self.config.tokens_per_tile)
        self.word_ids = answer_word_ids(tokenizer)
        self._engine = Engine(network, self.prompt, self.word_ids, self.settings)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        settings: InferenceSettings | None = None,
    ) -> DeFakerOne:
        """Load a checkpoint directory (Sa2VA's layout, ours included), without executing anything in it.

        Raises WeightsMissingError, CheckpointError (naming every tensor that is missing, surplus or misshapen) or
        TokenizerError.
        """
        loaded = checkpoint.load(Path(path), device, dtype)
        return cls(loaded.network, loaded.tokenizer, loaded.metadata, loaded.weights_sha256, settings)

    @classmethod
    def from_config(
        cls, config: DeFakerOneConfig, tokenizer_dir: str | Path, metadata: Metadata | None = None, *, seed: int = 0
    ) -> DeFakerOne:
        """Build with random weights, float32 on the CPU, from a directory that holds a tokenizer.

        The vocabulary is extended by the tokens of Sa2VA that it lacks, and `config.language.vocab_size` follows it.
        """
        tokenizer = Tokenizer.from_directory(Path(tokenizer_dir)).with_sa2va_tokens()
        config = config.with_vocabulary(max(config.language.vocab_size, tokenizer.size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(config, tokenizer.id_of(IMAGE_CONTEXT), tokenizer.id_of(SEGMENTATION))
            initialise(network)
        return cls(network.eval(), tokenizer, metadata or Metadata(), UNSAVED)

    def save_pretrained(
        self, path: str | Path, *, dtype: torch.dtype = torch.bfloat16, max_shard_bytes: int | None = None
    ) -> None:
        """Write config, weights, tokenizer and assay.json; `max_shard_bytes` cuts the weights into files."""
        checkpoint.save(
            Path(path), self.network, self.tokenizer, self.metadata, dtype=dtype, max_shard_bytes=max_shard_bytes
        )

    def with_metadata(self, **changes: Any) -> DeFakerOne:
        """Return the same weights under other metadata: `name`, `prompt`, `calibration`, `guard`, `training`."""
        metadata = replace(self.metadata, **changes)
        return DeFakerOne(self.network, self.tokenizer, metadata, self.weights_sha256, self.settings)

    def with_settings(self, **changes: Any) -> DeFakerOne:
        """Return the same weights run otherwise: the fields of InferenceSettings."""
        settings = replace(self.settings, **changes)
        return DeFakerOne(self.network, self.tokenizer, self.metadata, self.weights_sha256, settings)

    @property
    def versions(self) -> dict[str, str]:
        """What a result must name to be reproducible: `model`, `weights_sha256`, `preprocess`."""
        return {
            "model": self.metadata.name,
            "weights_sha256": self.weights_sha256,
            "preprocess": PREPROCESS_VERSION,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.network.dtype

    def preprocess(self, image: Image.Image) -> Prepared:
        """Turn an upright PIL image into the two inputs; CPU only, safe on any thread. EXIF is never read."""
        return preprocess(image, self.config)

    def infer(self, prepared: Sequence[Prepared]) -> list[Inference]:
        """Run the network on a batch of unlike images; results in the same order.

        The batch succeeds or raises as a whole (out of memory, a broken device): split it to find the culprit.
        """
        return self._engine.run(prepared)

    def finish(self, prepared: Prepared, inference: Inference) -> Detection:
        """Interpret one inference: verdict, mask and heat map at the image's size. CPU only, safe on any thread.

        Raises InferenceError where the network gave no finite number.
        """
        side = self.config.grounding.image_size
        return conclude(inference, prepared.size, side, self.metadata.calibration, self.metadata.guard)

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        """Screen upright PIL images of any size and mode, in one batch, in order."""
        with ThreadPoolExecutor(_THREADS) as pool:
            if len(images) == 1:  # leaves threads idle, which several images fill by themselves
                prepared = [preprocess(images[0], self.config, beside=pool)]
            else:
                prepared = list(pool.map(self.preprocess, images))
            return list(pool.map(self.finish, prepared, self.infer(prepared)))

    def warm(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Run every tile count once at these batch sizes, so that no upload pays for compilation or allocation."""
        self._engine.warm(batch_sizes)

    @torch.inference_mode()
    def forward(self, pixel_values: Tensor, input_ids: Tensor, sam_pixel_values: Tensor) -> ModelOutput:
        """Run one image, or a batch padded on the right, and return every intermediate result.

        `pixel_values` (tiles, 3, s, s), `input_ids` (1, tokens) = prompt and answer suffix,
        `sam_pixel_values` (1, 3, S, S); a batch concatenates its tiles and stacks the others.
        For gradients call `model.network` itself.
        """
        place = self.device
        output: ModelOutput = self.network(pixel_values.to(place), input_ids.to(place), sam_pixel_values.to(place))
        return output

    __call__ = forward
