"""`rwml tiny`: the tiny model's weights, from play by mediocre policies in its own scenes (docs/reference/tiny.md)."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field

from rwml.core.files import atomic_folder, write_json
from rwml.core.progress import note, progress
from rwml.core.prompts import action_text, next_state_text
from rwml.core.recipe.recipe import read_settings
from rwml.core.run_folder.claim import claim
from rwml.core.run_folder.manifest import MODEL
from rwml.core.seeds import random_for
from rwml.models.language_model import LanguageModel, write_language_model
from rwml.models.tiny import TinyShape, new_language_model
from rwml.trees.forward import LossFn, PassOptions, tree_backward
from rwml.trees.objectives import LossFields, finish_metrics, merge_metrics, token_losses
from rwml.trees.tree import Tree, TreeBuilder, pack
from rwml.worlds.alfworld.beliefs import knowable
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import parse_game
from rwml.worlds.alfworld.pddl import make_game
from rwml.worlds.alfworld.policies import ExpertPolicy
from rwml.worlds.alfworld.scenes import WARM_UP_OFFSET, SceneConfig
from rwml.worlds.alfworld.wording import BRIEF


class TinyConfig(BaseModel):
    """How the weights are made. steps: optimiser steps of `episodes_per_step` fresh episodes each.

    noise: range of the share of random actions, drawn per episode; the policy is mediocre on purpose.
    question_share: share of the episodes that are asked about, with `questions` next-state questions each.
    observation_weight: of the observations in the conversation. slips: share of actions that are written wrongly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    steps: int = Field(400, ge=1)
    episodes_per_step: int = Field(24, ge=1)
    sizes: tuple[str, ...] = ("tiny", "tiny", "small")
    max_steps: int = 12
    noise: tuple[float, float] = (0.0, 0.4)
    slips: float = 0.03
    question_share: float = 0.3
    questions: int = 3
    action_weight: float = 1.0
    observation_weight: float = 0.1
    question_weight: float = 1.0
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    tokens_per_pass: int = 8192
    autocast: bool = False
    num_scenes: int = 2000


@dataclass(frozen=True, slots=True)
class Lesson:
    """One warm-up episode: the opening, and (thought, action, observation, valid) of each step."""

    opening: str
    steps: tuple[tuple[str, str, str, bool], ...]
    won: bool


def play_lesson(config: TinyConfig, index: int) -> Lesson:
    """Play episode `index` of the warm-up by a mediocre policy. It depends only on the config and the index."""
    draw = random_for("tiny", config.seed, index)
    scenes = SceneConfig(
        draw.choice(config.sizes), config.seed, num_train=1, scene_offset=WARM_UP_OFFSET, num_scenes=config.num_scenes
    )
    game = Game(parse_game(json.dumps(make_game(scenes, "train", index))))
    policy = ExpertPolicy(draw.getrandbits(32), noise=draw.uniform(*config.noise))
    opening = observation = game.reset()
    steps = []
    for _ in range(config.max_steps):
        admissible = game.admissible_commands
        action = policy.act(observation, admissible)
        thought = policy.thought()
        if draw.random() < config.slips:
            action, thought = _mangled(action, draw), "try"
        observation, _, won = game.step(action)
        steps.append((thought, action, observation, action in admissible))
        if won:
            break
    return Lesson(opening, tuple(steps), game.won)


def _mangled(action: str, draw: random.Random) -> str:
    """An action that a careless player might write: a wrong number, or a verb that does not fit."""
    words = action.split()
    if words[-1].isdigit() and draw.random() < 0.5:
        return " ".join([*words[:-1], str(int(words[-1]) + 1)])
    return " ".join([draw.choice(("open", "close", "use", "examine")), *words[-2:]])


def lesson_trees(lm: LanguageModel, lesson: Lesson, config: TinyConfig, draw: random.Random) -> list[Tree]:
    """Trees of an episode: the conversation of the policy, and for some questions on the world with their answers.

    Weights are per token; `fit` divides by the batch's total.
    """
    conversation = TreeBuilder()
    ids, weights = _conversation(lm, lesson, config)
    conversation.add(ids, 0, cross_entropy=weights)
    if draw.random() >= config.question_share:
        return [conversation.build()]
    asked = sorted(draw.sample(range(len(lesson.steps)), min(config.questions, len(lesson.steps))))
    questions = TreeBuilder()
    chat = lm.chat
    trunk = chat.opening(BRIEF.world_model, lesson.opening)
    past: list[str] = []
    for number, (_, action, observation, valid) in enumerate(lesson.steps):
        if number in asked:
            question = trunk + chat.ask(BRIEF.question.format(action=action))
            known = knowable(lesson.opening, past, action, observation)
            thought = "no effect" if not valid else "known" if known else "new"
            label = chat.text(next_state_text(observation, thought)) + chat.to_user[:1]
            questions.add(question + label, len(question), cross_entropy=config.question_weight)
        trunk = trunk + chat.past_turn(action_text(action), observation)
        past += [action, observation]
    return [conversation.build(), questions.build()]


