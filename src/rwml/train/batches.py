"""From transitions and answers to trees and advantages: what one training step learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from rwml.core.recipe.sections import GrpoConfig
from rwml.core.seeds import numpy_for
from rwml.core.types import Episode, PredictedState, Transition
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel
from rwml.playing.demonstrations import conversation
from rwml.playing.rollout import SampledEpisode, answered_calls
from rwml.trees.objectives import answer_coefficients, group_advantages
from rwml.trees.tree import Tree, TreeBuilder
from rwml.world_models.language import label_ids, question_ids
from rwml.worlds.base import Prompts

Floats = NDArray[np.float64]


def epochs_of(transitions: Sequence[Transition], batch_size: int, epochs: int, seed: int) -> list[list[Transition]]:
    """All batches of all epochs. Episodes are shuffled but keep their steps together: a batch shares trunks."""
    episodes = [list(rows) for _, rows in groupby(transitions, key=lambda row: row.episode)]
    random = numpy_for(seed)
    batches: list[list[Transition]] = []
    for _ in range(epochs):
        order = [row for index in random.permutation(len(episodes)) for row in episodes[index]]
        batches += [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return batches


def label_trees(lm: LanguageModel, prompts: Prompts, transitions: Sequence[Transition]) -> list[Tree]:
    """WM SFT: every real next state once, mean cross-entropy over its tokens, then over transitions (as RWML)."""
    labels = [label_ids(lm.chat, transition) for transition in transitions]
    trees = []
    for rows in _by_episode(transitions):
        builder = TreeBuilder()
        for index in rows:
            question, label = question_ids(lm.chat, prompts, transitions[index]), labels[index]
            builder.add(question + label, len(question), cross_entropy=1.0 / (len(label) * len(labels)))
        trees.append(builder.build())
    return trees


@dataclass(frozen=True, slots=True)
class Scored:
    """Trees of the groups that are learnt from, and what the rewards say. signal_share: of all groups."""

    trees: list[Tree]
    signal_share: float
    reward: float


def answer_trees(
    lm: LanguageModel,
    prompts: Prompts,
    transitions: Sequence[Transition],
    answers: Sequence[Sequence[PredictedState]],
    rewards_PG: np.ndarray,
    config: GrpoConfig,
) -> Scored:
    """RWML: GRPO on G answers to each of P questions. Groups without signal are left out before any pass, unless
    the KL term holds to them as well (`kl_groups`).

    rewards_PG: sim-to-real rewards [P, G]. Aggregation counts all answers, those without signal too, as GRPO does.
    """
    advantages, signal = group_advantages(torch.from_numpy(rewards_PG), config.advantage_scale)
    lengths = [len(answer.ids) for group in answers for answer in group]
    weights = answer_coefficients(lengths, config.aggregation, config.max_new_tokens).reshape(rewards_PG.shape)
    trees = []
    for rows in _by_episode(transitions):
        builder = TreeBuilder()
        useful = [index for index in rows if signal[index] or _holds_all(config)]
        for index in useful:
            question = question_ids(lm.chat, prompts, transitions[index])
            for g, answer in enumerate(answers[index]):
                builder.add(
                    [*question, *answer.ids],
                    len(question),
                    advantage=float(advantages[index, g]),
                    coefficient=weights[index, g],
                )
        if useful:
            trees.append(builder.build())
    return Scored(trees, float(signal.float().mean()), float(rewards_PG.mean()))


def episode_trees(
    played_PG: Sequence[Sequence[SampledEpisode]],
    returns_PG: np.ndarray,
    config: GrpoConfig,
    learnt_PG: Sequence[Sequence[Floats]] | None = None,
) -> Scored:
    """Policy RL: GRPO on whole episodes, loss on the tokens that the model wrote (RWML, step 5).

    learnt_PG: cross-entropy weights of each episode's tokens [P][G][T], see `observation_weights`. With them the
    episodes of groups without signal stay in, for this term alone.
    """
    advantages, signal = group_advantages(torch.from_numpy(returns_PG), config.advantage_scale)
    lengths = [max(1, sum(played.sampled)) for group in played_PG for played in group]
    weights = answer_coefficients(lengths, config.aggregation, config.max_new_tokens).reshape(returns_PG.shape)
    trees = []
    for index, group in enumerate(played_PG):
        for g, played in enumerate(group):
            sampled = np.asarray(played.sampled) & (bool(signal[index]) or _holds_all(config))
            learnt = learnt_PG[index][g] if learnt_PG else np.zeros(len(sampled))
            if not (sampled.any() or learnt.any()):
                continue
            builder = TreeBuilder()
            builder.add(
                played.ids,
                0,
                advantage=float(advantages[index, g]),
                coefficient=np.where(sampled, weights[index, g], 0.0),
                cross_entropy=learnt,
            )
            trees.append(builder.build())
    return Scored(trees, float(signal.float().mean()), float(returns_PG.mean()))


def _holds_all(config: GrpoConfig) -> bool:
    return config.kl_groups == "all" and config.kl_weight > 0


def observation_weights(
    chat: ChatFormat, prompts: Prompts, played: Sequence[SampledEpisode], weight: float
) -> list[Floats]:
    """Cross-entropy weights [T] of each episode's tokens, which sum to `weight` over all of them (ECHO, PaW).

    They are spread evenly over the tokens of the observations after the model's messages; the opening and the words of
    the chat template have weight 0. An episode's last observation is in no conversation and is not learnt.
    """
    if not weight:
        return [np.zeros(len(sampled.ids)) for sampled in played]
    masks = [_observed(chat, prompts, sampled) for sampled in played]
    total = sum(int(mask.sum()) for mask in masks)
    return [np.where(mask, weight / max(1, total), 0.0) for mask in masks]


def _observed(chat: ChatFormat, prompts: Prompts, played: SampledEpisode) -> NDArray[np.bool_]:
    """Which tokens of a conversation are observations after a message, [T]."""
    mask = np.zeros(len(played.ids), dtype=bool)
    edges = np.flatnonzero(np.diff(np.asarray(played.sampled, dtype=np.int8), append=1)) + 1
    # Edges alternate: a message begins, a message ends. What follows a message's end lasts to the next one.
    for step, end in zip(played.episode.steps, edges[2::2], strict=False):
        calls = answered_calls(prompts, step)
        shown = chat.tools.response(step.observation) if calls else step.observation
        stop = int(end) - len(chat.ask(after_tool=bool(calls)))
        mask[stop - len(chat.text(shown)) : stop] = True
    return mask


def demonstration_trees(chat: ChatFormat, prompts: Prompts, episodes: Sequence[Episode]) -> list[Tree]:
    """SFT: whole episodes, one tree per task; mean cross-entropy over the tokens of a message, then over messages.

    Each message that `conversation` says is learnt counts once in the mean over all messages of the batch. Episodes of
    one task share what they have in common.
    """
    shown = [(episode.task.id, *conversation(chat, prompts, episode)) for episode in episodes]
    number = sum(len(messages) for _, _, messages in shown)
    builders: dict[str, TreeBuilder] = {}
    for task, ids, messages in shown:
        weights = np.zeros(len(ids))
        for message in messages:
            weights[message.start : message.stop] = 1.0 / (len(message) * number)
        builders.setdefault(task, TreeBuilder()).add(ids, 0, cross_entropy=weights)
    return [builder.build() for builder in builders.values()]


def _by_episode(transitions: Sequence[Transition]) -> Iterator[list[int]]:
    for _, rows in groupby(range(len(transitions)), key=lambda index: transitions[index].episode):
        yield list(rows)
