"""What does the fast path have to beat? The same model, run the way the reference code runs it.

One image at a time; `generate()` token by token until [SEG] or the end of the turn; the verdict from the first step's
logits over the whole vocabulary; SAM2's image encoder, mask decoder and memory encoder for every image; sam2's own
modules and torch's own attention everywhere. Same weights, same results.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleAttention, MultiScaleBlock
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import Attention
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.models.internvl.modeling_internvl import InternVLVisionLayer
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from worker.defakerone import DeFakerOne
from worker.defakerone.grounding import DecoderAttention
from worker.defakerone.hiera import FastBlock, FastHiera, LearningAttention
from worker.defakerone.linear import FusedLinear
from worker.defakerone.model import Network, native_config
from worker.defakerone.norms import FastRMSNorm
from worker.defakerone.tokenizer import TURN_END
from worker.defakerone.vision import FastVisionLayer

ANSWER_TOKENS = 64  # the reference allows 2048; the answers that this model learns have about twelve
_OWN: dict[type, type] = {
    FusedLinear: nn.Linear,
    FastVisionLayer: InternVLVisionLayer,
    FastRMSNorm: LlamaRMSNorm,
    FastBlock: MultiScaleBlock,
    FastHiera: Hiera,
    LearningAttention: MultiScaleAttention,
    DecoderAttention: Attention,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the straightforward way says about one image."""

    score: float  # S_tamper
    mask: Tensor  # (height, width), bool
    ids: list[int]  # the generated answer


class Straightforward:
    """The reference's way of running a DeFakerOne. `answer_tokens`: generation stops there at the latest."""

    def __init__(self, model: DeFakerOne, answer_tokens: int = ANSWER_TOKENS) -> None:
        self.model, self.answer_tokens = model, answer_tokens
        self.network = _with_sam2s_own_modules(model)
        self.language = _for_generation(model)
        self._stops = [model.prompt.seg_id, model.tokenizer.id_of(TURN_END), model.config.language.eos_token_id]

    @torch.inference_mode()
    def detect(self, image: Image.Image) -> Answer:
        """Screen one image."""
        prepared = self.model.preprocess(image)
        place, dtype = self.model.device, self.model.dtype
        tiles = self.network.embed_tiles(prepared.pixel_values.to(place))
        ids = torch.tensor([self.model.prompt.ids(len(tiles), suffix=False)], device=place)
        score, seg, answer = self._answer(self.network.embed_tokens(ids, tiles))
        features = self.network.grounding.encode(prepared.sam_pixel_values.to(place, dtype))
        row = torch.zeros(len(seg), dtype=torch.long, device=place)
        masks = self.network.grounding.decode(features.rows(row), self.network.seg_projection(seg))
        low = masks.low_res_logits.float().amax(0)[None, None]  # several [SEG]s unite
        self._remember(features.s16, low)
        side = self.model.config.grounding.image_size
        full = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        logits = F.interpolate(full, prepared.size, mode="bilinear", align_corners=False)
        return Answer(score, logits[0, 0] > 0, answer)

    def _answer(self, embeds: Tensor) -> tuple[float, Tensor, list[int]]:
        """Generate; return the score, the states of the [SEG] tokens (n, dim), and the answer's ids.

        A checkpoint says behind which words its [SEG] was trained to stand. Those are fed behind the prompt's cached
        keys: a step or two, and the mask does not depend on whether the model felt like saying [SEG].
        """
        out: Any = self.language.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            max_new_tokens=self.answer_tokens,
            do_sample=False,
            eos_token_id=self._stops,
            pad_token_id=self.model.config.language.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        words = out.logits[0][0, list(self.model.word_ids)].double().softmax(0)
        keys, suffix = out.past_key_values, torch.tensor([self.model.prompt.suffix], device=embeds.device)
        surplus = keys.get_seq_length() - embeds.shape[1]
        if surplus:
            keys.crop(-surplus)
        states = self.language.model(input_ids=suffix, past_key_values=keys).last_hidden_state[0]
        return float(words[:4].sum()), states[suffix[0] == self.model.prompt.seg_id], out.sequences[0].tolist()

    def _remember(self, embedding: Tensor, low: Tensor) -> None:
        """Run the memory encoder as SAM2's video code does, though a single image has no use for it."""
        sam, side = self.network.grounding, self.model.config.grounding.image_size
        if sam.memory_encoder is None:
            return
        mask = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        scaled = torch.sigmoid(mask) * 20.0 - 10.0
        sam.memory_encoder(embedding, scaled.to(embedding.dtype), skip_mask_sigmoid=True)


def _with_sam2s_own_modules(model: DeFakerOne) -> Network:
    """Return the network as the libraries have it, sharing the weights."""
    config, prompt = model.config, model.prompt
    with torch.device("meta"):
        network = Network(config, prompt.image_id, prompt.seg_id)
    network.load_state_dict(model.network.state_dict(), assign=True)
    network.vision_tower.config._attn_implementation = "sdpa"
    for module in network.modules():
        own = _OWN.get(type(module))
        if own is not None:
            module.__class__ = own
    width = config.grounding.d_model
    network.grounding.image_encoder.neck.position_encoding = PositionEmbeddingSine(width, warmup_cache=False)
    return network.eval()


def _for_generation(model: DeFakerOne) -> Any:
    """Return the language model for `generate()`, on transformers' own attention, sharing the weights."""
    native: Any = native_config(model.config).text_config
    native._attn_implementation = "sdpa"
    with torch.device("meta"):
        language: Any = LlamaForCausalLM(native)
    language.model.load_state_dict(model.network.language_model.state_dict(), assign=True)
    language.model.rotary_emb = model.network.language_model.rotary_emb
    language.lm_head.weight = model.network.lm_head.weight
    return language.eval()
