"""A world model as an environment: whoever can play a world can play what a world model imagines of it."""

from __future__ import annotations

from collections.abc import Sequence

from rwml.core.errors import RwmlError
from rwml.core.seeds import generator_for
from rwml.core.tool_calls import calls_of
from rwml.core.types import Query, Task
from rwml.world_models.world_model import WorldModel
from rwml.worlds.answers import SoundEnv, a_flag, a_text, answered
from rwml.worlds.base import BuiltInPolicy, Env, ReadsWins, StepResult, World
from rwml.worlds.transitions import newest

_STYLE = "brief"


def kind_of(world: World, action: str) -> str:
    """The kind of next state that an action asks for: "text", or in a world of calls "tool" or "user"."""
    if world.prompts(_STYLE).actions != "calls":
        return "text"
    return "tool" if calls_of(action) else "user"


class ImaginedEnv:
    """An `Env` whose answers are a world model's predictions. Only the opening is the real world's.

    The world model reads its own answers as the history. Whether the task is solved is read from words, by worlds that
    can do that (`ReadsWins`); elsewhere no imagined episode is won. An answer without a next state ends the episode:
    its observation is "", and `ended` has the reason. Admissible actions are not listed: only the real world knows
    them. Where the real world fails to start or to describe, `WorldFailed` is raised.
    """

    def __init__(self, model: WorldModel, world: World, *, history_steps: int | None = None) -> None:
        """history_steps: H of the queries, None = all."""
        self._model, self._world, self._history_steps = model, world, history_steps
        self._task: Task | None = None
        self._seed = 0
        self._opening = self.ended = ""
        self._history: list[str] = []

    def reset(self, task: Task, seed: int = 0) -> str:
        """Start `task`: the real world's opening. seed: of the world, and of the world model's chances."""
        world = self._world
        opening = SoundEnv(world.env).reset(task, seed)
        read = answered("the world model's opening", lambda: world.world_model_opening(task, opening), a_text)
        self._task, self._seed = task, seed
        self._opening, self._history, self.ended = read, [], ""
        return opening

    def step(self, action: str) -> StepResult:
        """What the world model predicts. An action without words is refused, as by a real world."""
        assert self._task is not None, "reset comes first"
        query, number = self._query(action), len(self._history) // 2
        generator = generator_for("imagined", self._task.id, self._seed, number)
        [[state]] = self._model.predict([query], 1, generator)
        if state.next_state is None:
            self.ended = state.reason
            return StepResult("", 0.0, True, False, query.kind)
        self._history += [action, state.next_state]
        won = self.success
        return StepResult(state.next_state, float(won), won, query.verb != "invalid", query.kind)

    def _query(self, action: str) -> Query:
        assert self._task is not None
        kind = kind_of(self._world, action)
        return Query(
            id=f"{self._task.id}@{len(self._history) // 2}",
            opening=self._opening,
            history=newest(self._history, self._history_steps),
            action=action,
            kind=kind,
            verb=answered("the verb", lambda: self._world.verb(action), a_text),
            task=self._task.id,
            step=len(self._history) // 2,
        )

    @property
    def admissible(self) -> Sequence[str]:
        """Empty: a world model does not list actions."""
        return ()

    @property
    def success(self) -> bool:
        """Whether the imagined words say that the task is solved."""
        world = self._world
        if not isinstance(world, ReadsWins):
            return False
        return answered("the win", lambda: world.reads_win(self._opening, self._history) or False, a_flag)


class ImaginedWorld:
    """A world whose environments are imagined; tasks and words are the real world's.

    It has no built-in policies: those choose among the admissible actions, which nobody lists here.
    """

    def __init__(self, model: WorldModel, world: World, *, history_steps: int | None = None) -> None:
        self._model, self._world, self._history_steps = model, world, history_steps

    def env(self) -> Env:
        """An `ImaginedEnv`."""
        return ImaginedEnv(self._model, self._world, history_steps=self._history_steps)

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """RwmlError: the real world's policies do not play here."""
        raise RwmlError(
            f"the world's policy '{name}' was asked to play in imagination",
            "a world's own policies choose among the admissible actions, and a world model lists none",
            "give a language model, a policy of your own, or a list of actions",
        )

    def __getattr__(self, name: str) -> object:
        return getattr(self._world, name)
