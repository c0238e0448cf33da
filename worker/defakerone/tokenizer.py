"""How does text become InternLM2's token ids without running the checkpoint's own code?

A byte-pair model of `tokenizers`, built from the sentencepiece file: pieces are the vocabulary, merges are every split
of a normal piece into two pieces. `LlamaTokenizer` and `AutoTokenizer` are no substitutes: the first shifts every added
id, the second asks for remote code. A `tokenizer.json` that we wrote before is read as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import ByteFallback, Fuse, Replace, Sequence
from tokenizers.models import BPE
from tokenizers.normalizers import Replace as ReplaceNormalizer

from worker.defakerone.errors import TokenizerError

IMAGE_START: Final = "<img>"
IMAGE_END: Final = "</img>"
IMAGE_CONTEXT: Final = "<IMG_CONTEXT>"
SEGMENTATION: Final = "[SEG]"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
SA2VA_TOKENS: Final = (SEGMENTATION, "<p>", "</p>", "<vp>", "</vp>")
BOS: Final = "<s>"
FILES: Final = ("tokenizer.model", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")

_SPACE: Final = "\u2581"  # sentencepiece's visible space
_NORMAL, _UNKNOWN, _USER_DEFINED = 1, 2, 4  # sentencepiece's piece types


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Text to ids and back."""

    fast: FastTokenizer

    @classmethod
    def from_directory(cls, directory: Path) -> Tokenizer:
        """Read tokenizer.json where there is one, else build from tokenizer.model; raises TokenizerError."""
        ready = directory / "tokenizer.json"
        if ready.is_file():
            return cls(FastTokenizer.from_file(str(ready)))
        model = directory / "tokenizer.model"
        if not model.is_file():
            raise TokenizerError(f"{directory}: neither tokenizer.json nor tokenizer.model")
        return cls(build(model.read_bytes(), read_added_tokens(directory)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` as it stands: no BOS, special tokens recognised by name."""
        ids: list[int] = self.fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, special tokens included."""
        text: str = self.fast.decode(ids, skip_special_tokens=False)
        return text

    def id_of(self, token: str) -> int:
        """Return the id of one token; raises TokenizerError naming it where the vocabulary lacks it."""
        number: int | None = self.fast.token_to_id(token)
        if number is None:
            raise TokenizerError(f"the vocabulary has no token {token!r}")
        return number

    @property
    def size(self) -> int:
        """Rows that an embedding needs: one more than the highest id."""
        return max(self.fast.get_vocab(with_added_tokens=True).values()) + 1

    def with_tokens(self, tokens: tuple[str, ...]) -> Tokenizer:
        """Return a copy with further special tokens behind the highest id; those that exist keep theirs."""
        fast = FastTokenizer.from_str(self.fast.to_str())
        fast.add_special_tokens([_special(token) for token in tokens])
        return Tokenizer(fast)

    def with_sa2va_tokens(self) -> Tokenizer:
        """Return a copy that surely has [SEG] and Sa2VA's other four tokens."""
        return self.with_tokens(SA2VA_TOKENS)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json, from which `from_directory` reads the same tokenizer."""
        (directory / "tokenizer.json").write_text(self.fast.to_str(pretty=False), encoding="utf-8")


def read_added_tokens(directory: Path) -> dict[int, str]:
    """Collect id -> token from added_tokens.json and tokenizer_config.json; raises TokenizerError where they differ."""
    added: dict[int, str] = {}
    config = _read_json(directory / "tokenizer_config.json").get("added_tokens_decoder", {})
    stated = [(int(number), entry["content"]) for number, entry in config.items()]
    stated += [(number, token) for token, number in _read_json(directory / "added_tokens.json").items()]
    for number, token in stated:
        if added.setdefault(number, token) != token:
            raise TokenizerError(f"{directory}: id {number} is both {added[number]!r} and {token!r}")
    return added


def build(model: bytes, added: dict[int, str]) -> FastTokenizer:
    """Build the byte-pair tokenizer from a sentencepiece model; `added` overlays and extends its pieces."""
    pieces = _parse(model)
    names = [added.get(number, piece) for number, (piece, _) in enumerate(pieces)]
    vocabulary = {name: number for number, name in enumerate(names)}
    if len(vocabulary) != len(names):
        raise TokenizerError("tokenizer.model: two pieces have one name after the added tokens are laid over")
    unknown = next((name for name, (_, kind) in zip(names, pieces, strict=True) if kind == _UNKNOWN), None)
    normal = {name for name, (_, kind) in zip(names, pieces, strict=True) if kind == _NORMAL}
    fast = FastTokenizer(
        BPE(vocab=vocabulary, merges=_merges(vocabulary, normal), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    fast.normalizer = ReplaceNormalizer(" ", _SPACE)
    fast.decoder = Sequence([Replace(_SPACE, " "), ByteFallback(), Fuse()])
    laid_over = set(added.values())
    user_defined = [name for name, (_, kind) in zip(names, pieces, strict=True) if kind == _USER_DEFINED]
    plain = [name for name in user_defined if name not in laid_over]
    fast.add_tokens([AddedToken(name, normalized=False, special=False) for name in plain])
    fast.add_special_tokens([_special(added[number]) for number in sorted(added)])
    _require_ids(fast, added)
    return fast


def _parse(model: bytes) -> list[tuple[str, int]]:
    # Imported here: at run time a saved tokenizer.json needs neither sentencepiece nor protobuf.
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except DecodeError as error:
        raise TokenizerError("tokenizer.model is no sentencepiece model") from error
    spec = proto.normalizer_spec
    if spec.name != "identity" or spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        raise TokenizerError("tokenizer.model normalises text or adds a prefix; InternLM2's does neither")
    if not proto.trainer_spec.byte_fallback:
        raise TokenizerError("tokenizer.model has no byte fallback; InternLM2's has")
    return [(piece.piece, piece.type) for piece in proto.pieces]


def _merges(vocabulary: dict[str, int], normal: set[str]) -> list[tuple[str, str]]:
    """Order every split of a normal piece into two pieces by the ids of the piece, its left and its right part."""
    splits = [
        (vocabulary[piece], vocabulary[piece[:at]], vocabulary[piece[at:]], piece[:at], piece[at:])
        for piece in normal
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    return [(left, right) for _, _, _, left, right in sorted(splits)]


def _require_ids(fast: FastTokenizer, added: dict[int, str]) -> None:
    for number, token in sorted(added.items()):
        if fast.token_to_id(token) != number:
            raise TokenizerError(f"added token {token!r} should have id {number}, got {fast.token_to_id(token)}")


def _special(token: str) -> AddedToken:
    return AddedToken(token, normalized=False, special=True)


def _read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return data
