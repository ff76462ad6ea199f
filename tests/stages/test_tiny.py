"""`rwml tiny`: the same settings give the same bytes; lessons, trees and losses; mistakes on the command line."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import read_settings
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.models.tiny import TinyShape, new_language_model
from rwml.stages import tiny
from rwml.stages.tiny import Lesson, TinyConfig, lesson_trees, make, play_lesson

pytestmark = pytest.mark.slow  # trains a model, twice

SMALL = TinyConfig(
    steps=3, episodes_per_step=2, num_scenes=12, sizes=("tiny",), max_steps=4, warmup_steps=2, question_share=1.0
)
LESSON = Lesson(
    "You are in a room. You see a desk 1.\n\nYour task is to: put a pen in drawer.",
    (("find pen", "go to desk 1", "You arrive at desk 1. On the desk 1, you see a pen 1.", True),
     ("try", "open pen 1", "Nothing happens.", False),
     ("take pen", "take pen 1 from desk 1", "You pick up the pen 1 from the desk 1.", True)),
    False,
)  # fmt: skip


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    shape = TinyShape(vocab=320, hidden=16, intermediate=24, layers=1, heads=2, key_value_heads=1, head_dim=8)
    texts = [LESSON.opening, *(text for _, action, seen, _ in LESSON.steps for text in (action, seen))]
    return new_language_model(texts, shape, 0)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_short_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.manual_seed(len(name) + (name == "two"))  # whatever was drawn before
        make(SMALL, tmp_path / name)
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert digest(tmp_path / "one" / file) == digest(tmp_path / "two" / file)
    made = load_language_model(tmp_path / "one", device="cpu")
    assert 1e6 < sum(parameter.numel() for parameter in made.model.parameters()) < 5e6
    assert (tmp_path / "one" / "model.safetensors").stat().st_size < 10e6
    notes = json.loads((tmp_path / "one" / "tiny.json").read_text())
    assert notes["config"]["steps"] == notes["figures"]["step"] == 3
    assert TinyConfig.model_validate(notes["config"]) == SMALL


def test_the_command_line_makes_a_model(tmp_path: Path) -> None:
    overrides = ["steps=1", "episodes_per_step=1", "num_scenes=12", 'sizes=["tiny"]', "max_steps=3", "seed=4"]
    command = [sys.executable, "-m", "rwml.cli", "tiny", "--out", str(tmp_path / "model"), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'model'}: " in done.stderr
    assert "cross-entropy" in done.stderr
    assert json.loads((tmp_path / "model" / "tiny.json").read_text())["config"]["seed"] == 4
    assert load_language_model(tmp_path / "model", device="cpu").chat.stop_ids


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as caught:
        tiny.main(tmp_path / "model", ("step=3",))
    assert caught.value.what == "rwml tiny: unknown key 'step'"
    assert "did you mean 'steps'?" in caught.value.fix
    assert not (tmp_path / "model").exists()


def test_a_bad_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as caught:
        tiny.main(tmp_path / "model", ("steps=0",))
    assert "steps = 0 is not valid" in caught.value.what


def test_lessons_depend_on_settings_and_number_alone() -> None:
    lessons = [play_lesson(SMALL, index) for index in range(6)]
    assert [play_lesson(SMALL, index) for index in reversed(range(6))] == lessons[::-1]
    assert len({lesson.opening for lesson in lessons}) > 1
    other = read_settings(TinyConfig, ("seed=1",), "test").model_copy(update=SMALL.model_dump(exclude={"seed"}))
    assert [play_lesson(other, index) for index in range(6)] != lessons
    for lesson in lessons:
        assert 1 <= len(lesson.steps) <= 4
        assert all(valid == (seen != "Nothing happens.") for _, _, seen, valid in lesson.steps)


def test_the_lesson_trees_carry_the_weights_where_they_belong(lm: LanguageModel) -> None:
    """Actions weigh 2, observations 0.5, predictions 3; openings and chat turns nothing."""
    config = TinyConfig(action_weight=2.0, observation_weight=0.5, question_weight=3.0, questions=2, question_share=1.0)
    conversation, questions = lesson_trees(lm, LESSON, config, random.Random(0))
    assert conversation.num_tokens == conversation.num_dense_tokens, "a conversation is one path"

    def text_of(ids: Any) -> str:
        return str(lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    said = [f"<think>{thought}</think><action>{action}</action><|end|>" for thought, action, _, _ in LESSON.steps]
    seen = [f"<|user|>{observation}" for _, _, observation, _ in LESSON.steps]
    assert text_of(conversation.ids[conversation.w_ce == 2.0]) == "".join(said)
    assert text_of(conversation.ids[conversation.w_ce == 0.5]) == "".join(seen)
    assert set(conversation.w_ce.tolist()) == {0.0, 0.5, 2.0}

    answers = {
        "go to desk 1": f"<think>new</think><next_state>{LESSON.steps[0][2]}</next_state><|end|>",
        "open pen 1": f"<think>no effect</think><next_state>{LESSON.steps[1][2]}</next_state><|end|>",
        "take pen 1 from desk 1": f"<think>known</think><next_state>{LESSON.steps[2][2]}</next_state><|end|>",
    }
    leaves = [questions.path(token) for token in range(questions.num_tokens) if questions.end[token] == token + 1]
    assert len(leaves) == 2
    for path in leaves:
        label = text_of(questions.ids[path][questions.w_ce[path] == 3.0])
        question = text_of(questions.ids[path][questions.w_ce[path] == 0.0])
        [action] = [one for one in answers if question.endswith(f"If I do: {one}\nthen?<|end|><|assistant|>")]
        assert label == answers[action]
    assert set(questions.w_ce.tolist()) == {0.0, 3.0}
    assert [tree.ids.tolist() for tree in lesson_trees(
        lm, LESSON, config.model_copy(update={"question_share": 0.0}), random.Random(0)
    )] == [conversation.ids.tolist()]  # fmt: skip


def test_the_learning_rate_rises_then_falls_to_a_tenth() -> None:
    config = TinyConfig(steps=110, warmup_steps=10)
    assert [tiny._schedule(step, config) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert tiny._schedule(10, config) == pytest.approx(1.0)
    assert tiny._schedule(60, config) == pytest.approx(0.55)
    assert tiny._schedule(110, config) == pytest.approx(0.1)


def test_fit_learns(lm: LanguageModel) -> None:
    config = SMALL.model_copy(update={"steps": 12, "learning_rate": 1e-2, "autocast": False})
    losses = [figures["cross_entropy"] for figures in tiny.fit(lm, config)]
    assert len(losses) == 12
    assert losses[-1] < 0.85 * losses[0]
    assert not lm.model.training
