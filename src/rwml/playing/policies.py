"""What picks actions for a batch of running games, found by name: a world's own policies, a language model, and others.

A policy of one's own is a class in one file: `@POLICIES.register("name")`, made from `PolicyMaterials`, with a `play`
that moves `Game`s of `playing/rollout.py`. It is then a name that `collect.policy` takes; so is `module:Name`, without
the decorator but with the user's word (`core/guard/trust.py`), and a name among the entry points `rwml.policies` of an
installed package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from rwml.core.errors import RwmlError, nearest
from rwml.core.registry import Registry
from rwml.core.types import Episode
from rwml.playing.rollout import Game, LanguageModelPolicy, SampledEpisode, Seat, play_built_in
from rwml.worlds.answers import SoundEnv
from rwml.worlds.base import World


@runtime_checkable
class Policy(Protocol):
    """Whatever picks actions for a batch of running games."""

    def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
        """Play one episode per seat, in the order of the seats; a policy may play them as one batch.

        An environment that raises makes a failed episode, never an error. All chance comes from the generator and the
        seats' seeds: equal ones give equal episodes.
        """


@dataclass(frozen=True, slots=True)
class PolicyMaterials:
    """What a policy may be made of.

    world: that it will play. max_steps: per episode. language_model: loads the language model as a policy, at the
    first call only.
    """

    world: World
    max_steps: int
    language_model: Callable[[], LanguageModelPolicy]


MakePolicy = Callable[[PolicyMaterials], Policy]
POLICIES: Registry[MakePolicy] = Registry("policy", "rwml.policies", {"model": __name__}, ["play"])


@POLICIES.register("model")
class ModelPolicy:
    """The language model, which is not loaded before it plays: a stage that resumes may have nothing left to play."""

    def __init__(self, materials: PolicyMaterials) -> None:
        self._language_model = materials.language_model

    def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
        """See `LanguageModelPolicy.play`."""
        return self._language_model().play(world, seats, generator)


@dataclass(frozen=True, slots=True)
class WorldPolicy:
    """A world's own policy of that name, which plays seat by seat and holds one environment at a time."""

    name: str
    max_steps: int

    def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
        """Play all seats; chance is the seats' own, the generator is not used."""
        return [SampledEpisode(episode, [], []) for episode in play_built_in(world, seats, self.name, self.max_steps)]


@dataclass(frozen=True, slots=True)
class ActionsPolicy:
    """Plays the given actions in order, and then stops with `step_limit`."""

    actions: tuple[str, ...]
    name: str = "actions"

    def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
        """Play all seats, one after the other, without chance."""
        games = [Game(seat, SoundEnv(world.env), self.name, len(self.actions)) for seat in seats]
        for game in games:
            game.start()
            for action in self.actions:
                if game.stop is None:
                    game.play(action, action)
        return [game.finish() for game in games]


def make_policy(name: str, materials: PolicyMaterials) -> Policy:
    """The policy of that name: the world's own first, then those of the registry `POLICIES`.

    RwmlError for a name that neither knows, with the nearest of both.
    """
    if _is_the_worlds(name, materials.world):
        return WorldPolicy(name, materials.max_steps)
    return POLICIES.get(name)(materials)


def check_policy(name: str, world: World) -> None:
    """RwmlError for a name that neither the world nor `POLICIES` knows, before anything is played or loaded."""
    if _is_the_worlds(name, world):
        world.policy(name, 0)  # refuses what comes after the colon
    else:
        POLICIES.get(name)


def has_policy(name: str, world: World) -> bool:
    """Whether the world or `POLICIES` has it; a `module:Name` counts, and is imported by `make_policy` only."""
    return _of_world(name, world) or _of_registry(name)


def _is_the_worlds(name: str, world: World) -> bool:
    """Whether the world is to make it; RwmlError where nobody knows it."""
    if not has_policy(name, world):
        raise RwmlError(
            f"there is no policy '{name}'",
            f"it is neither one of the world {world.name} nor registered",
            f"{nearest(name, (*world.policies(), *POLICIES.names()))}; or write module:Name for one of your own",
        )
    return _of_world(name, world)


def _of_world(name: str, world: World) -> bool:
    return name.partition(":")[0] in world.policies()


def _of_registry(name: str) -> bool:
    return name in POLICIES.names() or name.partition(":")[2].isidentifier()


def play_seats(world: World, seats: Sequence[Seat], policy: Policy, generator: torch.Generator) -> list[Episode]:
    """The episodes of the seats, without tokens; RwmlError for a policy that does not play each of them once."""
    episodes = [played.episode for played in policy.play(world, seats, generator)]
    wanted, got = [[each.task.id for each in group] for group in (seats, episodes)]
    if got != wanted:
        raise RwmlError(
            f"the policy {type(policy).__name__} was given {len(seats)} seats and returned {len(episodes)} episodes",
            "an episode that is not there would be counted by nobody",
            "return one episode for each seat, in their order; a game that fails has an episode with `error`",
        )
    return episodes
