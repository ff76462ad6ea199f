"""Checkpoints: what is saved loads again as it was, and what cannot be loaded is refused with what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rwml.core.errors import RwmlError
from rwml.core.recipe.sections import ModelConfig
from rwml.loading import load_model
from rwml.models.language_model import LanguageModel, load_language_model, pick_device, save_language_model
from rwml.models.tiny import TinyShape, new_language_model

TEXTS = ["You arrive at desk 1. On the desk 1, you see a pen 1.", "go to desk 1", "take pen 1 from desk 1"]
SHAPE = TinyShape(vocab=320, hidden=16, intermediate=24, layers=2, heads=2, key_value_heads=1, head_dim=8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A whole checkpoint, untrained."""
    save_language_model(new_language_model(TEXTS, SHAPE, 1), tmp_path / "model")
    return tmp_path / "model"


def logits_of(lm: LanguageModel) -> torch.Tensor:
    ids = lm.chat.opening("", TEXTS[0]) + lm.chat.ask()
    with torch.no_grad():
        return lm.model(torch.tensor([ids])).logits.float()


def test_a_saved_mind_loads_as_it_was(saved: Path) -> None:
    fresh = new_language_model(TEXTS, SHAPE, 1)
    loaded = load_language_model(saved, device="cpu")
    assert loaded.device == torch.device("cpu")
    assert torch.equal(logits_of(loaded), logits_of(fresh))
    assert loaded.tokenizer.get_vocab() == fresh.tokenizer.get_vocab()
    assert loaded.chat.opening("a", "b") + loaded.chat.ask() == fresh.chat.opening("a", "b") + fresh.chat.ask()
    assert loaded.chat.stop_ids == fresh.chat.stop_ids
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_the_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone(saved: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, other = new_language_model(TEXTS, SHAPE, 1), new_language_model(TEXTS, SHAPE, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits_of(again), logits_of(load_language_model(saved, device="cpu")))
    assert not torch.equal(logits_of(again), logits_of(other))


def test_a_dtype_is_taken_over(saved: Path) -> None:
    lm = load_language_model(saved, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in lm.model.parameters()} == {torch.bfloat16}
    close = torch.allclose(logits_of(lm), logits_of(load_language_model(saved, device="cpu")), atol=2e-2)
    assert close


def test_saving_over_a_checkpoint_replaces_it(saved: Path) -> None:
    (saved / "left over").write_text("x")
    other = new_language_model(TEXTS, SHAPE, 2)
    save_language_model(other, saved)
    assert not (saved / "left over").exists()
    assert torch.equal(logits_of(load_language_model(saved, device="cpu")), logits_of(other))


def test_an_adapter_is_saved_merged(saved: Path, tmp_path: Path) -> None:
    """The checkpoint has the plain model's tensors only, and computes what model and adapter do together."""
    lm = load_model(ModelConfig(path=str(saved), lora_rank=2, device="cpu"), trainable=True)
    before = logits_of(lm)
    with torch.no_grad():
        for name, parameter in lm.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    assert not torch.allclose(logits_of(lm), before, atol=1e-3)
    save_language_model(lm, tmp_path / "merged")
    assert set(load_file(tmp_path / "merged" / "model.safetensors")) == set(load_file(saved / "model.safetensors"))
    merged = load_language_model(tmp_path / "merged", device="cpu")
    assert torch.allclose(logits_of(merged), logits_of(lm), atol=1e-5)
    assert any("lora_B" in name for name, _ in lm.model.named_parameters()), "the model itself keeps its adapter"


def test_adapters_begin_the_same_every_time(saved: Path) -> None:
    config = ModelConfig(path=str(saved), lora_rank=2, device="cpu")
    torch.manual_seed(1)
    first = load_model(config, trainable=True)
    torch.manual_seed(2)
    second = load_model(config, trainable=True)
    pairs = zip(first.model.named_parameters(), second.model.named_parameters(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)
    plain = load_model(config)
    assert torch.equal(logits_of(first), logits_of(plain)), "an adapter that has not learnt yet changes nothing"


def refusal(path: Path | str) -> RwmlError:
    with pytest.raises(RwmlError) as caught:
        load_language_model(path, device="cpu")
    assert str(path) in caught.value.what
    return caught.value


def test_a_path_with_no_model_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert error.what.startswith("there is no model at")
    assert "nothing to train or to ask" in error.why
    assert "'tiny'" in error.fix


def test_a_hub_name_that_cannot_be_reached_is_refused() -> None:
    error = refusal("no-such-owner/no-such-model")
    assert error.what.startswith("'no-such-owner/no-such-model' is no folder, and the hub gave no model of that name")
    assert "hub name" in error.fix


def test_a_folder_without_tokenizer_is_refused(saved: Path) -> None:
    for path in saved.glob("tokenizer*"):
        path.unlink()
    error = refusal(saved)
    assert error.what.endswith("has no tokenizer that can be loaded: the folder has no tokenizer files")
    assert "tokens that the model knows" in error.why
    assert "tokenizer.save_pretrained" in error.fix


def test_a_broken_tokenizer_is_refused(saved: Path) -> None:
    path = saved / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1000])
    assert "no tokenizer that can be loaded" in refusal(saved).what


def test_a_folder_without_chat_template_is_refused(saved: Path) -> None:
    (saved / "chat_template.jinja").unlink()
    error = refusal(saved)
    assert error.what.endswith("has no chat template")
    assert "chat turns" in error.why
    assert "chat_template.jinja" in error.fix


@pytest.mark.parametrize("damage", ["no weights", "half the weights", "no config"])
def test_a_folder_without_a_whole_model_is_refused(saved: Path, damage: str) -> None:
    weights = saved / "model.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "half the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    else:
        (saved / "config.json").unlink()
    error = refusal(saved)
    assert "cannot be loaded" in error.what
    assert "config.json and safetensors" in error.fix or "check the path" in error.fix


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    assert "has no tokenizer" in refusal(tmp_path).what
    shutil.rmtree(tmp_path)


def test_pick_device() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
