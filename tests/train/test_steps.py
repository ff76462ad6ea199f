"""What one step of each method learns from: figures by hand, under a reward whose scores are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwml.core.recipe.sections import ModelConfig, TrainWmConfig
from rwml.core.records import MetricsLog
from rwml.core.text import same_text
from rwml.core.types import PredictedState, Transition
from rwml.loading import sampler_of
from rwml.models.embedding.embedder import Embedder
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.rewards.rewards import KindReward
from rwml.train.batches import answer_trees, label_trees
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, preference_trees
from rwml.train.steps import RwmlSteps, SpinSteps, sampling_figures, sft_steps
from rwml.train.trainer import Batch
from rwml.trees.tree import Tree
from rwml.world_models.language import LanguageWorldModel
from rwml.world_models.world_model import first_of_each
from rwml.worlds.base import World

DISTANCES = [0.1, 0.3, 0.5, 2.0, 1.0, 1.0, 1.0, 1.0]
ONE_HIT = [1.0, 0, 0, 0, 0, 0, 0, 0]
ALL_MISSES = [0.0] * 8


@dataclass
class WrittenDown:
    """A reward whose distances and rewards are given beforehand; it notes what it receives."""

    rewards: list[float]
    prefetched: list[str] = field(default_factory=list)
    scored: list[tuple[str | None, str]] = field(default_factory=list)

    def prefetch(self, real: Sequence[str]) -> None:
        self.prefetched += real

    def score_rows(
        self, predicted: Sequence[str | None], rows: Sequence[Transition]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        self.scored += zip(predicted, [row.id for row in rows], strict=True)
        return np.array(DISTANCES, dtype=np.float32), np.array(self.rewards, dtype=np.float32)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(6)


@pytest.fixture
def model(lm: LanguageModel, world: World) -> LanguageWorldModel:
    params = SamplingParams(max_new_tokens=24)
    return LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), params, 400)


def assert_same(found: Sequence[Tree], expected: Sequence[Tree]) -> None:
    assert len(found) == len(expected)
    for tree, other in zip(found, expected, strict=True):
        for name in ("ids", "parent", "w_pos", "w_neg", "w_kl", "w_ce"):
            np.testing.assert_array_equal(getattr(tree, name), getattr(other, name), name)


def rwml_steps(model: LanguageWorldModel, reward: WrittenDown, batch: list[Transition], folder: Path) -> RwmlSteps:
    """Two questions of four answers; the first step is SFT, and the signal is judged after two others."""
    config = TrainWmConfig(
        group_size=4, temperature=0.9, max_new_tokens=24, sft_steps=1, low_signal_steps=2, low_signal_share=0.3
    )
    drift = DriftWatch(1.0, MetricsLog(folder / "metrics.jsonl"))
    return RwmlSteps(model, KindReward(reward, tau_d=0.3), [batch] * 5, config, drift)


def test_a_step_of_rwml_by_hand(model: LanguageWorldModel, rows: list[Transition], tmp_path: Path) -> None:
    batch, reward = rows[:2], WrittenDown(ONE_HIT)
    steps = rwml_steps(model, reward, batch, tmp_path)
    learnt = steps(1, generator())

    groups = model.predict([row.query for row in batch], 4, generator())
    states = [state for group in groups for state in group]
    of = [row for row in batch for _ in range(4)]
    assert reward.prefetched == [row.next_state for row in batch]
    assert reward.scored == [(state.next_state, row.id) for state, row in zip(states, of, strict=True)]
    figures = learnt.metrics
    assert (figures["reward"], figures["signal_share"], figures["within_tau"]) == (1 / 8, 1 / 2, 1 / 8)
    assert figures["mean_distance"] == pytest.approx((0.1 + 0.3 + 0.5 + 2 + 4) / 8)
    hits = [same_text(state.next_state, row.next_state) for state, row in zip(states, of, strict=True)]
    assert figures["exact"] == sum(hits) / 8
    assert figures["cheat_share"] == steps.drift.share([state.next_state for state in states], of)
    named = {"reward", "signal_share", "within_tau", "mean_distance", "exact", "cheat_share"}
    assert {name: figures[name] for name in figures if name not in named} == sampling_figures(states)

    # The second group has no signal: its question is in no tree.
    rewards = np.array(ONE_HIT, dtype=np.float32).reshape(2, 4)
    assert learnt.temperature == 0.9
    assert_same(learnt.trees, answer_trees(model.lm, model.prompts, batch, groups, rewards, steps.config).trees)
    assert len(learnt.trees) == 1
    assert sum(tree.w_pos.sum() for tree in learnt.trees) > 0


def test_the_first_steps_are_sft(model: LanguageWorldModel, rows: list[Transition], tmp_path: Path) -> None:
    reward = WrittenDown(ONE_HIT)
    learnt = rwml_steps(model, reward, rows[:2], tmp_path)(0, generator())
    assert_same(learnt.trees, label_trees(model.lm, model.prompts, rows[:2]))
    assert (learnt.metrics, learnt.temperature, reward.scored) == ({}, 1.0, [])

    batches = [rows[:2], rows[2:5]]
    later = sft_steps(model.lm, model.prompts, batches)(1, generator())
    assert_same(later.trees, label_trees(model.lm, model.prompts, rows[2:5]))
    # The mean over the rows of means over their tokens: the weights of a batch are one in all.
    assert sum(float(tree.w_ce.sum()) for tree in later.trees) == pytest.approx(1.0, abs=1e-6)
    assert later == Batch(later.trees)


@pytest.mark.parametrize(("rewards", "warnings"), [(ALL_MISSES, 1), (ONE_HIT, 0)], ids=["low", "enough"])
def test_a_low_signal_is_said_once_and_only_if_it_is_low(
    rewards: list[float],
    warnings: int,
    model: LanguageWorldModel,
    rows: list[Transition],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = rwml_steps(model, WrittenDown(rewards), rows[:2], tmp_path)
    for number in (0, 1):
        steps(number, generator())
    assert capsys.readouterr().err == "", "the first steps of RWML are not over"
    for number in (2, 3, 4):
        steps(number, generator())
    message = capsys.readouterr().err
    warning = "warning: only 0.0% of the groups had signal in the first 2 steps (tau_d 0.3)"
    assert message.count(warning) == message.count("warning: only") == warnings


def test_a_step_of_spin_by_hand(model: LanguageWorldModel, rows: list[Transition], tmp_path: Path) -> None:
    """One step of SFT, then four steps of two rounds."""
    config = TrainWmConfig(method="spin", sft_steps=1, spin={"rounds": 2, "beta": 0.1}, max_new_tokens=24)
    batch, opponent = rows[:4], Opponent(model.lm, tmp_path)
    steps = SpinSteps(model, opponent, [batch] * 5, config)
    assert_same(steps(0, generator()).trees, label_trees(model.lm, model.prompts, batch))
    assert list(tmp_path.iterdir()) == [], "no round has begun"
    learnt = [steps(number, generator()) for number in (1, 2, 3, 4)]
    assert [batch.metrics["round"] for batch in learnt] == [1, 1, 2, 2]

    guesses = first_of_each(model.predict([row.query for row in batch], 1, generator()))
    pairs = preference_trees(opponent, model.prompts, batch, guesses, 0.1)
    assert_same(learnt[0].trees, pairs.trees)
    wrong = [not same_text(guess.next_state, row.next_state) for guess, row in zip(guesses, batch, strict=True)]
    figures = learnt[0].metrics
    assert (figures["kept_pairs"], figures["equal_pairs"]) == (sum(wrong), 4 - sum(wrong))
    # The model is its own opponent still: every margin is 0, and the loss is log 2.
    assert figures["preference_loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert figures["margin"] == pytest.approx(0, abs=1e-5)
    assert learnt[0].temperature == 1.0


def test_figures_of_sampling_by_hand() -> None:
    states = [
        PredictedState("a", "x", "x", completion_tokens=3),
        PredictedState("a", "y", None, truncated=True, completion_tokens=8),
        PredictedState("b", "z", "z", truncated=True, completion_tokens=8),
        PredictedState("b", "", None, reason="context limit"),
    ]
    assert sampling_figures(states) == {
        "unparsed_share": 0.5,
        "truncated_share": 0.5,
        "answer_tokens": 19 / 4,
        "sampled_tokens": 19.0,
    }


def test_what_is_too_long_for_the_embedding_model_is_said_once_when_training_starts(
    model: LanguageWorldModel, rows: list[Transition], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = replace(rows[1], id="long", next_state="You see " + ", ".join(f"a mug {n}" for n in range(200)))
    steps = rwml_steps(model, WrittenDown(ONE_HIT), [rows[0], long], tmp_path)
    steps.reward = KindReward("embedding", lambda: Embedder(device="cpu"), tau_d=0.3)
    steps(0, generator())
    assert capsys.readouterr().err == "", "the first step is SFT"
    for step in (1, 2):
        steps(step, generator())
        said = capsys.readouterr().err
        assert ("note: 1 of 2 next states are longer than the embedding model reads" in said) is (step == 1)
        assert ('{ tool = "rouge" }' in said) is (step == 1)
    assert steps.reward.num_long([long, rows[0], long]) == 2
    assert KindReward("exact").num_long([long]) == 0
