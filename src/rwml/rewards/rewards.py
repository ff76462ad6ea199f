"""Rewards of predicted next states (RWML, step 4), and which kind of next state has which.

Here are those of the embedding; those of words alone are in rewards/text_rewards.py, and the one that also reads what
came before is in rewards/judge.py. To add one: write a class, a line in `REWARDS`, and its name in `REWARD_NAMES`
(core/recipe/reward_names.py), so that recipes can ask for it. Stages hold a `KindReward`, which gives each transition
the reward of its kind. An answer without a readable next state (None) has distance 2.0 and reward 0, whatever the
reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np

from rwml.core.errors import RwmlError
from rwml.core.recipe.reward_names import JUDGE_REWARDS, check_reward, reward_name
from rwml.core.text import UNPARSED_DISTANCE, same_text
from rwml.core.types import Transition
from rwml.models.embedding.embedder import Embedder
from rwml.rewards.judge import Judge, JudgeReward
from rwml.rewards.named_things import named_things
from rwml.rewards.text_rewards import ExactReward, F1Reward, Floats, RougeReward, TextReward


class Reward(Protocol):
    """How well predictions match what really came."""

    name: str

    def expect(self, real: Sequence[str]) -> None:
        """Be told what will be compared with, before the answers are there."""

    def score_rows(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """Distances [N] within [0, 2] and rewards [N]; None = no readable answer: distance 2.0, reward 0."""


class EmbeddingReward(TextReward):
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
        """See `TextReward.score`."""
        distances_N = np.full(len(real), UNPARSED_DISTANCE, dtype=np.float32)
        rows, pairs = [], []
        for row, (answer, truth) in enumerate(zip(predicted, real, strict=True)):
            if answer is not None:
                rows.append(row)
                pairs.append((truth if same_text(answer, truth) else answer, truth))
        distances_N[rows] = self.embedder.distances(pairs)
        return distances_N, (distances_N < self.tau_d).astype(np.float32)


class ContinuousReward(EmbeddingReward):
    """max(0, 1 - d): whatever is nearer to the truth earns more, and a generic answer earns something, too."""

    name = "continuous"

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `TextReward.score`."""
        distances_N, _ = super().score(predicted, real)
        return distances_N, np.maximum(0, 1 - distances_N)


class NamedReward(EmbeddingReward):
    """1 if d < tau_d and both texts name the same things (rewards/named_things.py), else 0. Ours, not the paper's.

    Where the named things differ, the distance is max(d, 1): far from right under every threshold that makes sense, so
    that the filter and `within` agree with the reward.
    """

    name = "named"

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `TextReward.score`."""
        distances_N, rewards_N = super().score(predicted, real)
        for row, (answer, truth) in enumerate(zip(predicted, real, strict=True)):
            if answer is not None and not same_text(answer, truth) and named_things(answer) != named_things(truth):
                distances_N[row], rewards_N[row] = max(distances_N[row], 1), 0
        return distances_N, rewards_N


def no_judge() -> Judge:
    """Where a judge is needed and none was given."""
    raise RwmlError("there is no judge", "a reward asks it", "set judge.base_url and judge.model")


REWARDS: dict[str, Callable[[Callable[[], Embedder], float, Callable[[], Judge]], Reward]] = {
    "embedding": lambda embedder, tau_d, judge: EmbeddingReward(embedder(), tau_d),
    "continuous": lambda embedder, tau_d, judge: ContinuousReward(embedder(), tau_d),
    "named": lambda embedder, tau_d, judge: NamedReward(embedder(), tau_d),
    "exact": lambda embedder, tau_d, judge: ExactReward(),
    "rouge": lambda embedder, tau_d, judge: RougeReward(),
    "f1": lambda embedder, tau_d, judge: F1Reward(),
    "judge": lambda embedder, tau_d, judge: JudgeReward(judge(), graded=False),
    "judge_graded": lambda embedder, tau_d, judge: JudgeReward(judge(), graded=True),
}


class KindReward:
    """The reward of each transition's kind. choice: as in `train_wm.reward`, one name for all kinds or a table."""

    def __init__(
        self,
        choice: str | Mapping[str, str],
        embedder: Callable[[], Embedder],
        tau_d: float,
        judge: Callable[[], Judge] = no_judge,
    ) -> None:
        """embedder, judge: called once, when a transition first needs it. RwmlError for unknown names and kinds."""
        check_reward(choice)
        self.choice, self.tau_d = choice, tau_d
        means = cache(embedder), tau_d, cache(judge)
        self._of_name = cache(lambda name: REWARDS[name](*means))

    def of(self, kind: str) -> Reward:
        """The reward of a kind of next state."""
        return self._of_name(reward_name(self.choice, kind))

    def expect(self, rows: Sequence[Transition]) -> None:
        """Tell the rewards which next states will be compared with, before the answers are there."""
        for reward, numbers in self._shares(rows):
            reward.expect([rows[number].next_state for number in numbers])

    def score(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """Distances [N] and rewards [N] of one answer to each of N transitions; see `Reward.score_rows`."""
        assert len(predicted) == len(rows), "one answer to each transition"
        distances_N, rewards_N = np.empty((2, len(rows)), dtype=np.float32)
        for reward, numbers in self._shares(rows):
            distances_N[numbers], rewards_N[numbers] = reward.score_rows(
                [predicted[number] for number in numbers], [rows[number] for number in numbers]
            )
        return distances_N, rewards_N

    def failed_judgements(
        self, predicted: Sequence[str | None], rows: Sequence[Transition], distances_N: Sequence[float] | Floats
    ) -> int:
        """How many readable answers have no score because their judgement failed; distances_N: as from `score`."""
        return sum(
            answer is not None and distance == UNPARSED_DISTANCE and reward_name(self.choice, row.kind) in JUDGE_REWARDS
            for answer, row, distance in zip(predicted, rows, distances_N, strict=True)
        )

    def _shares(self, rows: Sequence[Transition]) -> list[tuple[Reward, list[int]]]:
        """The rewards at work, each with the numbers of its rows."""
        numbers: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            numbers.setdefault(reward_name(self.choice, row.kind), []).append(number)
        return [(self._of_name(name), own) for name, own in numbers.items()]
