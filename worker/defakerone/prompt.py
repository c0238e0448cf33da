r"""Which tokens does the model read, and which of them are its answer?

    the prompt: <s><|im_start|>user\n<img>{<IMG_CONTEXT> x tokens}</img>\n{question}<|im_end|>\n<|im_start|>assistant\n
    the suffix: {answer with [SEG]}

The verdict is read at the prompt's last position, the mask prompt at [SEG]. Both come out of one forward pass, since
attention is causal: the suffix changes nothing before it (design: 9). Wording, system turn and separators belong to the
checkpoint, in `assay.json`, because the paper states none of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from worker.defakerone.errors import TokenizerError
from worker.defakerone.tokenizer import (
    BOS,
    IMAGE_CONTEXT,
    IMAGE_END,
    IMAGE_START,
    SEGMENTATION,
    TURN_END,
    TURN_START,
    Tokenizer,
)

# The paper's restricted vocabulary V (section on detection): the first four say "tampered".
AFFIRMATIVE: Final = ("Yes", "Yeah", "True", "Sure")
NEGATIVE: Final = ("No", "Not", "Never", "None")


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """The wording around image and question. `system` None: no system turn, Sa2VA's style."""

    question: str = "Has this picture been edited?"
    suffix: str = SEGMENTATION
    system: str | None = None
    separator: str = "\n"  # between `<|im_end|>` and the next turn; InternVL2's own style has none

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PromptConfig:
        """Read the `prompt` block of assay.json."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Write the `prompt` block of assay.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids around the image; the image's own tokens stand between `prefix` and `question`."""

    prefix: tuple[int, ...]  # BOS ... <img>: the same for every image and question
    question: tuple[int, ...]  # </img> ... assistant\n
    suffix: tuple[int, ...]  # the answer up to and including the last [SEG]; what follows it cannot matter
    image_id: int
    seg_id: int
    tokens_per_tile: int

    def ids(self, tiles: int, *, suffix: bool = True) -> list[int]:
        """Return the whole row for an image of `tiles` tiles, with the answer suffix or ending with the prompt."""
        image = [self.image_id] * (tiles * self.tokens_per_tile)
        return [*self.prefix, *image, *self.question, *(self.suffix if suffix else ())]

    def verdict_position(self, tiles: int) -> int:
        """Return the 0-based position whose logits are the first answer token's."""
        return len(self.prefix) + tiles * self.tokens_per_tile + len(self.question) - 1

    def length(self, tiles: int) -> int:
        """Return the length of the row with its suffix."""
        return self.verdict_position(tiles) + 1 + len(self.suffix)


def build_prompt(tokenizer: Tokenizer, config: PromptConfig, tokens_per_tile: int) -> Prompt:
    """Encode the wording once; raises TokenizerError for a missing token or a suffix without [SEG]."""
    seg_id = tokenizer.id_of(SEGMENTATION)
    system = "" if config.system is None else f"{TURN_START}system\n{config.system}{TURN_END}{config.separator}"
    before = tokenizer.encode(f"{system}{TURN_START}user\n{IMAGE_START}")
    after = tokenizer.encode(f"{IMAGE_END}\n{config.question}{TURN_END}{config.separator}{TURN_START}assistant\n")
    suffix = tokenizer.encode(config.suffix)
    if seg_id not in suffix:
        raise TokenizerError(f"the answer suffix {config.suffix!r} has no {SEGMENTATION}: there would be no mask")
    last = len(suffix) - suffix[::-1].index(seg_id)
    return Prompt(
        prefix=(tokenizer.id_of(BOS), *before),
        question=tuple(after),
        suffix=tuple(suffix[:last]),
        image_id=tokenizer.id_of(IMAGE_CONTEXT),
        seg_id=seg_id,
        tokens_per_tile=tokens_per_tile,
    )


def answer_word_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    r"""Return the ids of the eight words, affirmative first.

    Each must be one token where it follows the newline of `assistant\n`, so without a leading space; otherwise the
    restricted softmax would compare first halves of words. Raises TokenizerError naming the words that are not.
    """
    encoded = {word: tokenizer.encode(word) for word in (*AFFIRMATIVE, *NEGATIVE)}
    split = [word for word, ids in encoded.items() if len(ids) != 1]
    if split:
        raise TokenizerError(f"answer words that are not one token: {', '.join(split)}")
    return tuple(ids[0] for ids in encoded.values())
