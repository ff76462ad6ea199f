"""Rewards of predicted next states, as objects: `rwml.rewards.Embedding(tau_d=0.2)`. To add one: rewards/rewards.py."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rwml.core.recipe.reward_names import register
    from rwml.rewards.embedding_rewards import ContinuousReward as Continuous
    from rwml.rewards.embedding_rewards import NamedReward as Named
    from rwml.rewards.judge import GradedJudgeReward, Judge, JudgeReward
    from rwml.rewards.rewards import EmbeddingReward as Embedding
    from rwml.rewards.rewards import KindReward, Reward, TextReward, make_reward
    from rwml.rewards.text_rewards import ExactReward as Exact
    from rwml.rewards.text_rewards import F1Reward as F1
    from rwml.rewards.text_rewards import RougeReward as Rouge

_PLACES = {
    "Continuous": "rwml.rewards.embedding_rewards:ContinuousReward",
    "Embedding": "rwml.rewards.rewards:EmbeddingReward",
    "Exact": "rwml.rewards.text_rewards:ExactReward",
    "F1": "rwml.rewards.text_rewards:F1Reward",
    "GradedJudgeReward": "rwml.rewards.judge:GradedJudgeReward",
    "Judge": "rwml.rewards.judge:Judge",
    "JudgeReward": "rwml.rewards.judge:JudgeReward",
    "KindReward": "rwml.rewards.rewards:KindReward",
    "Named": "rwml.rewards.embedding_rewards:NamedReward",
    "Reward": "rwml.rewards.rewards:Reward",
    "Rouge": "rwml.rewards.text_rewards:RougeReward",
    "TextReward": "rwml.rewards.rewards:TextReward",
    "make_reward": "rwml.rewards.rewards:make_reward",
    "register": "rwml.core.recipe.reward_names:register",
}

__all__ = [
    "F1",
    "Continuous",
    "Embedding",
    "Exact",
    "GradedJudgeReward",
    "Judge",
    "JudgeReward",
    "KindReward",
    "Named",
    "Reward",
    "Rouge",
    "TextReward",
    "make_reward",
    "register",
]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used: PyTorch is loaded with the first reward that needs it (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'rwml.rewards' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(import_module(module), attribute)
