"""What one step of world-model training learns from: sampled next states (RWML), labels (SFT), preferences (SPIN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from rwml.core.progress import note
from rwml.core.recipe.reward_names import asks_judge
from rwml.core.recipe.sections import TrainWmConfig
from rwml.core.text import same_text
from rwml.core.types import PredictedState, Transition
from rwml.models.language_model import LanguageModel
from rwml.rewards.rewards import KindReward
from rwml.train.batches import answer_trees, label_trees
from rwml.train.drift import DriftWatch
from rwml.train.preferences import Opponent, preference_trees
from rwml.train.trainer import Batch, MakeBatch
from rwml.world_models.language import LanguageWorldModel
from rwml.world_models.world_model import first_of_each
from rwml.worlds.base import Prompts

Batches = Sequence[Sequence[Transition]]


def sft_steps(lm: LanguageModel, prompts: Prompts, batches: Batches) -> MakeBatch:
    """WM SFT: cross-entropy on the real next states of each step's batch."""
    return lambda step, generator: Batch(label_trees(lm, prompts, batches[step]))


@dataclass
class RwmlSteps:
    """RWML, step 4: GRPO on `group_size` sampled next states of each transition, by their sim-to-real reward.

    The first `sft_steps` steps are WM SFT. Called with the number of a step, it samples, scores and builds the trees.
    """

    model: LanguageWorldModel
    reward: KindReward
    batches: Batches
    config: TrainWmConfig
    drift: DriftWatch
    _signal_shares: list[float] = field(default_factory=list)
    _has_begun: bool = False

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """The batch of one step."""
        rows, config, lm, prompts = self.batches[step], self.config, self.model.lm, self.model.prompts
        if step < config.sft_steps:
            return Batch(label_trees(lm, prompts, rows))
        self._say_what_is_long()
        self.reward.prefetch(rows)
        groups = self.model.predict([row.query for row in rows], config.group_size, generator)
        states = [state for group in groups for state in group]
        asked = [row for row, group in zip(rows, groups, strict=True) for _ in group]
        next_states = [state.next_state for state in states]
        distances, rewards = self.reward.score(next_states, asked)
        shape = (len(rows), config.group_size)
        learnt = answer_trees(lm, prompts, rows, groups, rewards.reshape(shape), config)
        self._warn_of_low_signal(learnt.signal_share)
        figures = {
            "reward": learnt.reward,
            "signal_share": learnt.signal_share,
            "within_tau": float((distances < self.reward.tau_d).mean()),
            "mean_distance": float(distances.mean()),
            "exact": float(np.mean([same_text(s, r.next_state) for s, r in zip(next_states, asked, strict=True)])),
            "cheat_share": self.drift.share(next_states, asked),
        } | sampling_figures(states)
        if asks_judge(config.reward):
            failed = self.reward.failed_judgements(next_states, asked, distances)
            figures["judge_failed_share"] = failed / len(states)
        return Batch(learnt.trees, figures, config.temperature)

    def _say_what_is_long(self) -> None:
        """At the first step of this process: how many next states the embedding model reads only in parts."""
        if self._has_begun:
            return
        self._has_begun = True
        rows = list({row.id: row for batch in self.batches for row in batch}.values())
        long = self.reward.num_long(rows)
        if long:
            note(
                f"note: {long:,} of {len(rows):,} next states are longer than the embedding model reads\n"
                "  why it matters: they are compared part by part, and the part that is farthest off decides the "
                "reward; a small difference within a part hardly counts\n"
                '  what to do: a reward of words reads them whole, e.g. train_wm.reward = { tool = "rouge" }'
            )

    def _warn_of_low_signal(self, signal_share: float) -> None:
        shares, steps = self._signal_shares, self.config.low_signal_steps
        shares.append(signal_share)
        if len(shares) != steps or np.mean(shares) >= self.config.low_signal_share:
            return
        note(
            f"warning: only {np.mean(shares):.1%} of the groups had signal in the first {steps} steps "
            f"(tau_d {self.reward.tau_d})\n"
            "  why it matters: a group whose answers all score alike teaches nothing, and the run will hardly move\n"
            "  what to do: raise train_wm.tau_d or train_wm.group_size, check that answers parse (unparsed_share in "
            "metrics.jsonl), and whether the next states can be known from the history at all"
        )


@dataclass
class SpinSteps:
    """SPIN (arXiv 2401.01335): the real next state is preferred to the guess of the model as the round began."""

    model: LanguageWorldModel
    opponent: Opponent
    batches: Batches
    config: TrainWmConfig

    def __call__(self, step: int, generator: torch.Generator) -> Batch:
        """The batch of one step."""
        rows, config, lm, prompts = self.batches[step], self.config, self.model.lm, self.model.prompts
        if step < config.sft_steps:
            return Batch(label_trees(lm, prompts, rows))
        number = (step - config.sft_steps) * config.spin.rounds // (len(self.batches) - config.sft_steps)
        self.opponent.begin(number)
        with self.opponent.playing():
            guesses = first_of_each(self.model.predict([row.query for row in rows], 1, generator))
        pairs = preference_trees(self.opponent, prompts, rows, guesses, config.spin.beta)
        return Batch(
            pairs.trees,
            {
                "round": number + 1.0,
                "kept_pairs": float(len(pairs.margins)),
                "equal_pairs": float(len(rows) - len(pairs.margins)),
                "preference_loss": pairs.loss,
                "margin": pairs.margin,
                "accuracy": pairs.accuracy,
            }
            | sampling_figures(guesses),
        )


def sampling_figures(states: Sequence[PredictedState]) -> dict[str, float]:
    """What metrics.jsonl says of the sampled answers of a step: shares that failed, and tokens."""
    return {
        "unparsed_share": float(np.mean([state.next_state is None for state in states])),
        "truncated_share": float(np.mean([state.truncated for state in states])),
        "answer_tokens": float(np.mean([state.completion_tokens for state in states])),
        "sampled_tokens": float(sum(state.completion_tokens for state in states)),
    }
