"""From transitions and answers to trees and advantages: what one training step learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from rwml.core.config import GrpoConfig
from rwml.core.objectives import answer_coefficients, group_advantages
from rwml.core.trees import Tree, TreeBuilder
from rwml.core.types import Transition
from rwml.engine.predict import Answer, label_ids, question_ids
from rwml.engine.rollout import Played
from rwml.models.hf import Mind
from rwml.worlds.base import Prompts


def epochs_of(transitions: Sequence[Transition], batch_size: int, epochs: int, seed: int) -> list[list[Transition]]:
    """All batches of all epochs. Episodes are shuffled, their steps stay together, so that a batch shares trunks."""
    episodes = [list(rows) for _, rows in groupby(transitions, key=lambda row: row.episode)]
    random = np.random.default_rng(seed)
    batches: list[list[Transition]] = []
    for _ in range(epochs):
        order = [row for index in random.permutation(len(episodes)) for row in episodes[index]]
        batches += [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return batches


def label_trees(mind: Mind, prompts: Prompts, transitions: Sequence[Transition]) -> list[Tree]:
    """WM SFT: every real next state once, mean cross-entropy over its tokens, then over transitions (as RWML)."""
    labels = [label_ids(mind.chat, transition) for transition in transitions]
    trees = []
    for rows in _by_episode(transitions):
        builder = TreeBuilder()
        for index in rows:
            question, label = question_ids(mind.chat, prompts, transitions[index]), labels[index]
            builder.add(question + label, len(question), cross_entropy=1.0 / (len(label) * len(labels)))
        trees.append(builder.build())
    return trees


@dataclass(frozen=True, slots=True)
class Scored:
    """Trees of the groups that have signal, and what the rewards say. signal_share: of all groups."""

    trees: list[Tree]
    signal_share: float
    reward: float


def answer_trees(
    mind: Mind,
    prompts: Prompts,
    transitions: Sequence[Transition],
    answers: Sequence[Sequence[Answer]],
    rewards_PG: np.ndarray,
    config: GrpoConfig,
) -> Scored:
    """RWML: GRPO on G answers to each of P questions. Groups without signal are left out before any forward pass.

    rewards_PG: sim-to-real rewards [P, G]. Aggregation counts all answers, those without signal too, as GRPO does.
    """
    advantages, signal = group_advantages(torch.from_numpy(rewards_PG), config.advantage_scale)
    lengths = [len(answer.ids) for group in answers for answer in group]
    weights = answer_coefficients(lengths, config.aggregation, config.max_new_tokens).reshape(rewards_PG.shape)
    keep_old = config.updates_per_batch > 1
    trees = []
    for rows in _by_episode(transitions):
        builder = TreeBuilder()
        useful = [index for index in rows if signal[index]]
        for index in useful:
            question = question_ids(mind.chat, prompts, transitions[index])
            for g, answer in enumerate(answers[index]):
                builder.add(
                    [*question, *answer.ids],
                    len(question),
                    advantage=float(advantages[index, g]),
                    coefficient=weights[index, g],
                    old_logp=answer.logprobs if keep_old else None,
                )
        if useful:
            trees.append(builder.build())
    return Scored(trees, float(signal.float().mean()), float(rewards_PG.mean()))


def episode_trees(played_PG: Sequence[Sequence[Played]], returns_PG: np.ndarray, config: GrpoConfig) -> Scored:
    """Policy RL: GRPO on whole episodes, loss on the tokens that the model wrote (RWML, step 5)."""
    advantages, signal = group_advantages(torch.from_numpy(returns_PG), config.advantage_scale)
    lengths = [max(1, sum(played.sampled)) for group in played_PG for played in group]
    weights = answer_coefficients(lengths, config.aggregation, config.max_new_tokens).reshape(returns_PG.shape)
    keep_old = config.updates_per_batch > 1
    trees = []
    for index, group in enumerate(played_PG):
        if not signal[index]:
            continue
        for g, played in enumerate(group):
            if not any(played.sampled):
                continue
            sampled = np.asarray(played.sampled)
            builder = TreeBuilder()
            builder.add(
                played.ids,
                0,
                advantage=float(advantages[index, g]),
                coefficient=np.where(sampled, weights[index, g], 0.0),
                old_logp=np.where(sampled, played.logprobs, np.nan) if keep_old else None,
            )
            trees.append(builder.build())
    return Scored(trees, float(signal.float().mean()), float(returns_PG.mean()))


def _by_episode(transitions: Sequence[Transition]) -> Iterator[list[int]]:
    for _, rows in groupby(range(len(transitions)), key=lambda index: transitions[index].episode):
        yield list(rows)
