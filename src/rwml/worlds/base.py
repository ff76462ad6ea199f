"""What a world is: tasks, an environment to play them in, and the world's own words for prompts and tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.trust import Server
from rwml.core.seeds import random_for
from rwml.core.types import Task

SPLITS = ("train", "valid_seen", "valid_unseen", "test")
STYLES = ("full", "brief")
BRIEF_QUESTION = "\nIf I do: {action}\nthen?"
"""What the tiny model was taught to answer."""
_TRIED = 8  # tasks that are started to see whether a world lists actions


@dataclass(frozen=True, slots=True)
class StepResult:
    """Answer of `Env.step`. observation: "" only with the last step, if the world has no answer to it. terminated:
    the world ended the episode (success or failure), never a step limit. kind: of the next state (`Step.kind`)."""

    observation: str
    reward: float
    terminated: bool
    valid: bool
    kind: str = "text"


@runtime_checkable
class Env(Protocol):
    """One environment that plays one task at a time. Not thread-safe; make one per episode in flight."""

    def reset(self, task: Task, seed: int = 0) -> str:
        """Start `task` and return the first observation, the task's wording included."""

    def step(self, action: str) -> StepResult:
        """Play one action. Any string is allowed: one that the world does not admit is a step with valid=False."""

    @property
    def admissible(self) -> Sequence[str]:
        """The actions that the world admits now; empty if the world cannot list them."""

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""


@runtime_checkable
class BuiltInPolicy(Protocol):
    """A policy that a world brings, no language model. One instance plays one episode, and sees nothing hidden."""

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        """Return the next action, given the newest observation (the opening at first)."""

    def thought(self) -> str:
        """Return a few words on the last action's purpose, or "" (used to write warm-up data)."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The world's words.

    agent, world_model: the text before the opening, for a model that acts and for one that predicts; "" is left out.
    question: asks for a prediction, with `{action}`. actions: how a model writes its actions, "tags"
    (`<action>...</action>`) or "calls" (tool calls, and messages to a user: `core/tool_calls.py`).
    """

    agent: str
    world_model: str
    question: str
    actions: Literal["tags", "calls"] = "tags"


@runtime_checkable
class World(Protocol):
    """A family of tasks. Cheap to make; loads data when asked."""

    @property
    def name(self) -> str:
        """The name that its tasks carry."""

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have tasks, e.g. ("train", "valid_seen", "valid_unseen")."""

    def tasks(self, split: str) -> list[Task]:
        """All tasks of a split in a stable order. Raises RwmlError for an unknown split, and names the nearest one."""

    def env(self) -> Env:
        """Make an environment."""

    def policies(self) -> tuple[str, ...]:
        """Names of the built-in policies, e.g. ("random", "expert", "noisy")."""

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """Make a built-in policy; RwmlError names the nearest one."""

    def prompts(self, style: str) -> Prompts:
        """Wording in a style: "full" (for pretrained models) or "brief" (for the tiny one)."""

    def verb(self, action: str) -> str:
        """The head word of an action, for tables; "invalid" for anything that is not an action."""

    def inefficient(self, action: str) -> bool:
        """Whether an admitted action only looks (counted as such by RWML)."""

    def world_model_opening(self, task: Task, opening: str) -> str:
        """What a world model reads first: an episode's opening, and what else it may know (tau2: who the user is)."""

    def target(self, kind: str, observation: str) -> str:
        """What a world model must predict where the world answered `observation`: the observation itself, or its form
        (tau2: the schema of a tool's response)."""

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """Whether the next state follows from the opening and the full history."""


@runtime_checkable
class ReadsWins(Protocol):
    """A world that can decide from words alone whether a task was done."""

    def reads_win(self, opening: str, exchanges: Sequence[str]) -> bool | None:
        """Whether (action, observation, ...) says that the goal of `opening` was met; None: it cannot be read."""

    def granted(self, action: str) -> str:
        """The answer of a world that admits every action and shows nothing: the baseline of `reads_win`."""


@runtime_checkable
class AsksServers(Protocol):
    """A world whose environments ask servers. A recipe's world may ask those alone that the user allowed."""

    def servers(self) -> Sequence[Server]:
        """Every server, with the environment variable whose value it is sent. Nothing is sent by asking this."""


class RandomPolicy:
    """Uniform over the admissible actions; see `BuiltInPolicy`."""

    def __init__(self, seed: int) -> None:
        self._rng = random_for("random", seed)

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        """Return any admissible action."""
        return self._rng.choice(admissible)

    def thought(self) -> str:
        """Return "try"."""
        return "try"


class BaseWorld(ABC):
    """A `World` with defaults. A subclass has to give `texts`, `tasks` and `env`, and can replace everything else."""

    texts: ClassVar[Prompts]

    @property
    def name(self) -> str:
        """The name that its tasks carry: the class's in lower case."""
        return type(self).__name__.lower()

    @abstractmethod
    def tasks(self, split: str) -> list[Task]:
        """All tasks of a split in a stable order; [] or an RwmlError for a split that the world does not have."""

    @abstractmethod
    def env(self) -> Env:
        """Make an environment."""

    def splits(self) -> tuple[str, ...]:
        """Those of `SPLITS` that `tasks` lists tasks for."""
        return tuple(split for split in SPLITS if self._has_tasks(split))

    def _has_tasks(self, split: str) -> bool:
        try:
            return bool(self.tasks(split))
        except RwmlError:
            return False

    def policies(self) -> tuple[str, ...]:
        """("random",) if the environment lists admissible actions at the start of the first task that starts, else
        (). ("random",) too if none of the first tasks starts.
        """
        split = next(iter(self.splits()), None)
        if split is None:
            return ()
        for task in self.tasks(split)[:_TRIED]:
            with suppress(Exception):  # a task that fails says nothing of the others
                env = self.env()
                env.reset(task)
                return ("random",) if env.admissible else ()
        return ("random",)  # its episodes say what fails

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """The policy "random"; RwmlError for another name."""
        if name != "random":
            raise RwmlError(
                f"the world {self.name} has no policy '{name}'",
                "it decides which actions are tried",
                nearest(name, self.policies()),
            )
        return RandomPolicy(seed)

    def prompts(self, style: str) -> Prompts:
        """The world's `texts` in the style "full", the tiny model's question alone in the style "brief"."""
        if style not in STYLES:
            raise RwmlError(f"unknown style of prompts: '{style}'", "models are asked in it", nearest(style, STYLES))
        return self.texts if style == "full" else Prompts("", "", BRIEF_QUESTION, self.texts.actions)

    def verb(self, action: str) -> str:
        """The first word of an action; "invalid" for an empty one."""
        return next(iter(action.split()), "invalid")

    def inefficient(self, action: str) -> bool:
        """False: no action only looks."""
        return False

    def world_model_opening(self, task: Task, opening: str) -> str:
        """The opening itself: the world model knows what the policy knows."""
        return opening

    def target(self, kind: str, observation: str) -> str:
        """The observation itself."""
        return observation

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """True: the world claims no hidden cause."""
        return True