def _conversation(lm: LanguageModel, lesson: Lesson, config: TinyConfig) -> tuple[list[int], list[float]]:
    chat = lm.chat
    ids = chat.opening(BRIEF.agent, lesson.opening) + chat.ask()
    weights = [0.0] * len(ids)
    for thought, action, observation, _ in lesson.steps:
        message = chat.text(action_text(action, thought)) + chat.to_user[:1]
        seen = chat.turn_after(message, observation)
        ids += message + seen + chat.ask()
        weights += [config.action_weight] * len(message) + [config.observation_weight] * len(seen)
        weights += [0.0] * (len(ids) - len(weights))
    return ids, weights


def fit(lm: LanguageModel, config: TinyConfig) -> Iterator[dict[str, float]]:
    """Train on fresh episodes at every step; yields the figures of each step."""
    optimizer = torch.optim.AdamW(
        lm.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    autocast = torch.bfloat16 if config.autocast else None
    lm.model.train()
    for step in range(config.steps):
        started = time.perf_counter()
        first = step * config.episodes_per_step
        lessons = [play_lesson(config, first + index) for index in range(config.episodes_per_step)]
        draw = random_for("questions", config.seed, step)
        trees = [tree for lesson in lessons for tree in lesson_trees(lm, lesson, config, draw)]
        total = sum(float(tree.w_ce.sum()) for tree in trees)
        sums: dict[str, float] = {}
        for row in pack(trees, config.tokens_per_pass):
            merge_metrics(sums, tree_backward(lm.model, row, _loss(row, total), PassOptions(autocast=autocast)))
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield finish_metrics(sums) | {
            "step": step + 1,
            "won": sum(lesson.won for lesson in lessons) / len(lessons),
            "tokens": float(sum(tree.num_tokens for tree in trees)),
            "seconds": time.perf_counter() - started,
        }
    lm.model.eval()


def _loss(row: Tree, total: float) -> LossFn:
    fields = LossFields.of(row)

    def loss(logp_R: torch.Tensor, tokens_R: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        summed, figures = token_losses(logp_R, fields.take(tokens_R))
        return summed / total, figures

    return loss


def _schedule(step: int, config: TinyConfig) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.55 + 0.45 * math.cos(math.pi * done)


def texts_for_tokenizer(config: TinyConfig, episodes: int = 600) -> Iterator[str]:
    """What the tokenizer is trained on: episodes that the weights never see (negative indices)."""
    for index in range(episodes):
        lesson = play_lesson(config, -1 - index)
        yield lesson.opening
        for thought, action, observation, _ in lesson.steps:
            yield action_text(action, thought)
            yield BRIEF.question.format(action=action)
            yield observation


def make(config: TinyConfig, out: Path) -> dict[str, float]:
    """Make tokenizer and weights, and write them as a checkpoint with `tiny.json` (config, time, last figures).

    RwmlError, before anything is made, if `out` holds something else than such a checkpoint."""
    claim(out, MODEL)
    started = time.perf_counter()
    lm = new_language_model(texts_for_tokenizer(config), TinyShape(), config.seed)
    last: dict[str, float] = {}
    with progress("tiny", total=config.steps, unit="step") as bar:
        for last in fit(lm, config):
            bar.advance(1, cross_entropy=last["cross_entropy"])
    lm.model.to(torch.bfloat16)
    figures = last | {"minutes": (time.perf_counter() - started) / 60}
    with atomic_folder(out) as folder:
        write_language_model(lm, folder)
        write_json(folder / "tiny.json", {"config": config.model_dump(), "figures": figures})
    return figures


def main(out: Path, overrides: tuple[str, ...] = ()) -> None:
    """Make a tiny model in `out`; overrides are `key=value` on `TinyConfig`."""
    config = read_settings(TinyConfig, overrides, "rwml tiny")
    figures = make(config, out)
    note(f"{out}: {figures['minutes']:.1f} min, cross-entropy {figures['cross_entropy']:.3f}")
