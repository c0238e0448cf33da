"""Checkpoints assembled from published parts, rewritten, and merged with adapters."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from screening.cli import main
from tests.unit.defakerone.conftest import FIXTURE, PHOTOS, expected, photo
from tests.unit.defakerone.test_parity import close, row
from worker.defakerone import DeFakerOne
from worker.defakerone.assemble import RELEASED, assemble, recognise
from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.errors import CheckpointError
from worker.defakerone.grounding import build_grounding

CHECKPOINT, PARTS = FIXTURE / "checkpoint", FIXTURE / "assemble"
GROUNDING = DeFakerOneConfig.from_json(json.loads((CHECKPOINT / "config.json").read_text())).grounding


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> DeFakerOne:
    out = tmp_path_factory.mktemp("assembled") / "out"
    result = convert(
        "assemble", PARTS / "internvl2", PARTS / "sam2.pt", out,
        "--grounding-config", CHECKPOINT / "config.json", "--dtype", "float32",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return DeFakerOne.from_pretrained(out)


@pytest.mark.parametrize("name", PHOTOS)
def test_an_assembled_checkpoint_equals_the_reference(assembled: DeFakerOne, name: str) -> None:
    arrays = expected(name)
    prepared = assembled.preprocess(photo(name))
    output = assembled.forward(prepared.pixel_values, torch.tensor([row(name, "A")]), prepared.sam_pixel_values)
    close(output.vision_embeds, arrays["vision_embeds"], 1e-5)
    first = output.logits[0, len(arrays["prompt_ids"]) - 1]
    close(first[:-5], arrays["first_logits"][:-5], 7e-4)
    with torch.inference_mode():
        features = assembled.network.grounding.encode(prepared.sam_pixel_values)
    close(features.s16[0], arrays["sam_embed_s16"], 5e-4)
    close(features.s4[0], arrays["sam_feat_s4"], 5e-4)
    close(features.s8[0], arrays["sam_feat_s8"], 5e-4)


def test_new_rows_start_at_the_mean_and_the_projection_by_its_seed(assembled: DeFakerOne, tmp_path: Path) -> None:
    for weight in (assembled.network.language_model.embed_tokens.weight, assembled.network.lm_head.weight):
        torch.testing.assert_close(weight[-5:], weight[:-5].mean(dim=0).expand(5, -1), rtol=1e-5, atol=1e-7)
    assert assembled.tokenizer.id_of("[SEG]") == 537
    drawn = [projection(assemble_with(tmp_path / str(n), seed)) for n, seed in enumerate((0, 0, 1))]
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert not torch.equal(drawn[0], drawn[2])


def assemble_with(out: Path, seed: int) -> Path:
    assemble(PARTS / "internvl2", PARTS / "sam2.pt", out, grounding=GROUNDING, seed=seed)
    return out


def projection(directory: Path) -> torch.Tensor:
    return load_file(directory / "model.safetensors")["text_hidden_fcs.0.weight"]


@pytest.mark.parametrize("size", RELEASED)
def test_released_sizes_of_sam2_are_recognised_with_or_without_the_extras_of_2_1(size: str) -> None:
    with torch.device("meta"):
        state = build_grounding(RELEASED[size]).state_dict()
    assert recognise(state, Path("x.pt")) == RELEASED[size]


def test_sam2_1_extras_are_ignored_and_other_surplus_is_named(tmp_path: Path) -> None:
    state = torch.load(PARTS / "sam2.pt", weights_only=True)["model"]
    extras = {"no_obj_embed_spatial": torch.zeros(1, 16), "obj_ptr_tpos_proj.weight": torch.zeros(16, 32)}
    torch.save({"model": {**state, **extras}}, tmp_path / "sam2.1.pt")
    assemble(PARTS / "internvl2", tmp_path / "sam2.1.pt", tmp_path / "out", grounding=GROUNDING)
    torch.save({"model": {**state, "stray": torch.zeros(1)}}, tmp_path / "stray.pt")
    with pytest.raises(CheckpointError, match=r"1 surplus:\n  grounding_encoder\.sam2_model\.stray"):
        assemble(PARTS / "internvl2", tmp_path / "stray.pt", tmp_path / "out2", grounding=GROUNDING)
    assert not (tmp_path / "out2").exists()


def test_an_unknown_sam2_size_asks_for_its_dimensions(tmp_path: Path) -> None:
    result = convert("assemble", PARTS / "internvl2", PARTS / "sam2.pt", tmp_path / "out")
    assert result.exit_code == 1
    assert "describe it by a config" in result.stderr


def test_export_changes_type_and_shards_and_nothing_else(tmp_path: Path, model: DeFakerOne) -> None:
    result = convert("export", CHECKPOINT, tmp_path / "out", "--dtype", "float32", "--max-shard-mb", 0.6)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    exported = DeFakerOne.from_pretrained(tmp_path / "out")
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, exported.network.state_dict()[name]), name
    assert not (tmp_path / "out" / "tokenizer_config.json").exists()  # it would ask for remote code


def test_adapters_are_refused_until_they_are_merged(tmp_path: Path, model: DeFakerOne) -> None:
    directory = with_adapters(tmp_path / "lora", rank=4)
    with pytest.raises(CheckpointError, match="--lora-alpha"):
        DeFakerOne.from_pretrained(directory)
    result = convert("export", directory, tmp_path / "out", "--lora-alpha", 8, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    merged = load_file(tmp_path / "out" / "model.safetensors")
    original = load_file(CHECKPOINT / "model.safetensors")
    changed = {key for key, tensor in merged.items() if not torch.equal(tensor, original[key].float())}
    assert changed == {"language_model.model.layers.0.attention.wqkv.weight"}
    key = changed.pop()
    torch.testing.assert_close(
        merged[key] - original[key].float(), torch.full_like(merged[key], 8.0), rtol=0, atol=1e-5
    )


def with_adapters(directory: Path, rank: int) -> Path:
    """The fixture as peft saves it before merging; B A is 4 everywhere, so alpha 8 at rank 4 adds 8."""
    directory.mkdir()
    for path in CHECKPOINT.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    state = load_file(directory / "model.safetensors")
    wrapped = {key.replace("language_model.", "language_model.base_model.model.", 1): t for key, t in state.items()}
    module = "language_model.base_model.model.model.layers.0.attention.wqkv"
    weight = wrapped.pop(f"{module}.weight")
    wrapped[f"{module}.base_layer.weight"] = weight
    wrapped[f"{module}.lora_A.default.weight"] = torch.ones(rank, weight.shape[1])
    wrapped[f"{module}.lora_B.default.weight"] = torch.ones(weight.shape[0], rank)
    save_file(wrapped, directory / "model.safetensors")
    return directory
