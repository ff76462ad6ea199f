"""The weight-change figures against numbers worked by hand, brute force, and names of real architectures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rwml.core.errors import RwmlError
from rwml.core.files import write_json
from rwml.measure import weight_change
from rwml.measure.weight_change import layer_of, measure_weight_change, module_of
from rwml.models.language_model import LanguageModel, load_language_model, save_language_model

Q, EMBED = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"
DOWN = "model.layers.10.mlp.down_proj.weight"


def test_shares_worked_by_hand() -> None:
    """Of six entries of q one is zero on both sides, two move by more than a thousandth; of down's two one appears."""
    before = {
        Q: torch.tensor([[1.0, 1.0, 1.0], [0.0, -2.0, 4.0]]),
        DOWN: torch.tensor([0.0, 5.0]),
        EMBED: torch.tensor([8.0]),
    }
    after = {
        Q: torch.tensor([[1.0005, 1.002, 1.0], [0.0, 2.0, 4.0]]),
        DOWN: torch.tensor([1e-9, 5.0]),
        EMBED: torch.tensor([8.0]),
    }
    figures = measure_weight_change(before, after)
    assert figures["threshold"] == 1e-3
    assert (figures["weights"], figures["changed"], figures["zero"], figures["not_finite"]) == (8, 3, 1, 0)
    assert figures["share"] == 3 / 8
    assert {name: cell["share"] for name, cell in figures["by_module"].items()} == {
        "q": 2 / 5,
        "down": 1 / 2,
        "other": 0,
    }
    assert list(figures["by_layer"]) == ["0", "10", "outside"]
    assert figures["by_layer"]["10"]["share"] == 1 / 2
    assert figures["by_layer_and_module"] == {"0": {"q": 2 / 5}, "10": {"down": 1 / 2}, "outside": {"other": 0.0}}
    # 1.002 lies between the bfloat16 numbers 1 and 1.0078125 and rounds to 1.
    assert figures["by_module"]["q"]["share_bfloat16"] == 1 / 5
    assert figures["by_module"]["down"]["relative_size"] == pytest.approx(1e-9 / 5)
    assert figures["by_module"]["q"]["relative_size"] == pytest.approx(
        (16 + 0.0005**2 + 0.002**2) ** 0.5 / 23**0.5, rel=1e-4
    )


def test_exactly_the_threshold_is_no_change() -> None:
    change = measure_weight_change({Q: torch.tensor([1024.0, 1024.0])}, {Q: torch.tensor([1023.0, 1022.0])}, 1 / 1024)
    assert change["changed"] == 1


def test_one_bfloat16_step_is_a_change_and_float32_noise_is_none() -> None:
    start = torch.randn(64, 33, generator=torch.Generator().manual_seed(0)).bfloat16()
    step = (start.view(torch.int16) + 1).view(torch.bfloat16)
    assert measure_weight_change({Q: start}, {Q: step})["share"] == 1.0
    noisy = start.float() * (1 + 1e-5)
    figures = measure_weight_change({Q: start}, {Q: noisy})
    assert (figures["share"], figures["share_bfloat16"]) == (0.0, 0.0)


def test_not_finite_weights_are_counted_apart() -> None:
    figures = measure_weight_change({Q: torch.tensor([1.0, 2.0, 3.0])}, {Q: torch.tensor([float("nan"), 2.5, 3.0])})
    assert (figures["weights"], figures["changed"], figures["not_finite"]) == (2, 1, 1)


