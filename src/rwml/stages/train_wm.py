"""`rwml train-wm`: world-model training by GRPO on next-state prediction (RWML, step 4), by SFT, or by SPIN."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from rwml.core.errors import RwmlError
from rwml.core.progress import progress
from rwml.core.records import Parts, read_records
from rwml.core.run import Run, Stage
from rwml.core.seeds import seed_of
from rwml.core.types import Transition
from rwml.loading import autocast_of, load_model, load_reward, load_world, training_tau_d, world_model_of
from rwml.models.language_model import LanguageModel, load_chat, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.branches import branched_transitions, is_branch
from rwml.rewards.rewards import LONG
from rwml.train.batches import epochs_of
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, forget_opponents, pair_counts
from rwml.train.steps import RwmlSteps, SpinSteps, sft_steps
from rwml.train.trainer import NO_SAMPLES, MakeBatch, PolicyLoss, Trainer, TrainingLog
from rwml.world_models.language import TOO_LONG, too_long
from rwml.worlds.answers import tasks_of

BRANCH_SECTIONS = ("collect.split", "collect.num_tasks", "transitions.history_steps")
TASKS_IN_FLIGHT = 16


def run(run: Run) -> None:
    """Train on the kept transitions of split `train`, or on branched ones; the checkpoint goes to world_model/."""
    branched = run.recipe.train_wm.branches > 0
    reads = [] if branched else [run.folder / "filtered.parquet", run.folder / "filter.json"]
    sections = ["world", "model", "embedding", "train_wm", *run.recipe.judge_settings]
    sections += BRANCH_SECTIONS if branched else ()
    with run.stage("train_wm", reads=reads, sections=sections) as stage:
        recipe, config = stage.recipe, stage.recipe.train_wm
        rows, counts = _branched(stage) if config.branches else (_filtered(stage), {})
        stage.counts |= counts
        order = seed_of(recipe.seed, "train_wm", "order")
        batches = epochs_of(rows, config.batch_size, config.epochs, order)[: config.max_steps]
        lm = load_model(recipe.model, trainable=True)
        log = TrainingLog(stage.folder / "world_model", stage.metrics, "train_wm", recipe.seed)
        policy_loss = PolicyLoss.of(config) if config.method == "rwml" else NO_SAMPLES
        trainer = Trainer(lm, config, log, policy_loss, autocast_of(recipe.model))
        steps = _steps(stage, lm, batches)
        trainer.fit(steps, len(batches), f"train-wm ({config.method})")
        save_language_model(lm, run.folder / "world_model" / "final")
        forget_opponents(run.folder / "world_model")
        stage.counts |= {"transitions": len(rows), "steps": len(batches)}
        if isinstance(steps, RwmlSteps):
            stage.counts[LONG] = steps.reward.num_long(rows)
        stage.counts |= pair_counts(line for line in run.metrics.read() if line["stage"] == "train_wm")


def _branched(stage: Stage) -> tuple[list[Transition], dict[str, int]]:
    """The rows that a recipe with `train_wm.branches` trains on, and counts of all that were played.

    They are written to `world_model/branches/`, those longer than the model can read with kept=False; a part that is
    on disk is not played again. Raises RwmlError if the split has no tasks.
    """
    rows = _play_branches(stage, Parts(stage.folder / "world_model" / "branches"))
    steps = {(row.episode, row.step) for row in rows}
    branched = sum(map(is_branch, rows))
    counts = {
        "expert episodes": len({row.episode for row in rows}),
        "expert transitions": len(rows) - branched,
        "branched transitions": branched,
        "branches that could not be tried": stage.recipe.train_wm.branches * len(steps) - branched,
    }
    return [row for row in rows if row.kept], counts | Counter(row.reason for row in rows if not row.kept)


def _play_branches(stage: Stage, parts: Parts) -> list[Transition]:
    recipe, config = stage.recipe, stage.recipe.train_wm
    world, chat = load_world(recipe), load_chat(recipe.model.path, trust_remote_code=recipe.model.trust_remote_code)
    tasks = tasks_of(world, recipe.collect.split)
    tasks = tasks[: config.branch_tasks or recipe.collect.num_tasks or len(tasks)]
    if not tasks:
        raise RwmlError(
            f"the world {world.name} has no tasks in the split '{recipe.collect.split}'",
            "expert episodes come from playing tasks",
            "name another collect.split or world",
        )
    chunks = [tasks[i : i + TASKS_IN_FLIGHT] for i in range(0, len(tasks), TASKS_IN_FLIGHT)]
    prompts, context = world.prompts(recipe.model.prompts), recipe.model.max_context_tokens
    steps, history = recipe.world.max_steps, recipe.transitions.history_steps
    with progress("train-wm: branches", total=len(tasks), unit="episode") as bar:
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                rows = branched_transitions(world, chunk, config.branches, recipe.seed, steps, history)
                long = too_long(chat, prompts, rows, 0, context)
                marked = [replace(row, kept=False, reason=TOO_LONG) if row.id in long else row for row in rows]
                parts.write(index, marked, Transition)
            bar.advance(len(chunk))
    return parts.read(Transition, len(chunks))


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
        return sft_steps(lm, model.prompts, batches)
    if config.method == "spin":
        opponent = Opponent(lm, stage.folder / "world_model", autocast_of(recipe.model))
        return SpinSteps(model, opponent, batches, config)
    reward = load_reward(stage, training_tau_d(stage))
    return RwmlSteps(model, reward, batches, config, DriftWatch(config.drift_share, stage.metrics))
