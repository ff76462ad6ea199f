"""Rewards of predicted next states (RWML, step 4), and which kind of next state has which.

A reward compares texts: it has a name and `score(predicted, real) -> (distances_N, rewards_N)`. To add one: write a
class with that method, a line in `REWARDS`, and its name in `REWARD_NAMES` (core/config.py), so that recipes can ask
for it. Stages hold a `KindReward`, which gives each transition the reward of its kind. An answer without a readable
next state (None) has the largest distance and reward 0, whatever the reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rwml.core.config import check_reward, reward_name
from rwml.core.rouge import rouge_l
from rwml.core.types import Transition
from rwml.models.embed import Embedder

# The largest cosine distance there is, so that a mean over all answers does not flatter a model that fails to answer.
UNPARSED_DISTANCE = 2.0

Floats = NDArray[np.float32]


class Reward(Protocol):
    """How well predictions match what really came."""

    name: str

    def expect(self, real: Sequence[str]) -> None:
        """Be told what will be compared with, before the answers are there."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """Distances [N] within [0, 2] and rewards [N]; None = no readable answer: distance 2.0, reward 0."""


def exact(predicted: str | None, real: str) -> bool:
    """Whether both are the same words: equal up to white space."""
    return predicted is not None and (predicted == real or predicted.split() == real.split())


class EmbeddingReward:
    """1 if d < tau_d else 0, with d = 1 - cos(E(predicted), E(real)) (RWML, step 4).

    Exact predictions (up to white space) have distance 0.0 and are not embedded.
    """

    name = "embedding"

    def __init__(self, embedder: Embedder, tau_d: float) -> None:
        self.embedder, self.tau_d = embedder, tau_d

    def expect(self, real: Sequence[str]) -> None:
        """Embed the real next states in the background, beside the sampling; each text once per data set."""
        self.embedder.embed_async(real)

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `Reward.score`."""
        distances_N = np.full(len(real), UNPARSED_DISTANCE, dtype=np.float32)
        rows, pairs = [], []
        for row, (answer, truth) in enumerate(zip(predicted, real, strict=True)):
            if answer is not None:
                rows.append(row)
                pairs.append((truth if exact(answer, truth) else answer, truth))
        distances_N[rows] = self.embedder.distances(pairs)
        return distances_N, (distances_N < self.tau_d).astype(np.float32)


class ExactReward:
    """1 for the same words, else 0; the distance is 0 or 1. What RWML tends to as tau_d goes to 0."""

    name = "exact"

    def expect(self, real: Sequence[str]) -> None:
        """Nothing to prepare."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `Reward.score`."""
        rewards_N = np.array([exact(p, r) for p, r in zip(predicted, real, strict=True)], dtype=np.float32)
        distances_N = 1 - rewards_N
        distances_N[[row for row, answer in enumerate(predicted) if answer is None]] = UNPARSED_DISTANCE
        return distances_N, rewards_N


class RougeReward:
    """ROUGE-L F1 rounded to the nearest 0.2 (RWML on tau2-bench, tool responses); the distance is 1 - F1, unrounded.

    Exact predictions have F1 1, texts without a word (emoji, say) too. No threshold has a part in the reward.
    """

    name = "rouge"

    def expect(self, real: Sequence[str]) -> None:
        """Nothing to prepare."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `Reward.score`."""
        distances, rewards = [], []
        for answer, truth in zip(predicted, real, strict=True):
            if answer is None:
                distances.append(UNPARSED_DISTANCE)
                rewards.append(0.0)
            else:
                likeness = 1.0 if exact(answer, truth) else rouge_l(answer, truth)
                distances.append(1 - likeness)
                rewards.append(_in_fifths(likeness))
        return np.array(distances, dtype=np.float32), np.array(rewards, dtype=np.float32)


def _in_fifths(share: float) -> float:
    """Rounded to the nearest 0.2; halves (0.1, 0.3, ...) go up, whatever their last binary digit."""
    return math.floor(5 * share + 0.5 + 1e-9) / 5


REWARDS: dict[str, Callable[[Callable[[], Embedder], float], Reward]] = {
    "embedding": lambda embedder, tau_d: EmbeddingReward(embedder(), tau_d),
    "exact": lambda embedder, tau_d: ExactReward(),
    "rouge": lambda embedder, tau_d: RougeReward(),
}


class KindReward:
    """The reward of each transition's kind. choice: as in `train_wm.reward`, one name for all kinds or a table."""

    def __init__(self, choice: str | Mapping[str, str], embedder: Callable[[], Embedder], tau_d: float) -> None:
        """embedder: called once, when a transition first needs it. Raises RwmlError for unknown names and kinds."""
        check_reward(choice)
        self.choice = choice
        self._of_name = cache(lambda name: REWARDS[name](embedder, tau_d))

    def of(self, kind: str) -> Reward:
        """The reward of a kind of next state."""
        return self._of_name(reward_name(self.choice, kind))

    def expect(self, rows: Sequence[Transition]) -> None:
        """Tell the rewards which next states will be compared with, before the answers are there."""
        for reward, numbers in self._shares(rows):
            reward.expect([rows[number].next_state for number in numbers])

    def score(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """Distances [N] and rewards [N] of one answer to each of N transitions; see `Reward.score`."""
        assert len(predicted) == len(rows), "one answer to each transition"
        distances_N, rewards_N = np.empty((2, len(rows)), dtype=np.float32)
        for reward, numbers in self._shares(rows):
            distances_N[numbers], rewards_N[numbers] = reward.score(
                [predicted[number] for number in numbers], [rows[number].next_state for number in numbers]
            )
        return distances_N, rewards_N

    def _shares(self, rows: Sequence[Transition]) -> list[tuple[Reward, list[int]]]:
        """The rewards at work, each with the numbers of its rows."""
        numbers: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            numbers.setdefault(reward_name(self.choice, row.kind), []).append(number)
        return [(self._of_name(name), own) for name, own in numbers.items()]
