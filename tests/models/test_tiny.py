"""The tiny model's tokenizer and architecture, and the weights that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rwml.models.language_model import TINY_FOLDER, LanguageModel, load_language_model
from rwml.models.sampling.local import local_sampler
from rwml.models.tiny import PAD, TAGS, TURNS, TinyShape, new_language_model, new_model, train_tokenizer
from rwml.worlds.base import World
from rwml.worlds.by_name import get_world

TEXTS = [
    "You are in the middle of a room. Looking quickly around you, you see a sidetable 2, a desk 12, and a drawer 1.",
    "You arrive at desk 12. On the desk 12, you see a pen 3, a mug 1, and a pencil 2.",
    "On the desk 12, you see nothing.",
    "go to desk 12",
    "take pencil 2 from desk 12",
] * 3
NAMES = {"sidetable", "desk", "drawer", "pen", "mug", "pencil"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, 420)


def test_pieces_never_cross_a_name_or_a_number(tokenizer: Any) -> None:
    """Every token of a text lies within a name, within a number, or outside of both."""
    for text in TEXTS:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = [text[a:b].strip() for a, b in encoded["offset_mapping"]]
        for token in tokens:
            words = token.replace(",", " ").replace(".", " ").split()
            assert len(words) <= 1 or not any(word.isdigit() or word in NAMES for word in words), token
        assert {"desk", "12"} <= set(tokens) or "desk" not in text, "names and numbers are whole once learnt"


def test_stock_phrases_grow_into_few_tokens(tokenizer: Any) -> None:
    assert len(tokenizer(TEXTS[2])["input_ids"]) <= 8


@pytest.mark.parametrize("text", [*TEXTS[:3], "Ünïcode – 你好 🎉\n\ttabs", "x" * 50, "pencils 12a", ""])
def test_any_text_survives(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_marks_are_single_tokens_and_come_first(tokenizer: Any) -> None:
    marks = [PAD, *TURNS, *TAGS]
    assert [tokenizer.convert_tokens_to_ids(mark) for mark in marks] == list(range(len(marks)))
    assert tokenizer("<think>go</think><action>")["input_ids"][0] == marks.index("<think>")
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, "<|end|>")
    assert 256 + len(marks) < len(tokenizer) <= 420


def test_the_same_texts_give_the_same_tokenizer(tokenizer: Any) -> None:
    again = train_tokenizer(iter(TEXTS), 420)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_parameters_by_hand() -> None:
    """Tied embedding; per layer attention (q, k, v, o, two head norms), the gated MLP and two norms; a last norm."""
    shape = TinyShape(hidden=16, intermediate=24, layers=3, heads=2, key_value_heads=1, head_dim=8)
    attention = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 2 * 8
    layer = attention + 3 * 16 * 24 + 2 * 16
    model = new_model(shape, 100, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 100 * 16 + 3 * layer + 16


def test_a_new_mind_knows_where_messages_end() -> None:
    shape = TinyShape(vocab=320, hidden=16, intermediate=24, layers=1, heads=2, key_value_heads=1, head_dim=8)
    lm = new_language_model(TEXTS, shape, 0)
    assert lm.model.config.eos_token_id == lm.tokenizer.convert_tokens_to_ids("<|end|>")
    assert lm.chat.stop_ids == {lm.model.config.eos_token_id}
    assert lm.model.config.pad_token_id == lm.tokenizer.pad_token_id == 0


@pytest.fixture(scope="module")
def shipped() -> LanguageModel:
    return load_language_model("tiny", device="cpu")


def test_the_shipped_weights_are_small_and_say_how_they_were_made(shipped: LanguageModel) -> None:
    assert 1e6 < sum(parameter.numel() for parameter in shipped.model.parameters()) < 5e6
    files = [path for path in Path(TINY_FOLDER).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja"}
    notes = json.loads((TINY_FOLDER / "tiny.json").read_text())
    assert {"seed", "steps", "learning_rate"} <= set(notes["config"])
    assert notes["figures"]["minutes"] > 0


def test_the_shipped_model_answers_in_its_format(shipped: LanguageModel) -> None:
    """Greedy, at the opening of scenes that it never saw: a thought and an action that the world admits."""
    from rwml.models.sampling.sampler import SamplingParams
    from rwml.playing.rollout import LanguageModelPolicy, seats_for

    world: World = get_world("alfworld", size="tiny", num_train=0, num_valid_seen=0, num_valid_unseen=12)
    sampler = local_sampler(shipped)
    policy = LanguageModelPolicy(shipped, sampler, world.prompts("brief"), SamplingParams(32, 0.0), 3, 1000)
    seats = seats_for(world.tasks("valid_unseen"), 1, 0)
    played = policy.play(world, seats, torch.Generator().manual_seed(0))
    steps = [step for one in played for step in one.episode.steps]
    assert len(steps) == 36
    assert sum(step.parsed for step in steps) >= 34
    assert sum(step.valid for step in steps) >= 24
