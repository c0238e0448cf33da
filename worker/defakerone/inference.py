"""How does a batch of unlike images go through the network once, with no work done twice?

1. Tiles of all images in one run of the vision tower, in chunks of one size.
2. One pass of the language model for images of like tile counts: prompt and answer suffix together, because the verdict
   (last prompt position) and the [SEG] state come out of the same causal pass (design: 9). No generation loop. On a
   CPU, what stands before the image is computed once for given weights (`prefix.py`).
3. The language head only at eight rows of its matrix, in float32, at one position an image.
4. SAM2's image encoder in chunks, its mask decoder once an image, no memory encoder.
5. One copy from the device to the host for the whole batch.

The language branch (1, 2) and SAM2's encoder need nothing of each other. On a CPU they, and parts of the batch, run on
cores of their own (`cores.py`). On a GPU nothing waits for it before that copy, so that work is always queued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worker.defakerone.batching import Group, chunks, group_rows
from worker.defakerone.compiling import compiled_twin
from worker.defakerone.cores import Cores, First, Second, share_out
from worker.defakerone.grounding import GroundingFeatures
from worker.defakerone.model import Network
from worker.defakerone.prefix import PrefixKeys, weights_version
from worker.defakerone.preprocessing import Prepared, blank, normalise
from worker.defakerone.prompt import Prompt
from worker.defakerone.settings import InferenceSettings, PassSizes
from worker.defakerone.tiling import candidate_grids
from worker.defakerone.verdict import Inference, tamper_score


@dataclass(frozen=True, slots=True)
class LanguageStates:
    """The two states that matter of every image's row."""

    verdict: Tensor  # (images, dim), at the last prompt position
    seg: Tensor  # (images, [SEG] tokens, dim)


@dataclass(frozen=True, slots=True)
class _Squares:
    """Some images of a batch (by index) and what SAM2's encoder made of them."""

    indices: tuple[int, ...]
    features: GroundingFeatures


