"""`rwml train-policy`: multi-turn GRPO on task success from the world-model weights (RWML, step 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rwml.core.config import TrainPolicyConfig
from rwml.core.manifest import Run
from rwml.core.types import Episode, StopReason, Task
from rwml.engine.batches import episode_trees
from rwml.engine.rollout import Played, seats_for
from rwml.engine.setup import load_model, load_world, player_of
from rwml.engine.trainer import Batch, Trainer
from rwml.models.hf import save_mind
from rwml.models.sampler import SamplingParams


def run(run: Run) -> None:
    """Play `tasks_per_step` tasks `group_size` times a step, all in one batch; the checkpoint goes to policy/."""
    recipe, config = run.recipe, run.recipe.train_policy
    start = run.folder / "world_model" / "final" if config.start == "world_model" else None
    reads = [start] if start else []
    with run.stage("train_policy", reads=reads, sections=["world", "model", "train_policy"]) as stage:
        world = load_world(recipe)
        order = _task_order(world.tasks(config.split), config, recipe.seed)
        mind = load_model(recipe.model, start, trainable=True)
        params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
        player = player_of(recipe, mind, params, config.episode_max_steps)

        def make(step: int, generator: torch.Generator) -> Batch:
            tasks = order[step * config.tasks_per_step : (step + 1) * config.tasks_per_step]
            seats = seats_for(tasks, config.group_size, recipe.seed + step)
            played = player.play(world, seats, generator)
            groups = [played[i : i + config.group_size] for i in range(0, len(played), config.group_size)]
            returns = np.array([[episode_return(p.episode, config) for p in group] for group in groups])
            scored = episode_trees(groups, returns, config)
            figures = {"reward": scored.reward, "signal_share": scored.signal_share} | _figures(played)
            return Batch(scored.trees, figures)

        trainer = Trainer(
            mind, config, run.folder / "policy", run.metrics, "train_policy", recipe.seed, recipe.model.autocast
        )
        total = min(config.steps, config.max_steps or config.steps)
        trainer.fit(make, total, "train-policy")
        save_mind(mind, run.folder / "policy" / "final")
        stage.counts |= {"steps": total, "episodes": total * config.tasks_per_step * config.group_size}


def episode_return(episode: Episode, config: TrainPolicyConfig) -> float:
    """Undiscounted return (gamma 1): success once, and a small price for each invalid action."""
    invalid = sum(not step.valid for step in episode.steps)
    return config.reward_success * episode.success + config.reward_invalid * invalid


def _task_order(tasks: Sequence[Task], config: TrainPolicyConfig, seed: int) -> list[Task]:
    """Tasks for all steps: shuffled passes over the split, so that each comes up equally often."""
    random = np.random.default_rng(seed)
    wanted = config.steps * config.tasks_per_step
    order: list[Task] = []
    while len(order) < wanted:
        order += [tasks[index] for index in random.permutation(len(tasks))]
    return order[:wanted]


def _figures(played: Sequence[Played]) -> dict[str, float]:
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
    }
