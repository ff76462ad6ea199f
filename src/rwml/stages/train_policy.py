"""`rwml train-policy`: multi-turn GRPO on task success (RWML, step 5), or SFT on episodes: own, expert, reflected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from rwml.core.progress import note, progress
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.sections import TrainPolicyConfig
from rwml.core.records import Parts, read_episodes, read_records
from rwml.core.run import Run, Stage
from rwml.core.seeds import numpy_for, seed_of
from rwml.core.types import Episode, StopReason, Task
from rwml.loading import autocast_of, load_model, load_world, policy_of
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.demonstrations import conversation, expert_episodes
from rwml.playing.failures import refuse_if_all_failed
from rwml.playing.reflections import Reflection, reflect, reflected
from rwml.playing.rollout import SampledEpisode, seats_for
from rwml.train.batches import demonstration_trees, episode_trees, label_trees, observation_weights
from rwml.train.trainer import NO_SAMPLES, Batch, MakeBatch, PolicyLoss, Trainer, TrainingLog
from rwml.world_models.language import too_long
from rwml.worlds.answers import tasks_of
from rwml.worlds.base import Prompts, World
from rwml.worlds.transitions import transitions_of

TASKS_PER_PART = 16


def run(run: Run) -> None:
    """Train by `train_policy.method`; the checkpoint goes to policy/. Without anything to play or to learn from
    it holds the starting weights."""
    wanted = run.recipe.train_policy
    own = wanted.method == "sft" and wanted.episodes == "own"
    start = run.folder / "world_model" / "final" if wanted.start == "world_model" else None
    reads = ([start] if start else []) + ([run.folder / "episodes"] if own else [])
    with run.stage("train_policy", reads=reads, sections=_sections(wanted)) as stage:
        recipe, config = stage.recipe, stage.recipe.train_policy
        lm = load_model(recipe.model, start, trainable=True)
        make = _sft(stage, lm) if config.method == "sft" else _grpo(stage, lm)
        total = config.steps if make else 0
        if make:
            log = TrainingLog(stage.folder / "policy", stage.metrics, "train_policy", recipe.seed)
            policy_loss = PolicyLoss.of(config) if config.method == "grpo" else NO_SAMPLES
            trainer = Trainer(lm, config, log, policy_loss, autocast_of(recipe.model))
            trainer.fit(make, total, f"train-policy ({config.method})")
        save_language_model(lm, stage.folder / "policy" / "final")
        stage.counts["steps"] = total


def _sections(config: TrainPolicyConfig) -> list[str]:
    """The settings that the outcome depends on, besides the seed."""
    asked = ["judge"] if config.asks_judge else []
    cut = ["transitions.history_steps"] if config.transition_every else []
    return ["world", "model", "train_policy", *asked, *cut]


def _grpo(stage: Stage, lm: LanguageModel) -> MakeBatch | None:
    """Play `tasks_per_step` tasks `group_size` times a step, all in one batch; None for a split without tasks."""
    recipe, config, world = stage.recipe, stage.recipe.train_policy, load_world(stage.recipe)
    tasks = tasks_of(world, config.split)
    if not tasks:
        _say_nothing(f"the world {world.name} has no tasks to play in the split '{config.split}'")
        return None
    order = _task_order(tasks, config, recipe.seed)
    params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    policy = policy_of(recipe, lm, params, config.episode_max_steps)
    stage.counts["episodes"] = config.steps * config.tasks_per_step * config.group_size

    def make(step: int, generator: torch.Generator) -> Batch:
        seats = seats_for(_of_step(order, step, config), config.group_size, seed_of(recipe.seed, "train_policy", step))
        played = policy.play(world, seats, generator)
        refuse_if_all_failed([p.episode for p in played], "then the same command continues from the last checkpoint")
        weights = observation_weights(lm.chat, policy.prompts, played, config.observation_weight)
        starts = range(0, len(played), config.group_size)
        groups = [played[i : i + config.group_size] for i in starts]
        learnt = [weights[i : i + config.group_size] for i in starts]
        returns = np.array([[episode_return(p.episode, config) for p in group] for group in groups])
        scored = episode_trees(groups, returns, config, learnt)
        figures = {"reward": scored.reward, "signal_share": scored.signal_share} | _figures(played)
        batch = Batch(scored.trees, figures, config.temperature)
        if config.transition_every and (step + 1) % config.transition_every == 0:
            _add_transitions(batch, recipe, lm, world, [p.episode for p in played])
        return batch

    return make


def _add_transitions(
    batch: Batch, recipe: Recipe, lm: LanguageModel, world: World, episodes: Sequence[Episode]
) -> None:
    """A further update of the batch: WM SFT on the transitions of its own rollouts (TAPO)."""
    model, split = recipe.model, recipe.train_policy.split
    prompts = world.prompts(model.prompts)
    cut = (transitions_of(episode, world, split, recipe.transitions.history_steps) for episode in episodes)
    rows = list(chain.from_iterable(cut))
    long = too_long(lm.chat, prompts, rows, 0, model.max_context_tokens)
    batch.more["transition"] = Batch(label_trees(lm, prompts, [row for row in rows if row.id not in long]))
    batch.metrics |= {"transitions": float(len(rows) - len(long)), "transitions_too_long": float(len(long))}


def _sft(stage: Stage, lm: LanguageModel) -> MakeBatch | None:
    """All demonstrations of `tasks_per_step` tasks a step, in shuffled passes; None without any demonstration."""
    recipe, config = stage.recipe, stage.recipe.train_policy
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    episodes = _demonstrations(stage, lm.chat, prompts)
    by_task: dict[str, list[Episode]] = {}
    for episode in episodes:
        reason = _why_left_out(episode, lm.chat, prompts, recipe.model.max_context_tokens)
        if reason:
            stage.counts[reason] = stage.counts.get(reason, 0) + 1
        else:
            by_task.setdefault(episode.task.id, []).append(episode)
    learnt = [episode for of_task in by_task.values() for episode in of_task]
    steps = [step for episode in learnt for step in episode.steps]
    stage.counts |= {"episodes": len(episodes), "demonstrations": len(learnt), "tasks demonstrated": len(by_task)}
    stage.counts["messages"] = len(steps)
    stage.counts["messages cut off or unreadable, not learnt"] = sum(s.truncated or not s.parsed for s in steps)
    if not by_task:
        _say_nothing(
            f"there is no episode to learn from: {len(episodes)} found (train_policy.episodes '{config.episodes}')"
        )
        return None
    order = _task_order([of_task[0].task for of_task in by_task.values()], config, recipe.seed)

    def make(step: int, generator: torch.Generator) -> Batch:
        shown = [episode for task in _of_step(order, step, config) for episode in by_task[task.id]]
        trees = demonstration_trees(lm.chat, prompts, shown)
        return Batch(trees, {"demonstrations": float(len(shown))})

    return make


def _why_left_out(episode: Episode, chat: ChatFormat, prompts: Prompts, max_context: int) -> str:
    """Why an episode is not a demonstration; "" if it is one."""
    if not episode.success:
        return "episodes without success, left out"
    ids, messages = conversation(chat, prompts, episode)
    if len(ids) > max_context:
        return "episodes longer than model.max_context_tokens, left out"
    return "" if messages else "episodes without a message to learn, left out"


def _demonstrations(stage: Stage, chat: ChatFormat, prompts: Prompts) -> list[Episode]:
    """The episodes to learn from, unfit ones among them; those that this stage makes are kept in policy/."""
    recipe, config = stage.recipe, stage.recipe.train_policy
    if config.episodes == "own":
        return read_episodes(stage.folder / "episodes")
    world, parts = load_world(recipe), Parts(stage.folder / "policy" / "demonstrations")
    tasks = list(dict.fromkeys(_task_order(tasks_of(world, config.split), config, recipe.seed)))
    chunks = [tasks[i : i + TASKS_PER_PART] for i in range(0, len(tasks), TASKS_PER_PART)]
    thoughts = Parts(stage.folder / "policy" / "reflections")
    with progress(f"train-policy ({config.episodes})", total=len(tasks), unit="episode") as bar:
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                steps = recipe.world.max_steps
                parts.write(index, expert_episodes(world, chat, prompts, chunk, recipe.seed, steps), Episode)
            if config.asks_judge and not thoughts.done(index):
                won = [episode for episode in read_records(parts.path(index), Episode) if episode.success]
                written = reflect(world, chat, won, recipe.judge, config.alternatives, recipe.seed)
                thoughts.write(index, written, Reflection)
            bar.advance(len(chunk))
    episodes = parts.read(Episode, len(chunks))
    if not config.asks_judge:
        return episodes
    reflections = thoughts.read(Reflection, len(chunks))
    _count_reflections(stage, reflections)
    return reflected(chat, prompts, episodes, reflections)


def _count_reflections(stage: Stage, reflections: Sequence[Reflection]) -> None:
    failures = Counter(reflection.failure for reflection in reflections if reflection.error)
    stage.counts["reflections"] = len(reflections) - failures.total()
    stage.counts |= {f"reflections failed, {reason}": number for reason, number in sorted(failures.items())}
    stage.counts["reflections, tokens read"] = sum(r.prompt_tokens for r in reflections)
    stage.counts["reflections, tokens written"] = sum(r.completion_tokens for r in reflections)


def _say_nothing(why: str) -> None:
    note(
        f"note: {why}\n"
        "  why it matters: the policy is not trained; policy/final holds the weights that it would have begun with\n"
        "  what to do: nothing, if only the world model is of interest; else see docs/reference/train-policy.md"
    )


def episode_return(episode: Episode, config: TrainPolicyConfig) -> float:
    """Undiscounted return (gamma 1): success once, and a small price for each invalid action."""
    invalid = sum(not step.valid for step in episode.steps)
    return config.reward_success * episode.success + config.reward_invalid * invalid


def _task_order(tasks: Sequence[Task], config: TrainPolicyConfig, seed: int) -> list[Task]:
    """Tasks for all steps: shuffled passes over the split, so that each comes up equally often."""
    random = numpy_for(seed, "train_policy", "order")
    wanted = config.steps * config.tasks_per_step
    order: list[Task] = []
    while tasks and len(order) < wanted:
        order += [tasks[index] for index in random.permutation(len(tasks))]
    return order[:wanted]


def _of_step(order: Sequence[Task], step: int, config: TrainPolicyConfig) -> Sequence[Task]:
    return order[step * config.tasks_per_step : (step + 1) * config.tasks_per_step]


def _figures(played: Sequence[SampledEpisode]) -> dict[str, float]:
    episodes = [p.episode for p in played]
    steps = [step for episode in episodes for step in episode.steps]
    return {
        "success": float(np.mean([episode.success for episode in episodes])),
        "steps_per_episode": len(steps) / len(episodes),
        "invalid_share": float(np.mean([not step.valid for step in steps])),
        "unparsed_share": float(np.mean([not step.parsed for step in steps])),
        "truncated_share": float(np.mean([step.truncated for step in steps])),
        "failed_episodes": float(sum(episode.stop is StopReason.ERROR for episode in episodes)),
        "answer_tokens": float(np.mean([sum(p.sampled) / max(1, len(p.episode.steps)) for p in played])),
        "sampled_tokens": float(sum(sum(p.sampled) for p in played)),
    }