class Engine:
    """Runs batches on one network with one prompt. Keeps the prompt's prefix, and nothing of any image."""

    def __init__(self, network: Network, prompt: Prompt, word_ids: Sequence[int], settings: InferenceSettings) -> None:
        self.network = compiled_twin(network) if settings.compile else network
        self.prompt, self.settings = prompt, settings
        self._word_ids = torch.tensor(word_ids)
        self._suffix_seg = [at for at, token in enumerate(prompt.suffix) if token == prompt.seg_id]
        self._prefix: tuple[tuple[int, int], PrefixKeys] | None = None
        self._cores = Cores()

    @torch.inference_mode()
    def run(self, prepared: Sequence[Prepared]) -> list[Inference]:
        """Run a batch; results come in the order of `prepared`."""
        if not prepared:
            return []
        if self.settings.mask_mode.above == 0:  # no image's mask waits for its score
            states, squares = self._run_branches(prepared, range(len(prepared)))
            words, wanted = self.word_logits(states.verdict), list(range(len(prepared)))
        else:
            states, _ = self._run_branches(prepared, ())
            words = self.word_logits(states.verdict)
            wanted = self._wanted(words)
            squares, _ = self._run_tasks(self._encodings(prepared, wanted), ())
        masks = self._decode_all(squares, states.seg) if wanted else None
        return self._unpack(words, states.verdict, masks, wanted)

    def warm(self, batch_sizes: Sequence[int]) -> None:
        """Run blank images of every tile count at every batch size: each shape that `run` can meet, once."""
        config = self.network.config
        counts = {cols * rows for cols, rows in candidate_grids(config.min_tiles, config.max_tiles)}
        for tiles in sorted({n + int(config.use_thumbnail and n > 1) for n in counts}):
            for size in batch_sizes:
                self.run([blank(config, tiles)] * size)

    def language_states(self, prepared: Sequence[Prepared]) -> LanguageStates:
        """Return the verdict and [SEG] states of every image."""
        counts = [len(item.tiles_u8) for item in prepared]
        embeds = self.vision_embeds(prepared)
        before, after = self._text_embeds(embeds.device)
        prefix = self._prefix_keys(before)
        lead = before if prefix is None else before[:0]
        starts = np.cumsum([0, *counts]).tolist()
        verdicts: list[Tensor] = [embeds] * len(counts)
        segs: list[Tensor] = [embeds] * len(counts)
        computed = len(before) - len(lead)  # positions that no row repeats
        for group in self._groups(counts):
            rows = [torch.cat([lead, embeds[starts[i] : starts[i + 1]].flatten(0, 1), after]) for i in group.indices]
            hidden = self._run_rows(rows, group.length - computed, prefix)
            for row, index in enumerate(group.indices):
                at = self.prompt.verdict_position(counts[index]) - computed
                verdicts[index] = hidden[row, at]
                segs[index] = torch.stack([hidden[row, at + 1 + seg] for seg in self._suffix_seg])
        return LanguageStates(torch.stack(verdicts), torch.stack(segs))

    def vision_embeds(self, prepared: Sequence[Prepared]) -> Tensor:
        """Return the language embeddings of all tiles, one image after the other: (all tiles, tokens, dim)."""
        tiles = [tile for item in prepared for tile in item.tiles_u8]
        parts = chunks(len(tiles), self._sizes.vision_chunk)
        return torch.cat([self.network.embed_tiles(normalise(self._to_device(torch.stack(tiles[p])))) for p in parts])

    def word_logits(self, verdict: Tensor) -> Tensor:
        """Return the eight words' logits (images, 8): eight rows of the head, in float32 whatever the weights are."""
        rows = self.network.lm_head.weight[self._word_ids.to(verdict.device, non_blocking=True)]
        return verdict.float() @ rows.float().T

    def encode(self, prepared: Sequence[Prepared]) -> GroundingFeatures:
        """Return what SAM2's encoder makes of the images' squares."""
        squares = self._to_device(torch.cat([item.sam_u8 for item in prepared]))
        return self.network.grounding.encode(normalise(squares))

    def decode(self, features: GroundingFeatures, seg: Tensor) -> Tensor:
        """Turn [SEG] states (images, n, dim) into the chosen masks' logits (images, S/4, S/4); several [SEG]s unite."""
        prompts = self.network.seg_projection(seg)  # (images, n, d)
        images, segs = prompts.shape[:2]
        rows = torch.arange(images, device=prompts.device).repeat_interleave(segs)
        masks = self.network.grounding.decode(features if segs == 1 else features.rows(rows), prompts.flatten(0, 1))
        return masks.low_res_logits.float().view(images, segs, *masks.multimask_logits.shape[-2:]).amax(dim=1)

    def _run_branches(
        self, prepared: Sequence[Prepared], wanted: Sequence[int]
    ) -> tuple[LanguageStates, list[_Squares]]:
        """Read all images, and encode the squares of the wanted ones beside that."""
        parts = share_out([len(item.tiles_u8) for item in prepared], self._spread)
        reading = [partial(self.language_states, [prepared[index] for index in part]) for part in parts]
        squares, states = self._run_tasks(self._encodings(prepared, wanted), reading)
        if len(states) == 1:
            return states[0], squares
        order = torch.tensor([index for part in parts for index in part]).argsort()
        joined = (torch.cat([getattr(state, name) for state in states])[order] for name in ("verdict", "seg"))
        return LanguageStates(*joined), squares

    def _encodings(self, prepared: Sequence[Prepared], wanted: Sequence[int]) -> list[Callable[[], _Squares]]:
        size = min(self._sizes.grounding_chunk, -(-len(wanted) // self._spread)) or 1
        parts = [tuple(wanted[part]) for part in chunks(len(wanted), size)]
        return [partial(self._encode_part, prepared, part) for part in parts]

    def _encode_part(self, prepared: Sequence[Prepared], indices: tuple[int, ...]) -> _Squares:
        return _Squares(indices, self.encode([prepared[index] for index in indices]))

    def _decode_all(self, squares: Sequence[_Squares], seg: Tensor) -> Tensor:
        rows = ([seg[index] for index in square.indices] for square in squares)  # a list as index would be a copy
        tasks = [
            partial(self.decode, square.features, torch.stack(row)) for square, row in zip(squares, rows, strict=True)
        ]
        return torch.cat(self._run_tasks(tasks, ())[0])

    def _run_tasks(
        self, first: Sequence[Callable[[], First]], second: Sequence[Callable[[], Second]]
    ) -> tuple[list[First], list[Second]]:
        return self._cores.run(first, second, self._spread)

    @property
    def _sizes(self) -> PassSizes:
        return self.settings.pass_sizes(self.network.device.type)

    @property
    def _spread(self) -> int:
        """Over how many cores tasks are spread. A device is one, and compiled code wants to stay on its thread."""
        alone = self.network.device.type != "cpu" or self.settings.compile
        return 1 if alone else torch.get_num_threads()

    def _groups(self, counts: Sequence[int]) -> list[Group]:
        lengths = [self.prompt.length(tiles) for tiles in counts]
        return group_rows(lengths, self._sizes.language_positions, self.settings.padding_share)

    def _run_rows(self, rows: Sequence[Tensor], length: int, prefix: PrefixKeys | None) -> Tensor:
        """Run the language model over embedded rows (each: its length, dim), padded on the right to `length`."""
        padded = rows[0].new_zeros(len(rows), length, rows[0].shape[-1])
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return self._language_model(padded, prefix)

    def _prefix_keys(self, before: Tensor) -> PrefixKeys | None:
        """Return the prefix's keys and values; computed anew only where the weights have changed since.

        On a GPU none: its few positions cost less there than setting their keys before each row's own.
        """
        if self.network.device.type != "cpu" or self.settings.compile:
            return None
        model = self.network.language_model
        version = weights_version(model)
        if self._prefix is None or self._prefix[0] != version:
            self._prefix = (version, PrefixKeys.compute(model, before[None]))
        return self._prefix[1]

    def _text_embeds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        embed = self.network.language_model.embed_tokens
        before, after = self.prompt.prefix, (*self.prompt.question, *self.prompt.suffix)
        ids = torch.tensor([*before, *after]).to(device, non_blocking=True)
        return embed(ids[: len(before)]), embed(ids[len(before) :])

    def _language_model(self, embeds: Tensor, prefix: PrefixKeys | None = None) -> Tensor:
        model = self.network.language_model
        hidden: Tensor = model(inputs_embeds=embeds, past_key_values=prefix, use_cache=False).last_hidden_state
        return hidden

    def _wanted(self, words: Tensor) -> list[int]:
        """Return the indices of the images that get a mask. Only `above=X` must wait for the scores."""
        mode = self.settings.mask_mode
        if mode.above is None:
            return []
        return [index for index, row in enumerate(words.cpu().numpy()) if mode.wants(tamper_score(row))]

    def _unpack(self, words: Tensor, verdict: Tensor, masks: Tensor | None, wanted: Sequence[int]) -> list[Inference]:
        parts = [words.flatten(), verdict.float().flatten(), *([] if masks is None else [masks.flatten()])]
        host = torch.cat(parts).cpu().numpy()  # the batch's one copy to the host
        images, dim = verdict.shape
        logits = host[: images * 8].reshape(images, 8)
        state = host[images * 8 : images * (8 + dim)].reshape(images, dim)
        low = {} if masks is None else dict(zip(wanted, host[images * (8 + dim) :].reshape(masks.shape), strict=True))
        return [Inference(logits[i], state[i], low.get(i)) for i in range(images)]

    def _to_device(self, pixels: Tensor) -> Tensor:
        device = self.network.device
        return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels
