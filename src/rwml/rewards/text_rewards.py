"""Rewards that compare the words of two texts, and need no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rwml.core.recipe.reward_names import register
from rwml.core.text import UNPARSED_DISTANCE, same_text
from rwml.rewards.rewards import Floats, TextReward
from rwml.rewards.rouge import rouge_l, token_f1


@register("exact")
class ExactReward(TextReward):
    """1 for the same words, else 0; the distance is 0 or 1. What RWML tends to as tau_d goes to 0."""

    def likeness(self, predicted: str, real: str) -> float:
        """Of texts that are not the same words, within [0, 1]; the distance is 1 - likeness."""
        return 0.0

    def earned(self, likeness: float) -> float:
        """The reward for a likeness."""
        return likeness

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `TextReward.score`."""
        distances_N = np.full(len(real), UNPARSED_DISTANCE, dtype=np.float32)
        rewards_N = np.zeros(len(real), dtype=np.float32)
        for row, (answer, truth) in enumerate(zip(predicted, real, strict=True)):
            if answer is not None:
                likeness = 1.0 if same_text(answer, truth) else self.likeness(answer, truth)
                distances_N[row], rewards_N[row] = 1 - likeness, self.earned(likeness)
        return distances_N, rewards_N


@register("rouge")
class RougeReward(ExactReward):
    """ROUGE-L F1 rounded to the nearest 0.2 (RWML on tau2-bench, tool responses); the distance is 1 - F1, unrounded.

    Exact predictions have F1 1, texts without a word (emoji, say) too. No threshold has a part in the reward.
    """

    def likeness(self, predicted: str, real: str) -> float:
        """See `rouge.rouge_l`."""
        return rouge_l(predicted, real)

    def earned(self, likeness: float) -> float:
        """Rounded to the nearest 0.2; halves (0.1, 0.3, ...) go up, whatever their last binary digit."""
        return math.floor(5 * likeness + 0.5 + 1e-9) / 5


@register("f1")
class F1Reward(ExactReward):
    """F1 of the words that both have, in any order; the distance is 1 - F1. Exact predictions have F1 1."""

    def likeness(self, predicted: str, real: str) -> float:
        """See `rouge.token_f1`."""
        return token_f1(predicted, real)
