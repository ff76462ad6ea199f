"""Two world models that need no model: what a trained one has to beat before its figures mean anything.

`copy_last` answers what the identical action brought last in the query's own history; `most_frequent` answers what the
same kind of action brought most often in training. Both are defined in `docs/reference/evaluate.md`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rwml.core.types import PredictedState, Query, Transition
from rwml.world_models.world_model import Materials, lacks, register, repeated
from rwml.worlds.base import World

if TYPE_CHECKING:
    import torch

COPY_LAST, MOST_FREQUENT = "copy_last", "most_frequent"
BASELINES = (COPY_LAST, MOST_FREQUENT)


@register("copy_last")
class CopyLast:
    """Predicts the next state that the last identical action of the history brought, in the form that is asked for
    (`World.target`); nothing where the history does not hold that action.
    """

    name = COPY_LAST

    def __init__(self, world: World) -> None:
        self._world = world

    @classmethod
    def make(cls, materials: Materials) -> CopyLast:
        """For the world of the materials."""
        return cls(materials.world)

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`."""
        return [repeated(query, self.next_state(query), num_samples) for query in queries]

    def next_state(self, query: Query) -> str | None:
        """The answer to one query."""
        history = query.history
        for action, observation in zip(history[-2::-2], history[::-2], strict=True):
            if action == query.action:
                # Equal actions are of one kind, so the query's own kind is that of the answer in the history.
                return self._world.target(query.kind, observation)
        return None


@register("most_frequent")
class MostFrequent:
    """Predicts the most frequent next state of the action's verb in training; ties go to the first seen.

    A verb unseen in training gets the most frequent next state of its kind ("text", "tool", "user"); an unseen kind
    gets no prediction. Rows that the filter dropped count too: it drops easy rows, and a guess by frequency needs
    those.
    """

    name = MOST_FREQUENT

    def __init__(self, training: Iterable[Transition]) -> None:
        of_verb: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        of_kind: dict[str, Counter[str]] = defaultdict(Counter)
        for row in training:
            of_verb[row.kind, row.verb][row.next_state] += 1
            of_kind[row.kind][row.next_state] += 1
        self._of_verb = {key: _first_most(counts) for key, counts in of_verb.items()}
        self._of_kind = {kind: _first_most(counts) for kind, counts in of_kind.items()}

    @classmethod
    def make(cls, materials: Materials) -> MostFrequent:
        """From those training rows of the materials that are in the split `train`; RwmlError without any materials."""
        if materials.training is None:
            fix = "collect some first, and give MostFrequent(rows) of rwml.world_models.baselines"
            raise lacks("most_frequent", "transitions to count in", fix)
        return cls(row for row in materials.training if row.split == "train")

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`."""
        return [repeated(query, self.next_state(query), num_samples) for query in queries]

    def next_state(self, query: Query) -> str | None:
        """The answer to one query."""
        of_verb = self._of_verb.get((query.kind, query.verb))
        return self._of_kind.get(query.kind) if of_verb is None else of_verb


def _first_most(counts: Counter[str]) -> str:
    # A Counter keeps the order of first sight, and max takes the first of equals.
    return max(counts, key=counts.__getitem__)
