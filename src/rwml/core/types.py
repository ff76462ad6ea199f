"""The records that flow from stage to stage. Frozen; `core/records.py` writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StopReason(StrEnum):
    """Why an episode ended. Termination by the world is kept apart from truncation by a limit."""

    SUCCESS = "success"
    FAILURE = "failure"
    STEP_LIMIT = "step_limit"
    CONTEXT_LIMIT = "context_limit"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Task:
    """One problem of a world. `id` is stable across machines; `kind` groups tasks in tables."""

    id: str
    world: str
    split: str
    kind: str


@dataclass(frozen=True, slots=True)
class Step:
    """One exchange with the world.

    action: what the world was given; "" when nothing could be parsed out of `text`.
    text: all that the policy wrote (equal to `action` for policies that are not language models).
    observation: the world's answer, which is the next state.
    kind: of the next state: `text`, `tool` or `user`.
    parsed: an action was found in `text`. valid: the world admitted it.
    truncated: the policy ran out of `max_new_tokens`.
    """

    action: str
    text: str
    observation: str
    kind: str = "text"
    parsed: bool = True
    valid: bool = True
    truncated: bool = False
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class Episode:
    """One play of a task by one policy. `opening` is the first observation, task included."""

    id: str
    task: Task
    policy: str
    rollout: int
    seed: int
    opening: str
    steps: tuple[Step, ...]
    stop: StopReason
    success: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """`(s_<=t, a_t, s_{t+1})` (RWML, step 2).

    history: alternating action, observation, ... of the steps before `step`, oldest first (even length), cut to
    the last H steps by the recipe; `opening` always stands before it.
    knowable: the next state follows from what the history shows, by the world's own judgement.
    verb: the action's head word, for tables.
    kept, reason: written by the filter; a dropped row stays in the file with its reason.
    """

    id: str
    episode: str
    task: str
    split: str
    step: int
    opening: str
    history: tuple[str, ...]
    action: str
    next_state: str
    kind: str
    verb: str
    valid: bool
    knowable: bool
    pass_rate: float = -1.0
    kept: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One world-model answer to one transition. text: all that was written; answer: inside the tag, or None."""

    transition: str
    text: str
    answer: str | None
    distance: float
    reward: float
    truncated: bool = False
