"""`rwml train-wm`: world-model training by GRPO on next-state prediction (RWML, step 4), by SFT, or by SPIN."""

from __future__ import annotations

from rwml.core.errors import RwmlError
from rwml.core.records import read_records
from rwml.core.run import Run, Stage
from rwml.core.seeds import seed_of
from rwml.core.types import Transition
from rwml.loading import autocast_of, load_model, load_reward, training_tau_d, world_model_of
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.branches import SECTIONS, branched_rows
from rwml.train.batches import epochs_of
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, forget_opponents, pair_counts
from rwml.train.trainer import NO_SAMPLES, MakeBatch, PolicyLoss, Trainer, TrainingLog
from rwml.train.world_model import RwmlSteps, SpinSteps, sft_steps


def run(run: Run) -> None:
    """Train on the kept transitions of split `train`, or on branched ones; the checkpoint goes to world_model/."""
    branched = run.recipe.train_wm.branches > 0
    reads = [] if branched else [run.folder / "filtered.parquet", run.folder / "filter.json"]
    sections = ["world", "model", "embedding", "train_wm", *run.recipe.judge_settings]
    sections += SECTIONS if branched else ()
    with run.stage("train_wm", reads=reads, sections=sections) as stage:
        recipe, config = stage.recipe, stage.recipe.train_wm
        rows = branched_rows(stage) if config.branches else _filtered(stage)
        order = seed_of(recipe.seed, "train_wm", "order")
        batches = epochs_of(rows, config.batch_size, config.epochs, order)[: config.max_steps]
        lm = load_model(recipe.model, trainable=True)
        log = TrainingLog(stage.folder / "world_model", stage.metrics, "train_wm", recipe.seed)
        policy_loss = PolicyLoss.of(config) if config.method == "rwml" else NO_SAMPLES
        trainer = Trainer(lm, config, log, policy_loss, autocast_of(recipe.model))
        trainer.fit(_steps(stage, lm, batches), len(batches), f"train-wm ({config.method})")
        save_language_model(lm, run.folder / "world_model" / "final")
        forget_opponents(run.folder / "world_model")
        stage.counts |= {"transitions": len(rows), "steps": len(batches)}
        stage.counts |= pair_counts(line for line in run.metrics.read() if line["stage"] == "train_wm")


def _filtered(stage: Stage) -> list[Transition]:
    rows = [r for r in read_records(stage.folder / "filtered.parquet", Transition) if r.kept and r.split == "train"]
    if not rows:
        raise RwmlError(
            "filtered.parquet keeps no transition of split 'train'",
            "there is nothing to learn from",
            "collect more episodes, or loosen the [filter] section (keep_probability, target_share)",
        )
    return rows


def _steps(stage: Stage, lm: LanguageModel, batches: list[list[Transition]]) -> MakeBatch:
    """What each step trains on, by `train_wm.method`."""
    recipe, config = stage.recipe, stage.recipe.train_wm
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    model = world_model_of(recipe, lm, params)
    if config.method == "sft":
        return sft_steps(model, batches)
    if config.method == "spin":
        opponent = Opponent(lm, stage.folder / "world_model")
        return SpinSteps(model, opponent, batches, config, autocast_of(recipe.model))
    reward = load_reward(stage, training_tau_d(stage))
    return RwmlSteps(model, reward, batches, config, DriftWatch(config.drift_share, stage.metrics))
