"""Checkpoints load strictly, name what is wrong, and come back as they were saved."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.defakerone.conftest import FIXTURE, photo
from worker.defakerone import DeFakerOne
from worker.defakerone.calibration import Calibration
from worker.defakerone.checkpoint import build_on_meta, expected_shapes, read_config
from worker.defakerone.config import DEFAKERONE_SMALL, PRESETS, DeFakerOneConfig
from worker.defakerone.errors import CheckpointError, WeightsMissingError
from worker.defakerone.layout import entries, join_all
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.tokenizer import Tokenizer
from worker.defakerone.weights import INDEX, compare, read_pt

CHECKPOINT = FIXTURE / "checkpoint"
State = dict[str, torch.Tensor]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "copy"))


def rewrite(directory: Path, change: Callable[[State], object]) -> None:
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")


def test_every_key_of_the_real_size_is_accepted_strictly() -> None:
    layout = json.loads((FIXTURE / "real_layout_keys.json").read_text())["keys"]
    assert len(layout) == 1421
    network = build_on_meta(DeFakerOneConfig(), Tokenizer.from_directory(CHECKPOINT))
    plan = entries(network.state_dict(), network.config)
    real = {key: tuple(shape) for key, shape in layout.items()}
    compare(expected_shapes(network, plan), real, "the real layout")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.435e9, rel=1e-3)


def test_weights_survive_the_way_to_our_names_and_back(model: DeFakerOne) -> None:
    native = model.network.state_dict()
    stored = load_file(CHECKPOINT / "model.safetensors")
    again = join_all(entries(native, model.config), native)
    assert again.keys() == stored.keys()
    for key, tensor in stored.items():
        torch.testing.assert_close(again[key], tensor.float(), rtol=0, atol=0)


@pytest.mark.parametrize("limit", [None, 600_000], ids=["one file", "shards"])
def test_a_saved_checkpoint_gives_the_same_results(model: DeFakerOne, tmp_path: Path, limit: int | None) -> None:
    changed = model.with_metadata(
        name="mine",
        prompt=PromptConfig(question="Is this real?", suffix="No. [SEG]"),
        calibration=Calibration(id="c1", kind="isotonic", x=(0.0, 0.5, 1.0), y=(0.1, 0.2, 0.9)),
    )
    changed.save_pretrained(tmp_path / "saved", dtype=torch.float32, max_shard_bytes=limit)
    again = DeFakerOne.from_pretrained(tmp_path / "saved")
    assert again.metadata == changed.metadata
    assert again.config == model.config
    assert again.versions["model"] == "mine"
    files = sorted(path.name for path in (tmp_path / "saved").glob("*.safetensors"))
    assert (len(files) > 1) == (limit is not None)
    if limit is not None:
        assert all((tmp_path / "saved" / name).stat().st_size <= limit for name in files)
    prepared = model.preprocess(photo("portrait"))
    ids = torch.tensor([model.prompt.ids(len(prepared.tiles_u8))])
    first, second = (m.forward(prepared.pixel_values, ids, prepared.sam_pixel_values) for m in (model, again))
    torch.testing.assert_close(first.logits, second.logits, rtol=0, atol=0)
    torch.testing.assert_close(first.low_res_logits, second.low_res_logits, rtol=0, atol=0)


def test_saving_over_an_older_checkpoint_leaves_no_stale_shard(model: DeFakerOne, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_bytes=300_000)
    (tmp_path / "MODEL_CARD.md").write_text("kept")
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "MODEL_CARD.md", "assay.json", "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert DeFakerOne.from_pretrained(tmp_path).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_stored_types_load_as_the_type_asked_for(model: DeFakerOne, tmp_path: Path, dtype: torch.dtype) -> None:
    model.save_pretrained(tmp_path, dtype=dtype)
    loaded = DeFakerOne.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.bfloat16}
    frequencies = loaded.network.language_model.rotary_emb.inv_freq
    torch.testing.assert_close(frequencies, model.network.language_model.rotary_emb.inv_freq, rtol=0, atol=0)


def test_every_missing_surplus_and_misshapen_tensor_is_named(copy: Path) -> None:
    def change(state: State) -> None:
        del state["mlp1.1.bias"], state["text_hidden_fcs.2.weight"]
        state["lora.something"] = torch.zeros(1)
        state["language_model.output.weight"] = torch.zeros(3, 4)

    rewrite(copy, change)
    with pytest.raises(CheckpointError) as caught:
        DeFakerOne.from_pretrained(copy)
    message = str(caught.value)
    assert "2 missing:\n  mlp1.1.bias\n  text_hidden_fcs.2.weight" in message
    assert "1 surplus:\n  lora.something" in message
    assert "1 misshapen:\n  language_model.output.weight is [3, 4], expected [542, 64]" in message


def test_pickles_are_refused_by_name_and_never_opened(copy: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(WeightsMissingError, match=r"pytorch_model\.bin could run code"):
        DeFakerOne.from_pretrained(copy)
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_pt(copy / "pytorch_model.bin")
    assert not (tmp_path / "exploded").exists()


def test_an_index_may_not_point_outside_its_directory(copy: Path) -> None:
    (copy / INDEX).write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match="only safetensors files beside it"):
        DeFakerOne.from_pretrained(copy)


def test_a_damaged_file_and_a_lost_shard_are_named(model: DeFakerOne, copy: Path, tmp_path: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        DeFakerOne.from_pretrained(copy)
    model.save_pretrained(tmp_path / "sharded", max_shard_bytes=300_000)
    next((tmp_path / "sharded").glob("model-00002*")).unlink()
    with pytest.raises(WeightsMissingError, match="model-00002"):
        DeFakerOne.from_pretrained(tmp_path / "sharded")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "ps_version", "v1"),
        (None, "select_layer", -4),
        (None, "model_type", "llava"),
        ("vision_config", "norm_type", "rms_norm"),
        ("vision_config", "qk_normalization", True),
        ("llm_config", "tie_word_embeddings", True),
        ("llm_config", "rope_scaling", {"type": "yarn", "factor": 4.0}),
    ],
)
def test_an_architecture_that_is_not_this_one_is_refused(
    copy: Path, section: str | None, key: str, value: object
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (config if section is None else config[section])[key] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=key):
        read_config(copy)


def test_an_empty_directory_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"config\.json is missing"):
        DeFakerOne.from_pretrained(tmp_path)
    with pytest.raises(WeightsMissingError, match="no checkpoint here"):
        DeFakerOne.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    assert DeFakerOneConfig.from_json(json.loads(json.dumps(PRESETS[name].to_json()))) == PRESETS[name]


def test_the_small_preset_builds_trains_and_loads_again(tmp_path: Path) -> None:
    model = DeFakerOne.from_config(DEFAKERONE_SMALL, CHECKPOINT, seed=3)
    prepared = model.preprocess(photo("landscape").resize((300, 200)))
    ids = torch.tensor([model.prompt.ids(len(prepared.tiles_u8))])
    output = model.network(prepared.pixel_values, ids, prepared.sam_pixel_values)
    (output.logits.logsumexp(-1).mean() + output.multimask_logits.square().mean() + output.ious.mean()).backward()
    reached = {name.split(".")[0] for name, p in model.network.named_parameters() if p.grad is not None}
    assert reached == {
        "vision_tower", "connector", "language_model", "lm_head", "seg_projection", "grounding",
    }  # fmt: skip
    model.save_pretrained(tmp_path, max_shard_bytes=16_000_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 24_000_000
    DeFakerOne.from_pretrained(tmp_path)
