"""What a world model is: a batch of queries in, predicted next states out.

A language model, a baseline, learned rules, an ensemble and the real engine are all this one noun. Whoever evaluates,
filters, plans, imagines or trains inside a world model holds it and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from rwml.core.errors import RwmlError
from rwml.core.registry import Registry, entries_in
from rwml.core.types import PredictedState, Query, Transition
from rwml.worlds.base import World

if TYPE_CHECKING:
    import torch

UNPARSED, CONTEXT, UNKNOWN = "unparsed", "context limit", "unknown"
"""Why there is no next state: the answer cannot be read, the question is too long, or the world model knows none."""


class WorldModel(Protocol):
    """Whatever predicts next states for a batch of (history, action)."""

    @property
    def name(self) -> str:
        """Its name in tables and messages."""

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """`num_samples` answers to each query: [queries][num_samples], in the order of the queries.

        Every query gets its answers; an unanswerable one gets answers with a reason instead of a next state. generator:
        the only source of chance; a world model without chance repeats its answer. Queries of one episode should be
        neighbours: they share their prefixes.
        """


@dataclass(frozen=True, slots=True)
class Materials:
    """What a world model can be made of; each takes what it needs.

    training: rows to learn from, None where nobody has any; an empty sequence is a run that trains on none. language:
    loads the recipe's language model as a world model, None if no model is named.
    """

    world: World
    training: Sequence[Transition] | None = None
    language: Callable[[], WorldModel] | None = None


class Makes(Protocol):
    """An entry of the registry: a class that can be made of `Materials`."""

    def make(self, materials: Materials) -> WorldModel:
        """The world model; RwmlError where the materials lack something that it needs."""


WORLD_MODELS: Registry[Makes] = Registry(
    "world model", "rwml.world_models", entries_in("rwml.world_models"), ["make", "predict"]
)
"""World models by name. To add one: a class with `predict` and a classmethod `make`, under `register`."""

register = WORLD_MODELS.register


def make_world_model(name: str, materials: Materials) -> WorldModel:
    """The world model of that name, made of the materials; RwmlError names the nearest name."""
    return WORLD_MODELS.get(name).make(materials)


def repeated(query: Query, next_state: str | None, num_samples: int) -> list[PredictedState]:
    """The answers of a world model without chance to one query."""
    reason = "" if next_state is not None else UNKNOWN
    return [PredictedState(query.id, next_state or "", next_state, reason=reason)] * num_samples


def first_of_each(groups: Sequence[Sequence[PredictedState]]) -> list[PredictedState]:
    """The only answer to each query, for calls with one sample."""
    return [group[0] for group in groups]


def scored(state: PredictedState, distance: float, reward: float) -> PredictedState:
    """The answer with its figures, as it is kept in files: without its token ids."""
    return replace(state, distance=float(distance), reward=float(reward), ids=())


def lacks(name: str, what: str, fix: str) -> RwmlError:
    """The error of a world model that cannot be made of its materials."""
    return RwmlError(f"the world model '{name}' needs {what}", "without it there is nothing to predict from", fix)
