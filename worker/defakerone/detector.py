"""Is this image forged, and where? The public face of the library.

    model = DeFakerOne.from_pretrained(path, device="cpu", dtype=torch.float32)
    prepared = model.preprocess(upright_image)      # pixel_values, sam_pixel_values, size
    output = model.forward(prepared.pixel_values, input_ids, prepared.sam_pixel_values)     # every tensor of the paper

For training: `DeFakerOne.from_config(config, tokenizer_dir)` gives random weights, `model.network` is the nn.Module
(see `model.py` for its batched, differentiable forward), `model.prompt` the token ids around an image,
`model.tokenizer` the vocabulary, and `save_pretrained` writes what `from_pretrained` reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from worker.defakerone import checkpoint
from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.initialisation import initialise
from worker.defakerone.metadata import Metadata
from worker.defakerone.model import ModelOutput, Network
from worker.defakerone.preprocessing import PREPROCESS_VERSION, Prepared, preprocess
from worker.defakerone.prompt import Prompt, answer_word_ids, build_prompt
from worker.defakerone.tokenizer import IMAGE_CONTEXT, SEGMENTATION, Tokenizer

UNSAVED = "unsaved"  # the weights' digest of a model that was never on disk


class DeFakerOne:
    """The model with its vocabulary, prompt and metadata."""

    def __init__(self, network: Network, tokenizer: Tokenizer, metadata: Metadata, weights_sha256: str) -> None:
        self.network, self.tokenizer, self.metadata = network, tokenizer, metadata
        self.config = network.config
        self.weights_sha256 = weights_sha256
        self.prompt: Prompt = build_prompt(tokenizer, metadata.prompt, self.config.tokens_per_tile)
        self.word_ids = answer_word_ids(tokenizer)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> DeFakerOne:
        """Load a checkpoint directory (Sa2VA's layout, ours included), without executing anything in it.

        Raises WeightsMissingError, CheckpointError (naming every tensor that is missing, surplus or misshapen) or
        TokenizerError.
        """
        loaded = checkpoint.load(Path(path), device, dtype)
        return cls(loaded.network, loaded.tokenizer, loaded.metadata, loaded.weights_sha256)

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

    def with_metadata(self, **changes: object) -> DeFakerOne:
        """Return the same weights under other metadata: `name`, `prompt`, `calibration`, `guard`, `training`."""
        return DeFakerOne(self.network, self.tokenizer, replace(self.metadata, **changes), self.weights_sha256)  # type: ignore[arg-type]

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
