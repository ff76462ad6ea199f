"""ALFWorld's rules as a world model. It predicts what follows from the texts of the history, and knows nothing else of
the game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rwml.core.types import PredictedState, Query
from rwml.world_models.world_model import Materials, lacks, register, repeated
from rwml.worlds.alfworld.beliefs import Beliefs

if TYPE_CHECKING:
    import torch


@register("beliefs")
class BeliefsWorldModel:
    """Predicts the next state where the opening and the history tell it, nothing elsewhere.

    It needs the whole history: with a window (`transitions.history_steps`) it forgets what fell out of it.
    """

    name = "beliefs"

    @classmethod
    def make(cls, materials: Materials) -> BeliefsWorldModel:
        """RwmlError for another world than ALFWorld."""
        if materials.world.name != "alfworld":
            raise lacks("beliefs", f"the world alfworld, not {materials.world.name}", "name another world model")
        return cls()

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`."""
        return [repeated(query, _next_state(query), num_samples) for query in queries]


def _next_state(query: Query) -> str | None:
    beliefs = Beliefs(query.opening)
    for action, observation in zip(query.history[::2], query.history[1::2], strict=True):
        beliefs.read(action, observation)
    return beliefs.predict(query.action)
