"""Steps of world-model training: what one of them samples, scores and reports, and when it warns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwml.core.metric_names import unnamed
from rwml.core.recipe.sections import TrainWmConfig
from rwml.core.records import MetricsLog
from rwml.core.seeds import generator_for
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.local import LocalSampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.rewards.rewards import KindReward
from rwml.train.batches import label_trees
from rwml.train.drift import DriftWatch
from rwml.train.steps import RwmlSteps, sft_steps
from rwml.world_models.language import LanguageWorldModel
from rwml.worlds.base import World

CONFIG = TrainWmConfig(group_size=4, max_new_tokens=24, temperature=0.9, low_signal_steps=2, low_signal_share=0.3)


@pytest.fixture
def model(lm: LanguageModel, world: World) -> LanguageWorldModel:
    params = SamplingParams(CONFIG.max_new_tokens, CONFIG.temperature)
    sampler = LocalSampler(lm.model, lm.chat.stop_ids)
    return LanguageWorldModel(lm, sampler, world.prompts("brief"), params, 400)


def steps_of(
    model: LanguageWorldModel, rows: list[Transition], folder: Path, config: TrainWmConfig = CONFIG, tau_d: float = 0.5
) -> RwmlSteps:
    drift = DriftWatch(config.drift_share, MetricsLog(folder / "metrics.jsonl"))
    return RwmlSteps(model, KindReward("rouge", tau_d=tau_d), [rows] * 5, config, drift)


def test_a_step_reports_what_it_sampled(model: LanguageWorldModel, rows: list[Transition], tmp_path: Path) -> None:
    some = rows[:5]
    batch = steps_of(model, some, tmp_path)(0, generator_for("step"))
    groups = model.predict([row.query for row in some], 4, generator_for("step"))
    states = [state for group in groups for state in group]
    asked = [row for row in some for _ in range(4)]
    distances, rewards = KindReward("rouge", tau_d=0.5).score([state.next_state for state in states], asked)
    figures = batch.metrics
    assert not unnamed([figures | {"stage": "train_wm", "step": 1}])
    assert figures["reward"] == pytest.approx(rewards.mean())
    assert figures["within_tau"] == pytest.approx((distances < 0.5).mean())
    assert figures["mean_distance"] == pytest.approx(distances.mean())
    exact = [same_text(state.next_state, row.next_state) for state, row in zip(states, asked, strict=True)]
    assert figures["exact"] == pytest.approx(np.mean(exact))
    assert figures["unparsed_share"] == np.mean([state.next_state is None for state in states])
    assert figures["sampled_tokens"] == sum(len(state.ids) for state in states)
    with_signal = [len(set(rewards[4 * n : 4 * n + 4].tolist())) > 1 for n in range(5)]
    assert figures["signal_share"] == pytest.approx(np.mean(with_signal))
    assert batch.temperature == 0.9


def test_the_first_steps_are_sft(model: LanguageWorldModel, rows: list[Transition], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"sft_steps": 1})
    [expected] = label_trees(model.lm, model.prompts, rows[:1])
    for make in (steps_of(model, rows[:1], tmp_path, config), sft_steps(model, [rows[:1]])):
        [tree] = make(0, generator_for("step")).trees
        assert tree.ids.tolist() == expected.ids.tolist()
        assert tree.w_ce.tolist() == expected.w_ce.tolist()
    assert "reward" in steps_of(model, rows[:1], tmp_path, config)(1, generator_for("step")).metrics


def test_low_signal_warns_once_and_only_if_it_is_low(
    model: LanguageWorldModel, rows: list[Transition], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = steps_of(model, rows[:1], tmp_path)
    for share in (0.0, 0.5, 0.0, 0.0):
        low._warn_of_low_signal(share)
    assert capsys.readouterr().err.count("warning: only 25.0% of the groups had signal in the first 2 steps") == 1
    high = steps_of(model, rows[:1], tmp_path)
    for share in (0.3, 0.3, 0.0):
        high._warn_of_low_signal(share)
    assert capsys.readouterr().err == ""
