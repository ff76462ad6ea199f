"""NaN and infinity end a training: the step is named, the last good checkpoint stays, and the cause can be mended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rwml.core.errors import NotFiniteError
from rwml.core.recipe.sections import GrpoConfig, ModelConfig, OptimizerConfig
from rwml.core.records import MetricsLog, folder_hash
from rwml.loading import load_model
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.tiny import TinyShape, new_language_model
from rwml.train.trainer import NO_SAMPLES, Batch, PolicyLoss, Trainer, TrainingLog
from rwml.trees.tree import Tree, TreeBuilder

TEXTS = ["You see a pen 1 on the desk 2.", "go to desk 1", "Nothing happens."]
SHAPE = TinyShape(vocab=290, hidden=16, intermediate=24, layers=1, heads=2, key_value_heads=1, head_dim=8)
CONFIG = GrpoConfig(learning_rate=1e-3, checkpoint_every=2, tokens_per_pass=256, kl_weight=0.1)

Make = Callable[[int, torch.Generator], Batch]


@pytest.fixture
def lm(tmp_path: Path) -> LanguageModel:
    save_language_model(new_language_model(TEXTS, SHAPE, 1), tmp_path / "start")
    return _fresh(tmp_path)


def _fresh(folder: Path) -> LanguageModel:
    return load_model(ModelConfig(path=str(folder / "start"), device="cpu"), trainable=True)


def _trainer(lm: LanguageModel, folder: Path, config: OptimizerConfig = CONFIG, stage: str = "train_wm") -> Trainer:
    loss = PolicyLoss.of(config) if isinstance(config, GrpoConfig) else NO_SAMPLES
    return Trainer(lm, config, TrainingLog(folder / "stage", MetricsLog(folder / "metrics.jsonl"), stage, 3), loss)


def _tree(lm: LanguageModel, advantage: float = 1.0, cross_entropy: float = 0.05) -> Tree:
    question = lm.chat.opening("", TEXTS[0]) + lm.chat.ask(TEXTS[1])
    builder = TreeBuilder()
    for text, sign in (("Nothing happens.", 1), ("pen 1", -1)):
        ids = question + lm.chat.text(text)
        builder.add(ids, len(question), advantage=sign * advantage, coefficient=0.1, cross_entropy=cross_entropy)
    return builder.build()


def _spoilt(lm: LanguageModel, at: int, metrics: dict[str, float] | None = None) -> Make:
    """Sound batches, but for step `at` (from 0): weights of NaN, or `metrics`."""

    def make(step: int, _: torch.Generator) -> Batch:
        tree = _tree(lm)
        if step == at and metrics is None:
            tree = replace(tree, w_ce=np.where(tree.w_ce > 0, np.float32(math.nan), tree.w_ce))
        return Batch([tree], metrics if step == at and metrics else {"reward": 0.5})

    return make


def _weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in lm.model.state_dict().items()}


def test_a_loss_that_is_nan_stops_at_its_step_and_the_checkpoint_before_it_stays(
    lm: LanguageModel, tmp_path: Path
) -> None:
    kept = _fresh(tmp_path)
    _trainer(kept, tmp_path / "sound").fit(_spoilt(kept, 99), 2, "fit")
    with pytest.raises(NotFiniteError) as caught:
        _trainer(lm, tmp_path).fit(_spoilt(lm, at=2), 6, "fit")
    error = caught.value
    assert error.what == "train_wm, step 3 of 6: loss = nan, grad_norm = nan"
    assert "stage/checkpoint-000002' is as it was" in error.why
    assert "lower train_wm.learning_rate (now 0.001)" in error.fix
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["checkpoint-000002"]
    assert folder_hash(tmp_path / "stage" / "checkpoint-000002") == folder_hash(
        tmp_path / "sound" / "stage" / "checkpoint-000002"
    )
    assert [line["step"] for line in MetricsLog(tmp_path / "metrics.jsonl").read()] == [1, 2]
    # The model in memory has not been updated by it either.
    assert all(torch.equal(value, _weights(kept)[name]) for name, value in _weights(lm).items())


def test_a_training_continues_from_the_good_checkpoint_once_the_cause_is_gone(
    lm: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(NotFiniteError):
        _trainer(lm, tmp_path).fit(_spoilt(lm, at=3), 6, "fit")
    again, straight = _fresh(tmp_path), _fresh(tmp_path)
    _trainer(again, tmp_path).fit(_spoilt(again, at=99), 6, "fit")
    _trainer(straight, tmp_path / "other").fit(_spoilt(straight, at=99), 6, "fit")
    assert all(torch.equal(value, _weights(straight)[name]) for name, value in _weights(again).items())
    assert [line["step"] for line in MetricsLog(tmp_path / "metrics.jsonl").read()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["reward", "mean_distance", "margin"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_of_the_batch_that_is_no_number_stops(
    lm: LanguageModel, tmp_path: Path, name: str, value: float
) -> None:
    before = _weights(lm)
    with pytest.raises(NotFiniteError, match=rf"step 1 of 2: {name} = {value:g}"):
        _trainer(lm, tmp_path).fit(_spoilt(lm, 0, {name: value}), 2, "fit")
    assert not (tmp_path / "stage").exists()
    assert all(torch.equal(value, before[name]) for name, value in _weights(lm).items())


def test_a_share_of_nothing_is_no_reason_to_stop(lm: LanguageModel, tmp_path: Path) -> None:
    _trainer(lm, tmp_path).fit(_spoilt(lm, 0, {"reward": 0.0, "invalid_share": math.nan}), 1, "fit")
    [line] = MetricsLog(tmp_path / "metrics.jsonl").read()
    assert line["invalid_share"] is None


@pytest.mark.parametrize(
    ("changes", "step", "what"),
    [
        ({"learning_rate": 1e30}, 1, "the updated tensor .* has values from -1e.30 to"),
        ({"learning_rate": 1e30, "checkpoint_every": 9}, 2, "grad_norm = nan"),
        ({"learning_rate": 1e38}, 1, "larger than a 32-bit number"),  # torch refuses it with a RuntimeError
        ({"learning_rate": 1e308}, 1, "the updated tensor .* has values from -inf to inf"),
        ({"weight_decay": 1e38, "learning_rate": 1.0}, 1, "the updated tensor"),
        ({"kl_weight": 1e300}, 1, "loss = "),
        ({"clip_high": 1e308, "updates_per_batch": 2}, 1, "larger than a 32-bit number"),
        ({"temperature": 1e-300}, 1, "loss = nan"),
    ],
)
def test_an_absurd_setting_is_an_error_with_its_step(
    lm: LanguageModel, tmp_path: Path, changes: dict[str, float], step: int, what: str
) -> None:
    config = GrpoConfig(**(CONFIG.model_dump() | {"checkpoint_every": 1} | changes))
    make = _spoilt(lm, 99)
    heated = lambda step, g: replace(make(step, g), temperature=config.temperature)  # noqa: E731
    with pytest.raises(NotFiniteError, match=rf"train_policy, step {step} of 4: .*{what}") as caught:
        _trainer(lm, tmp_path, config, "train_policy").fit(heated, 4, "fit")
    assert f"train_policy.learning_rate (now {config.learning_rate:g})" in caught.value.fix
    for folder in (tmp_path / "stage").glob("checkpoint-*"):
        for file in folder.glob("*.safetensors"):
            assert all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())


def test_the_rate_of_the_filters_predictor_has_its_own_key(lm: LanguageModel, tmp_path: Path) -> None:
    config = OptimizerConfig(learning_rate=1e38)
    with pytest.raises(NotFiniteError, match=r"lower filter\.predictor_learning_rate \(now 1e\+38\)") as caught:
        _trainer(lm, tmp_path, config, "filter").fit(_spoilt(lm, 99), 2, "fit")
    assert caught.value.what == (
        "filter, step 1 of 2: a setting, as it enters the computation, is larger than a 32-bit number can be"
    )
    assert "no checkpoint was due before it" in caught.value.why


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_of_nan_that_is_sampled_stops_the_training_at_that_step(
    lm: LanguageModel, tmp_path: Path, temperature: float
) -> None:
    sampler = local_sampler(lm)

    def make(step: int, generator: torch.Generator) -> Batch:
        if step == 2:
            with torch.no_grad():
                next(lm.model.parameters()).fill_(math.nan)
        sampler.sample([lm.chat.opening("", TEXTS[0])], 2, SamplingParams(3, temperature), generator)
        return Batch([_tree(lm)])

    with pytest.raises(NotFiniteError, match=r"step 3 of 4: the model's logits are NaN") as caught:
        _trainer(lm, tmp_path).fit(make, 4, "fit")
    assert "checkpoint-000002' is as it was" in caught.value.why


@pytest.mark.parametrize(("rate", "warned"), [(1e3, True), (0.11, True), (0.1, False), (1e-6, False)])
def test_a_high_rate_is_warned_of_before_the_first_step(
    lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: float, warned: bool
) -> None:
    _trainer(lm, tmp_path, OptimizerConfig(learning_rate=rate), "filter").fit(_spoilt(lm, 99), 1, "fit")
    said = capsys.readouterr().err
    assert (f"warning: the learning rate of filter reaches {rate:g}" in said) is warned
    assert ("lower filter.predictor_learning_rate" in said) is warned
