"""`rwml train-wm`: world-model training by GRPO on next-state prediction (RWML, step 4), by SFT, or by SPIN."""

from __future__ import annotations

from rwml.core.errors import RwmlError
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.seeds import seed_of
from rwml.core.types import Transition
from rwml.loading import load_model, load_reward, training_tau_d, world_model_of
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.branches import SECTIONS, branched_rows
from rwml.train.batches import epochs_of
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, forget_opponents, pair_counts
from rwml.train.trainer import MakeBatch, Trainer
from rwml.train.world_model import RwmlSteps, SpinSteps, sft_steps


def run(run: Run) -> None:
    """Train on the kept transitions of split `train`, or on branched ones; the checkpoint goes to world_model/."""
    recipe, config = run.recipe, run.recipe.train_wm
    reads = [] if config.branches else [run.folder / "filtered.parquet", run.folder / "filter.json"]
    sections = ["world", "model", "embedding", "train_wm", *recipe.judge_settings]
    sections += SECTIONS if config.branches else ()
    with run.stage("train_wm", reads=reads, sections=sections) as stage:
        rows = branched_rows(run, stage) if config.branches else _filtered(run)
        batches = epochs_of(rows, config.batch_size, config.epochs, seed_of(recipe.seed, "train_wm", "order"))[
            : config.max_steps or None
        ]
        lm = load_model(recipe.model, trainable=True)
        make = _steps(run, lm, batches)
        trainer = Trainer(
            lm,
            config.of_loss,
            run.folder / "world_model",
            run.metrics,
            "train_wm",
            recipe.seed,
            recipe.model.autocast,
        )
        trainer.fit(make, len(batches), f"train-wm ({config.method})")
        save_language_model(lm, run.folder / "world_model" / "final")
        forget_opponents(run.folder / "world_model")
        stage.counts |= {"transitions": len(rows), "steps": len(batches)}
        stage.counts |= pair_counts(line for line in run.metrics.read() if line["stage"] == "train_wm")


def _filtered(run: Run) -> list[Transition]:
    rows = [r for r in read_records(run.folder / "filtered.parquet", Transition) if r.kept and r.split == "train"]
    if not rows:
        raise RwmlError(
            "filtered.parquet keeps no transition of split 'train'",
            "there is nothing to learn from",
            "collect more episodes, or loosen the [filter] section (keep_probability, target_share)",
        )
    return rows


def _steps(run: Run, lm: LanguageModel, batches: list[list[Transition]]) -> MakeBatch:
    """What each step trains on, by `train_wm.method`."""
    recipe, config = run.recipe, run.recipe.train_wm
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    model = world_model_of(recipe, lm, params)
    if config.method == "sft":
        return sft_steps(model, batches)
    if config.method == "spin":
        return SpinSteps(model, Opponent(lm, run.folder / "world_model"), batches, config, recipe.model.autocast)
    reward = load_reward(run, training_tau_d(run))
    return RwmlSteps(model, reward, batches, config, DriftWatch(config.drift_share, run.metrics))
