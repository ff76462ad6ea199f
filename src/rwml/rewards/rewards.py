"""Rewards of predicted next states (RWML, step 4), and the reward of each kind of next state.

To add a reward, decorate one class in one file; nothing else has to change:

    from rwml.rewards import TextReward, register

    @register("same_length")
    class SameLength(TextReward):
        def score(self, predicted, real): ...   # distances [N], rewards [N]

A recipe names a reward of this package or of an installed package's entry point (group `rwml.rewards`) by its
registered name, and any other as `module:Name`. What the constructor names is what it gets: `embedder`, `tau_d` and
`judge`; its other parameters have defaults (`make_reward`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rwml.core.errors import NotFiniteError, RwmlError
from rwml.core.recipe.reward_names import DEFAULT_REWARD, REWARDS, check_reward, register, takes_judge
from rwml.core.text import UNPARSED_DISTANCE, same_text
from rwml.core.types import Transition

if TYPE_CHECKING:
    from rwml.models.embedding.embedder import Embedder


Floats = NDArray[np.float32]
TAU_D = 0.2
"""The paper's training threshold on ALFWorld, if none is given."""

LONG = "next states longer than the embedding model reads"
"""The count of `KindReward.num_long` in a manifest."""


class Reward(Protocol):
    """How well predictions match what really came. `TextReward` is a base class for rewards of two texts."""

    def prefetch(self, real: Sequence[str]) -> None:
        """Receives the reference texts before predictions exist, so that they can be embedded in time."""

    def score_rows(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """Distances [N] within [0, 2] and rewards [N] of one prediction for each of N transitions, as float32.

        A prediction without a readable next state is None: its distance is 2.0 and its reward 0. A reward that asks a
        judge gives a failed judgement the same distance and reward.
        """


class TextReward:
    """A reward that compares the predicted text with the real one and needs nothing else."""

    def prefetch(self, real: Sequence[str]) -> None:
        """Nothing to prepare."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        """Distances [N] within [0, 2] and rewards [N], as float32; None = no readable answer: distance 2.0, reward 0.

        Distances above 1 are for answers that no threshold should pass. Same words (`same_text`) have distance 0.
        """
        raise NotImplementedError

    def score_rows(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """See `Reward.score_rows`."""
        return self.score(predicted, [row.next_state for row in rows])


@register("embedding")
class EmbeddingReward(TextReward):
    """1 if d < tau_d else 0, with d = 1 - cos(E(predicted), E(real)) (RWML, step 4).

    Exact predictions (up to white space) have distance 0.0 and are not embedded. Longer texts than the embedding model
    reads are compared part by part, and the part that is farthest off decides (`Embedder.distances`).
    """

    def __init__(self, embedder: Embedder | None = None, tau_d: float = 0.2) -> None:
        """embedder: None loads all-MiniLM-L6-v2, which is installed with rwml. tau_d: the paper's on ALFWorld."""
        from rwml.models.embedding.embedder import Embedder  # rewards of words need no PyTorch

        self.embedder, self.tau_d = embedder or Embedder(), tau_d

    def prefetch(self, real: Sequence[str]) -> None:
        """Embeds the real next states in the background, during the sampling; each text once per data set."""
        self.embedder.embed_async([part for text in real for part in self.embedder.parts(text)])

    def num_long(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the embedding model reads: they are compared part by part."""
        return sum(len(self.embedder.parts(text)) > 1 for text in texts)

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


def make_reward(
    name: str,
    embedder: Callable[[], Embedder] | None = None,
    tau_d: float | None = None,
    judge: Callable[[], Any] | None = None,
) -> Reward:
    """The reward of a registered name or of `module:Name`.

    Its constructor receives those of `embedder`, `tau_d` and `judge` that it names and that are given here; the
    embedder and the judge are made only if it names them. RwmlError for an unknown name, and for a parameter without a
    default that it is not given here.
    """
    constructor = REWARDS.get(name)
    offered: dict[str, Callable[[], Any]] = {} if tau_d is None else {"tau_d": lambda: tau_d}
    offered |= {key: make for key, make in {"embedder": embedder, "judge": judge}.items() if make is not None}
    parameters = _parameters(constructor)
    missing = [key for key, value in parameters.items() if value.default is Parameter.empty and key not in offered]
    if missing:
        raise RwmlError(
            f"the reward '{name}' needs {' and '.join(missing)}, which it is not given",
            "a reward receives those of embedder, tau_d and judge that its constructor names",
            "set judge.base_url and judge.model for a judge; give every parameter of your own a default",
        )
    reward: Reward = constructor(**{key: make() for key, make in offered.items() if key in parameters})
    return reward


class KindReward:
    """The reward of each transition's kind of next state.

    choice: one reward for all kinds or a table {kind: reward}; a kind that the table leaves out has the embedding
    reward. A reward is a name, as in `train_wm.reward`, or an object.
    """

    def __init__(
        self,
        choice: str | Reward | Mapping[str, str | Reward],
        embedder: Callable[[], Embedder] | None = None,
        tau_d: float | None = None,
        judge: Callable[[], Any] | None = None,
    ) -> None:
        """embedder, judge: called once, when a transition first needs it. What is not given has the reward's default.

        RwmlError for unknown names and kinds.
        """
        self.choice, self.tau_d = choice, TAU_D if tau_d is None else tau_d
        self._table: Mapping[str, str | Reward] = choice if isinstance(choice, Mapping) else {}
        self._default: str | Reward = DEFAULT_REWARD if isinstance(choice, Mapping) else choice
        for reward in (self._default, *self._table.values()):
            check_reward(reward if isinstance(reward, str) else DEFAULT_REWARD)
        check_reward(dict.fromkeys(self._table, DEFAULT_REWARD))
        means = embedder and cache(embedder), tau_d, judge and cache(judge)
        self._make = cache(lambda name: make_reward(name, *means))

    def of(self, kind: str) -> Reward:
        """The reward of a kind of next state."""
        reward = self._table.get(kind, self._default)
        return self._make(reward) if isinstance(reward, str) else reward

    def prefetch(self, rows: Sequence[Transition]) -> None:
        """Receives the transitions before predictions exist, so that their next states can be embedded in time."""
        for reward, numbers in self._shares(rows):
            reward.prefetch([rows[number].next_state for number in numbers])

    def score(self, predicted: Sequence[str | None], rows: Sequence[Transition]) -> tuple[Floats, Floats]:
        """Distances [N] and rewards [N] of one prediction for each of N transitions; see `Reward.score_rows`.

        NotFiniteError where a reward gives NaN or infinity.
        """
        assert len(predicted) == len(rows), "one prediction for each transition"
        distances_N, rewards_N = np.empty((2, len(rows)), dtype=np.float32)
        for reward, numbers in self._shares(rows):
            distances_N[numbers], rewards_N[numbers] = reward.score_rows(
                [predicted[number] for number in numbers], [rows[number] for number in numbers]
            )
            _require_finite(reward, [rows[number] for number in numbers], distances_N[numbers], rewards_N[numbers])
        return distances_N, rewards_N

    def failed_judgements(
        self, predicted: Sequence[str | None], rows: Sequence[Transition], distances_N: Sequence[float] | Floats
    ) -> int:
        """How many readable predictions have no score because their judgement failed; distances_N: as from `score`."""
        return sum(
            answer is not None and distance == UNPARSED_DISTANCE and takes_judge(type(self.of(row.kind)))
            for answer, row, distance in zip(predicted, rows, distances_N, strict=True)
        )

    def num_long(self, rows: Sequence[Transition]) -> int:
        """How many next states are longer than the embedding model of their reward reads; 0 of rewards without one."""
        return sum(
            reward.num_long([rows[number].next_state for number in numbers])
            for reward, numbers in self._shares(rows)
            if isinstance(reward, EmbeddingReward)
        )

    def _shares(self, rows: Sequence[Transition]) -> list[tuple[Reward, list[int]]]:
        """The rewards at work, each with the numbers of its rows."""
        shares: dict[int, tuple[Reward, list[int]]] = {}
        for number, row in enumerate(rows):
            reward = self.of(row.kind)
            shares.setdefault(id(reward), (reward, []))[1].append(number)
        return list(shares.values())


def _require_finite(reward: Reward, rows: Sequence[Transition], distances_N: Floats, rewards_N: Floats) -> None:
    wrong = np.flatnonzero(~(np.isfinite(distances_N) & np.isfinite(rewards_N)))
    if len(wrong):
        first = int(wrong[0])
        raise NotFiniteError(
            f"the reward {type(reward).__name__} gives distance {distances_N[first]:g} and reward {rewards_N[first]:g} "
            f"to an answer to '{rows[first].id}' ({len(wrong)} of {len(rows)} answers have NaN or infinity)",
            "one such number makes every mean of them NaN, and training by it ruins the model",
            "mend the reward, or the embedding model that it measures with; a failed score is distance 2.0, reward 0",
        )


def _parameters(constructor: Callable[..., Any]) -> dict[str, Parameter]:
    """Its parameters by name, without *args and **kwargs."""
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return {name: value for name, value in signature(constructor).parameters.items() if value.kind not in variable}
