"""`rwml train-wm`: world-model training by GRPO on next-state prediction (RWML, step 4), by SFT, or by SPIN."""

from __future__ import annotations

import numpy as np
import torch

from rwml.core.errors import RwmlError
from rwml.core.progress import note
from rwml.core.recipe.reward_names import asks_judge
from rwml.core.records import read_records
from rwml.core.run import Run, Stage
from rwml.core.seeds import seed_of
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.loading import autocast_of, load_model, load_reward, load_world, sampler_of, training_tau_d
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.branches import SECTIONS, branched_rows
from rwml.train.batches import answer_trees, epochs_of, label_trees
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, forget_opponents, pair_counts, preference_trees
from rwml.train.trainer import NO_SAMPLES, Batch, MakeBatch, PolicyLoss, Trainer, TrainingLog
from rwml.world_models.questions import ask


def run(run: Run) -> None:
    """Train on the kept transitions of split `train`, or on branched ones; the checkpoint goes to world_model/."""
    branched = run.recipe.train_wm.branches > 0
    reads = [] if branched else [run.folder / "filtered.parquet", run.folder / "filter.json"]
    sections = ["world", "model", "embedding", "train_wm", *run.recipe.judge_settings]
    sections += SECTIONS if branched else ()
    with run.stage("train_wm", reads=reads, sections=sections) as stage:
        recipe, config = stage.recipe, stage.recipe.train_wm
        rows = branched_rows(stage) if config.branches else _filtered(stage)
        batches = epochs_of(rows, config.batch_size, config.epochs, seed_of(recipe.seed, "train_wm", "order"))[
            : config.max_steps
        ]
        lm = load_model(recipe.model, trainable=True)
        make = METHODS[config.method](stage, lm, batches)
        log = TrainingLog(stage.folder / "world_model", stage.metrics, "train_wm", recipe.seed)
        policy_loss = PolicyLoss.of(config) if config.method == "rwml" else NO_SAMPLES
        trainer = Trainer(lm, config, log, policy_loss, autocast_of(recipe.model))
        trainer.fit(make, len(batches), f"train-wm ({config.method})")
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


def _sft(stage: Stage, lm: LanguageModel, batches: list[list[Transition]]) -> MakeBatch:
    prompts = load_world(stage.recipe).prompts(stage.recipe.model.prompts)
    return lambda step, generator: Batch(label_trees(lm, prompts, batches[step]))


def _rwml(stage: Stage, lm: LanguageModel, batches: list[list[Transition]]) -> MakeBatch:
    recipe, config, tau_d = stage.recipe, stage.recipe.train_wm, training_tau_d(stage)
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    sampler = sampler_of(lm, recipe.model)
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    reward = load_reward(stage, tau_d)
    drift = DriftWatch(config.drift_share, stage.metrics)
    shares: list[float] = []

    def make(step: int, generator: torch.Generator) -> Batch:
        rows = batches[step]
        if step < config.sft_steps:
            return Batch(label_trees(lm, prompts, rows))
        reward.expect(rows)
        answers = ask(lm, sampler, prompts, rows, config.group_size, params, generator)
        flat = [(answer, row) for row, group in zip(rows, answers, strict=True) for answer in group]
        texts, asked = [answer.next_state for answer, _ in flat], [row for _, row in flat]
        distances, rewards = reward.score(texts, asked)
        failed = reward.failed_judgements(texts, asked, distances)
        shape = (len(rows), config.group_size)
        scored = answer_trees(lm, prompts, rows, answers, rewards.reshape(shape), config)
        shares.append(scored.signal_share)
        _warn_of_low_signal(shares, config.low_signal_share, config.low_signal_steps, tau_d)
        return Batch(
            scored.trees,
            {
                "reward": scored.reward,
                "signal_share": scored.signal_share,
                "within_tau": float((distances < tau_d).mean()),
                "mean_distance": float(distances.mean()),
                "exact": float(np.mean([same_text(a.next_state, r.next_state) for a, r in flat])),
                "cheat_share": drift.share(texts, asked),
                "unparsed_share": float(np.mean([answer.next_state is None for answer, _ in flat])),
                "truncated_share": float(np.mean([answer.truncated for answer, _ in flat])),
                "answer_tokens": float(np.mean([len(answer.ids) for answer, _ in flat])),
                "sampled_tokens": float(sum(len(answer.ids) for answer, _ in flat)),
            }
            | ({"judge_failed_share": failed / len(flat)} if asks_judge(config.reward) else {}),
            config.temperature,
        )

    return make


def _spin(stage: Stage, lm: LanguageModel, batches: list[list[Transition]]) -> MakeBatch:
    recipe, config = stage.recipe, stage.recipe.train_wm
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    sampler = sampler_of(lm, recipe.model)
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    opponent = Opponent(lm, stage.folder / "world_model", autocast_of(recipe.model))

    def make(step: int, generator: torch.Generator) -> Batch:
        rows = batches[step]
        if step < config.sft_steps:
            return Batch(label_trees(lm, prompts, rows))
        number = (step - config.sft_steps) * config.spin.rounds // (len(batches) - config.sft_steps)
        opponent.begin(number)
        with opponent.playing():
            guesses = [group[0] for group in ask(lm, sampler, prompts, rows, 1, params, generator)]
        scored = preference_trees(opponent, prompts, rows, guesses, config.spin.beta)
        return Batch(
            scored.trees,
            {
                "round": number + 1.0,
                "kept_pairs": float(len(scored.margins)),
                "equal_pairs": float(len(rows) - len(scored.margins)),
                "preference_loss": scored.loss,
                "margin": scored.margin,
                "accuracy": scored.accuracy,
                "unparsed_share": float(np.mean([guess.next_state is None for guess in guesses])),
                "truncated_share": float(np.mean([guess.truncated for guess in guesses])),
                "answer_tokens": float(np.mean([len(guess.ids) for guess in guesses])),
                "sampled_tokens": float(sum(len(guess.ids) for guess in guesses)),
            },
        )

    return make


METHODS = {"rwml": _rwml, "sft": _sft, "spin": _spin}


def _warn_of_low_signal(shares: list[float], least: float, steps: int, tau_d: float) -> None:
    if len(shares) != steps or np.mean(shares) >= least:
        return
    note(
        f"warning: only {np.mean(shares):.1%} of the groups had signal in the first {steps} steps (tau_d {tau_d})\n"
        "  why it matters: a group whose answers all score alike teaches nothing, and the run will hardly move\n"
        "  what to do: raise train_wm.tau_d or train_wm.group_size, check that answers parse (unparsed_share in "
        "metrics.jsonl), and whether the next states can be known from the history at all"
    )
