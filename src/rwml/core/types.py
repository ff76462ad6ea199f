"""The records that flow from stage to stage. Frozen; `core/records.py` writes and reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import overload


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


class History(Sequence[str]):
    """A stretch of an episode's texts that holds its place and not the texts; it equals the tuple of them.

    texts: action, observation, action, ... of the episode. Others hold them too: they may only grow, at their end.
    """

    __slots__ = ("start", "stop", "texts")

    def __init__(self, texts: Sequence[str], start: int, stop: int) -> None:
        assert 0 <= start <= stop <= len(texts), f"no stretch {start}:{stop} of {len(texts)} texts"
        self.texts, self.start, self.stop = texts, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[str, ...]: ...
    def __getitem__(self, key: int | slice) -> str | tuple[str, ...]:
        places = range(self.start, self.stop)[key]
        if isinstance(places, int):
            return self.texts[places]
        if places.step > 0:
            return tuple(self.texts[places.start : places.stop : places.step])
        return tuple(map(self.texts.__getitem__, places))

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts[self.start : self.stop])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, History):
            same = self.texts is other.texts and self.start == other.start and self.stop == other.stop
            return same or (len(self) == len(other) and tuple(self) == tuple(other))
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __add__(self, other: tuple[str, ...] | History) -> tuple[str, ...]:
        return (*self, *other)

    def __radd__(self, other: tuple[str, ...]) -> tuple[str, ...]:
        return (*other, *self)

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[str, ...]], tuple[tuple[str, ...]]]:
        # A copy in another process, or by `copy.deepcopy`, does not take the rest of the episode along.
        return tuple, (tuple(self),)


@dataclass(frozen=True, slots=True)
class Transition:
    """`(s_<=t, a_t, s_{t+1})` (RWML, step 2).

    history: alternating action, observation, ... of the steps before `step`, oldest first (even length), cut to the
    last H steps by the recipe; `opening` always stands before it. The rows of an episode share its texts, in memory and
    in files. knowable: the next state follows from the history, by the world's own judgement. verb: the action's head
    word, for tables. kept, reason: written by the filter; a dropped row stays in the file with its reason.
    """

    id: str
    episode: str
    task: str
    split: str
    step: int
    opening: str
    history: tuple[str, ...] | History
    action: str
    next_state: str
    kind: str
    verb: str
    valid: bool
    knowable: bool
    pass_rate: float = -1.0
    kept: bool = True
    reason: str = ""

    @property
    def query(self) -> Query:
        """The question that this row asks a world model: all but what really came."""
        return Query(
            self.id,
            self.opening,
            self.history,
            self.action,
            self.kind,
            self.verb,
            self.task,
            self.episode,
            self.step,
        )


@dataclass(frozen=True, slots=True)
class Query:
    """The question to a world model: what comes of `action` after `opening` and `history`?

    id: of the transition that it asks about, "" for a free question. opening, history, action, kind, verb: as in
    `Transition`. task, episode, step: the source of the question; only the real engine needs them. A query does not
    hold the real next state: no world model can look at it.
    """

    id: str
    opening: str
    history: tuple[str, ...] | History
    action: str
    kind: str = "text"
    verb: str = ""
    task: str = ""
    episode: str = ""
    step: int = 0


@dataclass(frozen=True, slots=True)
class PredictedState:
    """One answer of a world model to one query.

    transition: id of the query. text: the whole answer. next_state: the prediction, None without one; `reason` then
    says why (`unparsed`, `context limit`, ...). truncated: the answer reached its limit of tokens. distance: the
    sim-to-real gap within [0, 2], infinite until a reward has scored it; reward: as scored. prompt_tokens,
    completion_tokens: what the answer cost, 0 for world models without tokens. ids: the sampled tokens with the stop
    token, where a language model of this process wrote them and they are still needed.
    """

    transition: str
    text: str
    next_state: str | None
    _: KW_ONLY
    truncated: bool = False
    reason: str = ""
    distance: float = math.inf
    reward: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ids: tuple[int, ...] = ()
