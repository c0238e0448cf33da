"""Token ids as InternLM2's own tokenizer gives them, without running it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.defakerone.conftest import FIXTURE
from worker.defakerone.errors import TokenizerError
from worker.defakerone.prompt import AFFIRMATIVE, NEGATIVE, PromptConfig, answer_word_ids, build_prompt
from worker.defakerone.tokenizer import SA2VA_TOKENS, Tokenizer, build, read_added_tokens

CHECKPOINT = FIXTURE / "checkpoint"
CASES = json.loads((FIXTURE / "tokenizer_cases.json").read_text())
REAL = json.loads((FIXTURE / "real_tokenizer_cases.json").read_text())
INTERNVL2_TOKENS = (
    *("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>"),
    *("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_directory(CHECKPOINT)


def test_all_reference_cases(tokenizer: Tokenizer) -> None:
    bos = tokenizer.id_of("<s>")
    for case in CASES:
        assert tokenizer.encode(case["text"]) == case["ids_no_bos"], case["text"]
        assert [bos, *tokenizer.encode(case["text"])] == case["ids"]


def test_decoding_gives_the_text_back(tokenizer: Tokenizer) -> None:
    for case in CASES:
        shown = case["text"].replace("\u2581", " ")  # sentencepiece cannot tell its visible space from a real one
        assert tokenizer.decode(case["ids_no_bos"]) == shown


def test_a_saved_tokenizer_gives_the_same_ids_without_sentencepiece(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    again = Tokenizer.from_directory(tmp_path)
    assert [again.encode(case["text"]) for case in CASES] == [case["ids_no_bos"] for case in CASES]
    assert again.size == tokenizer.size


@pytest.mark.shared
def test_all_reference_cases_of_the_real_vocabulary() -> None:
    shared = os.environ.get("ASSAY_SHARED")
    if not shared:
        pytest.skip("ASSAY_SHARED names no reference inputs: the real tokenizer.model is not in the repository")
    model = (Path(shared) / "fixtures" / "defakerone" / "real_tokenizer.model").read_bytes()
    first = 92538
    tokens = (*INTERNVL2_TOKENS, *SA2VA_TOKENS)
    real = Tokenizer(build(model, {first + at: token for at, token in enumerate(tokens)}))
    assert real.size == 92558
    for case in REAL["cases"]:
        assert real.encode(case["text"]) == case["ids_no_bos"], case["text"]
    words = dict(zip((*AFFIRMATIVE, *NEGATIVE), answer_word_ids(real), strict=True))
    assert words == REAL["answer_words"]


def test_sa2va_tokens_are_appended_behind_the_last_id() -> None:
    internvl2 = Tokenizer.from_directory(FIXTURE / "assemble" / "internvl2")
    extended = internvl2.with_sa2va_tokens()
    assert [extended.id_of(token) for token in SA2VA_TOKENS] == list(range(internvl2.size, internvl2.size + 5))
    assert extended.with_sa2va_tokens().size == extended.size
    with pytest.raises(TokenizerError, match=r"\[SEG\]"):
        internvl2.id_of("[SEG]")


def test_contradicting_added_tokens_are_refused(tmp_path: Path) -> None:
    for name in ("added_tokens.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / name, tmp_path / name)
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    (tmp_path / "added_tokens.json").write_text(json.dumps({**added, "[OTHER]": added["[SEG]"]}))
    with pytest.raises(TokenizerError, match=r"\[OTHER\]"):
        read_added_tokens(tmp_path)


def test_a_directory_without_a_vocabulary_says_so(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\xff\xff\xff no protobuf")
    with pytest.raises(TokenizerError, match="sentencepiece"):
        Tokenizer.from_directory(tmp_path)


def test_answer_words_with_a_leading_space_are_other_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" Yes") != tokenizer.encode("Yes")
    assert len(set(answer_word_ids(tokenizer))) == 8


def test_a_system_turn_and_separator_come_from_the_checkpoint(tokenizer: Tokenizer) -> None:
    config = PromptConfig(question="Is it real?", system="You see.", separator="", suffix="Yes. [SEG]<|im_end|>")
    prompt = build_prompt(tokenizer, config, tokens_per_tile=2)
    text = (
        "<|im_start|>system\nYou see.<|im_end|><|im_start|>user\n<img><IMG_CONTEXT><IMG_CONTEXT></img>\n"
        "Is it real?<|im_end|><|im_start|>assistant\n"
    )
    assert prompt.ids(1, suffix=False) == [tokenizer.id_of("<s>"), *tokenizer.encode(text)]
    assert prompt.ids(1)[-1] == prompt.seg_id
    assert len(prompt.ids(1)) == prompt.length(1)


def test_a_suffix_without_a_segmentation_token_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="no mask"):
        build_prompt(tokenizer, PromptConfig(suffix="Yes."), tokens_per_tile=2)