@pytest.mark.parametrize("slice_size", [1, 7, 2**22])
def test_slices_from_files_equal_brute_force(slice_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharded float32 against one bfloat16 file, whatever the size of the slices; a scalar and an integer are there."""
    random = torch.Generator().manual_seed(1)
    names = [Q, DOWN, "model.norm.weight"]
    before = {name: torch.randn(5, 3, generator=random) for name in names} | {"model.scale": torch.tensor(2.0)}
    after = {name: (t * (1 + 0.004 * torch.rand(t.shape, generator=random))).bfloat16() for name, t in before.items()}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    save_file({Q: before[Q], "model.scale": before["model.scale"]}, tmp_path / "a" / "one.safetensors")
    rest = {name: before[name] for name in names[1:]} | {"steps": torch.tensor([3])}
    save_file(rest, tmp_path / "a" / "two.safetensors")
    weight_map = {Q: "one.safetensors", "model.scale": "one.safetensors", **dict.fromkeys(rest, "two.safetensors")}
    write_json(tmp_path / "a" / "model.safetensors.index.json", {"weight_map": weight_map})
    save_file({**after, "lm_head.weight": torch.zeros(2)}, tmp_path / "b" / "model.safetensors")
    monkeypatch.setattr(weight_change, "SLICE", slice_size)
    figures = measure_weight_change(tmp_path / "a", tmp_path / "b")
    changed = sum(
        abs(float(w2) - float(w1)) > 1e-3 * max(abs(float(w1)), abs(float(w2)))
        for name, tensor in before.items()
        for w1, w2 in zip(tensor.flatten(), after[name].float().flatten(), strict=True)
    )
    assert 10 < changed < 46
    assert (figures["weights"], figures["changed"]) == (46, changed)
    assert (figures["only_before"], figures["only_after"]) == ([], ["lm_head.weight"])


NAMES = {
    "model.layers.3.self_attn.q_proj.weight": "q",
    "model.layers.3.self_attn.k_proj.bias": "k",
    "model.layers.3.self_attn.v_proj.weight": "v",
    "model.layers.3.self_attn.o_proj.weight": "o",
    "model.layers.3.self_attn.q_norm.weight": "other",
    "model.layers.3.mlp.gate_proj.weight": "gate/up",
    "model.layers.3.mlp.experts.7.up_proj.weight": "gate/up",
    "model.layers.3.mlp.down_proj.weight": "down",
    "model.layers.3.input_layernorm.weight": "other",
    "model.layers.3.self_attn.qkv_proj.weight": "qkv",
    "model.layers.3.mlp.gate_up_proj.weight": "gate/up",
    "transformer.h.3.attn.c_attn.weight": "qkv",
    "transformer.h.3.attn.c_proj.bias": "o",
    "transformer.h.3.mlp.c_fc.weight": "gate/up",
    "transformer.h.3.mlp.c_proj.weight": "down",
    "transformer.h.3.ln_1.weight": "other",
    "gpt_neox.layers.3.attention.query_key_value.weight": "qkv",
    "gpt_neox.layers.3.attention.dense.weight": "o",
    "gpt_neox.layers.3.mlp.dense_4h_to_h.weight": "down",
    "model.decoder.layers.3.self_attn.out_proj.weight": "o",
}


@pytest.mark.parametrize(("name", "module"), NAMES.items())
def test_names_of_the_families(name: str, module: str) -> None:
    assert (layer_of(name), module_of(name)) == ("3", module)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "transformer.wpe.weight"])
def test_names_outside_of_the_layers(name: str) -> None:
    assert (layer_of(name), module_of(name)) == ("outside", "other")


@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama", "GPT2"])
def test_real_architectures_have_every_module(family: str) -> None:
    import transformers

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11}
    other = (
        {"n_positions": 16} if family == "GPT2" else {"intermediate_size": 12, "num_key_value_heads": 1, "head_dim": 4}
    )
    model = getattr(transformers, f"{family}{'LMHeadModel' if family == 'GPT2' else 'ForCausalLM'}")(
        getattr(transformers, f"{family}Config")(**sizes, **other)
    )
    figures = measure_weight_change(model.state_dict(), model.state_dict())
    assert list(figures["by_layer"]) == ["0", "1", "outside"]
    attention = ["qkv"] if family == "GPT2" else ["q", "k", "v"]
    assert list(figures["by_module"]) == [*attention, "o", "gate/up", "down", "other"]
    assert figures["changed"] == 0
    assert figures["weights"] + figures["zero"] == sum(t.numel() for t in model.state_dict().values())


def test_a_trained_checkpoint_against_the_packaged_model(tmp_path: Path) -> None:
    """Stored in bfloat16 and in float32: nothing has changed until one matrix is scaled."""
    lm: LanguageModel = load_language_model("tiny", device="cpu")
    save_language_model(lm, tmp_path / "same")
    assert measure_weight_change("tiny", tmp_path / "same")["changed"] == 0
    matrix = lm.model.model.layers[2].mlp.down_proj.weight
    with torch.no_grad():
        matrix *= 1.01
    save_language_model(lm, tmp_path / "scaled")
    figures = measure_weight_change("tiny", tmp_path / "scaled")
    assert figures["changed"] == figures["by_layer_and_module"]["2"]["down"] * matrix.numel() == matrix.count_nonzero()
    assert figures["by_module"]["down"]["relative_size"] < 0.01


def test_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as strangers:
        measure_weight_change({"a": torch.ones(1)}, {"base_model.model.a": torch.ones(1)})
    assert "no parameter name in common" in strangers.value.what
    with pytest.raises(RwmlError) as shapes:
        measure_weight_change({Q: torch.ones(2)}, {Q: torch.ones(3)})
    assert "(2,)" in shapes.value.what and "(3,)" in shapes.value.what
    with pytest.raises(RwmlError) as empty:
        measure_weight_change("tiny", tmp_path)
    assert "holds no safetensors file" in empty.value.what
    with pytest.raises(RwmlError) as nowhere:
        measure_weight_change("tiny", tmp_path / "nowhere")
    assert "there are no weights" in nowhere.value.what
