"""What does the fast path have to beat? The same model, run the way the reference code runs it.

One image at a time; `generate()` token by token until [SEG]; the verdict from the first step's logits over the whole
vocabulary; SAM2's image encoder, mask decoder and memory encoder for every image; torch's own attention everywhere.
Same weights, same results.
"""

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import LlamaForCausalLM

from worker.defakerone import DeFakerOne
from worker.defakerone.model import native_config


class Straightforward:
    """The reference's way of running a DeFakerOne."""

    def __init__(self, model: DeFakerOne) -> None:
        self.model, self.network = model, model.network
        self.language = _with_plain_attention(model)

    @torch.inference_mode()
    @patch("worker.defakerone.attention._blocks_pay", lambda _: False)
    def detect(self, image: Image.Image) -> tuple[float, Tensor]:
        """Return S_tamper and the mask (height, width) of one image."""
        prepared = self.model.preprocess(image)
        place, dtype = self.model.device, self.model.dtype
        tiles = self.network.embed_tiles(prepared.pixel_values.to(place))
        ids = torch.tensor([self.model.prompt.ids(len(tiles), suffix=False)], device=place)
        embeds = self.network.embed_tokens(ids, tiles)
        score, seg = self._answer(embeds)
        square = prepared.sam_pixel_values.to(place, dtype)
        features = self.network.grounding.encode(square)
        masks = self.network.grounding.decode(features, self.network.seg_projection(seg))
        low = masks.low_res_logits.float()[None]  # (1, 1, S/4, S/4)
        self._remember(features.s16, low)
        side = self.model.config.grounding.image_size
        full = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        return score, F.interpolate(full, prepared.size, mode="bilinear", align_corners=False)[0, 0] > 0

    def _answer(self, embeds: Tensor) -> tuple[float, Tensor]:
        """Generate until [SEG]; return the score and the state (1, dim) of the [SEG] token.

        Random or stubborn weights may never say [SEG]; then generation stops at the length of the configured answer,
        and [SEG] is fed as one more step.
        """
        prompt, config = self.model.prompt, self.model.config.language
        out: Any = self.language.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            max_new_tokens=max(len(prompt.suffix) - 1, 1),
            do_sample=False,
            eos_token_id=[prompt.seg_id, config.eos_token_id],
            pad_token_id=config.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        words = out.logits[0][0, list(self.model.word_ids)].double().softmax(0)
        last = torch.tensor([[prompt.seg_id]], device=embeds.device)
        state = self.language.model(input_ids=last, past_key_values=out.past_key_values).last_hidden_state[:, -1]
        return float(words[:4].sum()), state

    def _remember(self, embedding: Tensor, low: Tensor) -> None:
        """Run the memory encoder as SAM2's video code does, though a single image has no use for it."""
        sam, side = self.network.grounding, self.model.config.grounding.image_size
        if sam.memory_encoder is None:
            return
        mask = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        scaled = torch.sigmoid(mask) * 20.0 - 10.0
        sam.memory_encoder(embedding, scaled.to(embedding.dtype), skip_mask_sigmoid=True)


def _with_plain_attention(model: DeFakerOne) -> Any:
    """Return the language model for `generate()`, on transformers' own attention, sharing the weights."""
    native: Any = native_config(model.config).text_config
    native._attn_implementation = "sdpa"
    with torch.device("meta"):
        language: Any = LlamaForCausalLM(native)
    language.model.load_state_dict(model.network.language_model.state_dict(), assign=True)
    language.model.rotary_emb = model.network.language_model.rotary_emb
    language.lm_head = model.network.lm_head
    return language.eval()
