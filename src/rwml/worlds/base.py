"""What a world is: tasks, an environment to play them in, and the world's own words for prompts and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rwml.core.types import Task


@dataclass(frozen=True, slots=True)
class StepResult:
    """Answer of `Env.step`. observation: "" only with the last step, where the world has no answer to it. terminated:
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
        """The actions that the world admits now; empty where the world cannot list them."""

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""


@runtime_checkable
class BuiltInPolicy(Protocol):
    """A policy that a world brings, no language model. One instance plays one episode, and sees nothing hidden."""

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        """Return the next action, given the newest observation (the opening at first)."""

    def thought(self) -> str:
        """Return a few words on the last action's purpose, "" if there are none (used to write warm-up data)."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The world's words. `agent`/`world_model`: what stands before the opening; `question`: how a prediction is
    asked for, with `{action}`; empty strings are left out. actions: how a model writes its actions, "tags"
    (`<action>...</action>`) or "calls" (tool calls, and messages to a user: `core/tool_calls.py`)."""

    agent: str
    world_model: str
    question: str
    actions: Literal["tags", "calls"] = "tags"


@runtime_checkable
class World(Protocol):
    """A family of tasks. Cheap to make; loads data when asked."""

    name: str

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there, e.g. ("train", "valid_seen", "valid_unseen")."""

    def tasks(self, split: str) -> list[Task]:
        """All tasks of a split in a stable order; RwmlError names the nearest split if there is no such one."""

    def env(self) -> Env:
        """Make an environment."""

    def policies(self) -> tuple[str, ...]:
        """Names of the built-in policies, e.g. ("random", "expert", "noisy")."""

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """Make a built-in policy; RwmlError names the nearest one."""

    def prompts(self, style: str) -> Prompts:
        """Wording in a style: "full" (for pretrained models) or "brief" (for the tiny one)."""

    def verb(self, action: str) -> str:
        """The head word of an action, for tables; "invalid" if it is none."""

    def inefficient(self, action: str) -> bool:
        """Whether an admitted action only looks (counted as such by RWML)."""

    def world_model_opening(self, task: Task, opening: str) -> str:
        """What a world model reads first: an episode's opening, and what else it may know (tau2: who the user is)."""

    def target(self, kind: str, observation: str) -> str:
        """What a world model is asked for where `observation` came: the observation itself, or its form (tau2: the
        schema of a tool's response)."""

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """Whether the next state could be told from the opening and the full history."""


@runtime_checkable
class ReadsWins(Protocol):
    """A world that can tell from words alone whether a task was done."""

    def told_win(self, opening: str, told: Sequence[str]) -> bool | None:
        """Whether told (action, observation, ...) says that the goal of `opening` was met; None: it cannot be read."""

    def granted(self, action: str) -> str:
        """The answer of a world that admits every action and shows nothing: the baseline of `told_win`."""
