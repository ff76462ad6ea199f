"""`rwml train-wm`: world-model training by GRPO on next-state prediction, or by SFT (RWML, step 4)."""

from __future__ import annotations

import numpy as np
import torch

from rwml.core.config import Recipe
from rwml.core.errors import RwmlError
from rwml.core.manifest import Run
from rwml.core.progress import note
from rwml.core.store import read_records
from rwml.core.types import Transition
from rwml.engine.batches import answer_trees, epochs_of, label_trees
from rwml.engine.predict import ask
from rwml.engine.rewards import exact
from rwml.engine.setup import load_model, load_reward, load_world, sampler_of, training_tau_d
from rwml.engine.trainer import Batch, MakeBatch, Trainer
from rwml.models.hf import Mind, save_mind
from rwml.models.sampler import SamplingParams


def run(run: Run) -> None:
    """Train on the kept transitions of split `train`; the checkpoint goes to world_model/."""
    recipe, config = run.recipe, run.recipe.train_wm
    reads = [run.folder / "filtered.parquet", run.folder / "filter.json"]
    with run.stage("train_wm", reads=reads, sections=["world", "model", "embedding", "train_wm"]) as stage:
        rows = [r for r in read_records(run.folder / "filtered.parquet", Transition) if r.kept and r.split == "train"]
        if not rows:
            raise RwmlError(
                "filtered.parquet keeps no transition of split 'train'",
                "there is nothing to learn from",
                "collect more episodes, or loosen the [filter] section (keep_probability, target_share)",
            )
        batches = epochs_of(rows, config.batch_size, config.epochs, recipe.seed)
        total = min(len(batches), config.max_steps or len(batches))
        mind = load_model(recipe.model, trainable=True)
        make = _sft(recipe, mind, batches) if config.method == "sft" else _rwml(run, mind, batches, training_tau_d(run))
        trainer = Trainer(
            mind,
            config.of_loss,
            run.folder / "world_model",
            run.metrics,
            "train_wm",
            recipe.seed,
            recipe.model.autocast,
        )
        trainer.fit(make, total, f"train-wm ({config.method})")
        save_mind(mind, run.folder / "world_model" / "final")
        stage.counts |= {"transitions": len(rows), "steps": total}


def _sft(recipe: Recipe, mind: Mind, batches: list[list[Transition]]) -> MakeBatch:
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    return lambda step, generator: Batch(label_trees(mind, prompts, batches[step]))


def _rwml(run: Run, mind: Mind, batches: list[list[Transition]], tau_d: float) -> MakeBatch:
    recipe, config = run.recipe, run.recipe.train_wm
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    sampler = sampler_of(mind, recipe.model)
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    reward = load_reward(run, tau_d)
    shares: list[float] = []

    def make(step: int, generator: torch.Generator) -> Batch:
        rows = batches[step]
        if step < config.sft_steps:
            return Batch(label_trees(mind, prompts, rows))
        reward.expect(rows)
        answers = ask(mind, sampler, prompts, rows, config.group_size, params, generator)
        flat = [(answer, row) for row, group in zip(rows, answers, strict=True) for answer in group]
        distances, rewards = reward.score([answer.next_state for answer, _ in flat], [row for _, row in flat])
        shape = (len(rows), config.group_size)
        scored = answer_trees(mind, prompts, rows, answers, rewards.reshape(shape), config)
        shares.append(scored.signal_share)
        _warn_of_low_signal(shares, config.low_signal_share, config.low_signal_steps, tau_d)
        return Batch(
            scored.trees,
            {
                "reward": scored.reward,
                "signal_share": scored.signal_share,
                "within_tau": float((distances < tau_d).mean()),
                "mean_distance": float(distances.mean()),
                "exact": float(np.mean([exact(a.next_state, r.next_state) for a, r in flat])),
                "unparsed_share": float(np.mean([answer.next_state is None for answer, _ in flat])),
                "truncated_share": float(np.mean([answer.truncated for answer, _ in flat])),
                "answer_tokens": float(np.mean([len(answer.ids) for answer, _ in flat])),
            },
        )

    return make


def _warn_of_low_signal(shares: list[float], least: float, steps: int, tau_d: float) -> None:
    if len(shares) != steps or np.mean(shares) >= least:
        return
    note(
        f"warning: only {np.mean(shares):.1%} of the groups had signal in the first {steps} steps (tau_d {tau_d})\n"
        "  why it matters: a group whose answers all score alike teaches nothing, and the run will hardly move\n"
        "  what to do: raise train_wm.tau_d or train_wm.group_size, check that answers parse (unparsed_share in "
        "metrics.jsonl), and whether the next states can be known from the history at all"
    )
