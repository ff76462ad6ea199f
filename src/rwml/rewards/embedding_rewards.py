"""Further rewards by the distance of two texts' embeddings; the paper's own is in rewards.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rwml.core.recipe.reward_names import register
from rwml.core.text import same_text
from rwml.rewards.named_things import named_things
from rwml.rewards.rewards import EmbeddingReward, Floats


@register("continuous")
class ContinuousReward(EmbeddingReward):
    """max(0, 1 - d): whatever is nearer to the truth earns more, and a generic answer earns something, too."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `TextReward.score`. `tau_d` has no part in it."""
        distances_N, _ = super().score(predicted, real)
        return distances_N, np.maximum(0, 1 - distances_N)


@register("named")
class NamedReward(EmbeddingReward):
    """1 if d < tau_d and both texts name the same things (rewards/named_things.py), else 0. Ours, not the paper's.

    If the named things differ, the distance is max(d, 1): far from right under every threshold that makes sense, so
    that the filter and `within` agree with the reward.
    """

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """See `TextReward.score`."""
        distances_N, rewards_N = super().score(predicted, real)
        for row, (answer, truth) in enumerate(zip(predicted, real, strict=True)):
            if answer is not None and not same_text(answer, truth) and named_things(answer) != named_things(truth):
                distances_N[row], rewards_N[row] = max(distances_N[row], 1), 0
        return distances_N, rewards_N
