"""Rewards by the distance of two texts' embeddings: the sim-to-real gap (RWML, step 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rwml.core.recipe.reward_names import register
from rwml.core.text import UNPARSED_DISTANCE, same_text
from rwml.models.embedding.embedder import Embedder
from rwml.rewards.named_things import named_things
from rwml.rewards.text_rewards import Floats, TextReward


@register("embedding")
class EmbeddingReward(TextReward):
    """1 if d < tau_d else 0, with d = 1 - cos(E(predicted), E(real)) (RWML, step 4).

    Exact predictions (up to white space) have distance 0.0 and are not embedded.
    """

    def __init__(self, embedder: Embedder | None = None, tau_d: float = 0.2) -> None:
        """embedder: None loads all-MiniLM-L6-v2, which is installed with rwml. tau_d: the paper's on ALFWorld."""
        self.embedder, self.tau_d = embedder or Embedder(), tau_d

    def prefetch(self, real: Sequence[str]) -> None:
        """Embeds the real next states in the background, during the sampling; each text once per data set."""
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
