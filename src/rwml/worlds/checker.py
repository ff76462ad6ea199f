"""The contract of `worlds/base.py` as a program: each violation is a sentence, and a sound world has no violation.

The world's code may be wrong in any way: an exception and a value of the wrong type are violations too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.seeds import random_for
from rwml.core.text import printable
from rwml.core.types import Task
from rwml.worlds.answers import WorldFailed, a_result, a_text, reason_of, texts
from rwml.worlds.base import Env, Prompts, StepResult, World

NONSENSE = "sing a song to the moon 7"
NO_SPLIT = "no such split"
EXPERT = "expert"
_SEED = 7
_SAMPLED = 6  # states per task in which every admissible action is tried
_STEP_TYPES: dict[str, type | tuple[type, ...]] = {
    "observation": str,
    "reward": (int, float),
    "terminated": bool,
    "valid": bool,
    "kind": str,
}


def check_world(
    world: World,
    split: str = "",
    policy: str = "",
    num_tasks: int = 5,
    max_steps: int = 50,
    min_success: float = 0.9,
) -> list[str]:
    """The violations in `num_tasks` tasks of a split ("": of every split), played by a built-in policy.

    policy: its name. "" is the expert, else the first that the world names; without policies only the first state of
    each task is checked. min_success: share of the tasks that the expert must solve within `max_steps`.
    """
    check = WorldCheck(world, policy, max_steps)
    for name in [split] if split else check.splits:
        check.tasks_of(name, num_tasks, min_success)
    return check.violations


class _Broken(Exception):
    """A violation was noted after which the present part of the check cannot continue."""


@dataclass(frozen=True, slots=True)
class _Play:
    opening: str
    steps: tuple[tuple[str, StepResult], ...]
    success: bool

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.steps]


class WorldCheck:
    """A check in progress. Making one checks the world's lists and texts; `tasks_of` plays.

    violations: sentences, each once. splits: the names that the world gives. policy: who plays ("": nobody).
    num_tasks, num_states: how many were checked so far.
    """

    def __init__(self, world: World, policy: str = "", max_steps: int = 50) -> None:
        self.world, self.policy, self.max_steps = world, policy, max_steps
        self.violations: list[str] = []
        self.num_tasks = self.num_states = 0
        self.splits: tuple[str, ...] = ()
        with suppress(_Broken):
            self.splits = tuple(self._texts("the world: splits()", self._call("the world", world, "splits", Sequence)))
        self._check_lists()
        for style in ("full", "brief"):
            with suppress(_Broken):
                self._check_prompts(style)
        with suppress(_Broken):
            names = self._texts("the world: policies()", self._call("the world", world, "policies", Sequence))
            self.policy = policy or next((name for name in names if name == EXPERT), names[0] if names else "")

    def tasks_of(self, split: str, num_tasks: int, min_success: float = 0.9) -> None:
        """Play the first `num_tasks` tasks of a split; see `check_world`."""
        if split not in self.splits:
            self._note(f"{split}: this split is not among splits(), which gives {self.splits}.")
        tasks: list[Task] = []
        with suppress(_Broken):
            tasks = self._tasks(split)[:num_tasks]
            if not tasks:
                self._note(f"{split}: the split has no tasks.")
        solved = 0
        for task in tasks:
            self.num_tasks += 1
            with suppress(_Broken):
                solved += self._check_task(task)
        if self.policy == EXPERT and solved < min_success * len(tasks):
            self._note(f"{split}: the expert solves {solved} of {len(tasks)} tasks, fewer than {min_success:.0%}.")

    # What the world's code gives ----------------------------------------------------------------------------------

    def _note(self, sentence: str) -> None:
        sentence = printable(sentence)
        if sentence not in self.violations:
            self.violations.append(sentence)

    def _fail(self, sentence: str) -> _Broken:
        self._note(sentence)
        return _Broken()

    def _call(self, where: str, owner: Any, name: str, kind: type, *given: Any) -> Any:
        """What a method returns, which must be of a type."""
        shown = _short(given[0]) if given and isinstance(given[0], str) else ""
        return self._checked(f"{where}: {name}({shown})", lambda: getattr(owner, name)(*given), kind)

    def _read(self, where: str, owner: Any, name: str, kind: type) -> Any:
        """The value of a property, which must be of a type."""
        return self._checked(f"{where}: {name}", lambda: getattr(owner, name), kind)

    def _checked(self, label: str, give: Callable[[], Any], kind: type) -> Any:
        """What the world's code gives. An exception, or a value of another type, is noted and raises _Broken."""
        try:
            value = give()
        except (Exception, SystemExit) as error:  # whatever a world raises
            words = f"{type(error).__name__}: {error.what}" if isinstance(error, RwmlError) else reason_of(error)
            raise self._fail(f"{label} raises {words}") from None
        if not isinstance(value, kind) or value is None:
            raise self._fail(f"{label} gives {_short(value)}, which is of another type than {kind.__name__}.")
        return value

    def _texts(self, label: str, values: Any) -> list[str]:
        """A sequence whose elements must be texts."""
        if isinstance(values, str) or not all(isinstance(value, str) for value in values):
            raise self._fail(f"{label} gives {_short(values)}, which is not a list of texts.")
        self._keepable(label, lambda: texts("its list", values))
        return list(values)

    def _tasks(self, split: str) -> list[Task]:
        tasks = self._call("the world", self.world, "tasks", list, split)
        for task in tasks:
            if not isinstance(task, Task):
                raise self._fail(f"the world: tasks({split!r}) lists {_short(task)}, which is not a Task.")
            if not all(isinstance(getattr(task, field.name), str) for field in fields(task)):
                raise self._fail(f"the world: tasks({split!r}) lists {_short(task)}, whose fields are not all texts.")
            for field in fields(task):
                value = getattr(task, field.name)
                self._keepable(f"the world: tasks({split!r})", partial(a_text, f"the {field.name} of a task", value))
        return list(tasks)

    def _reset(self, env: Env, task: Task) -> str:
        opening: str = self._call(task.id, env, "reset", str, task, _SEED)
        self._keepable(f"{task.id}: reset()", lambda: a_text("the opening", opening))
        return opening

    def _step(self, env: Env, where: str, action: str) -> StepResult:
        result: StepResult = self._call(where, env, "step", StepResult, action)
        for field, kinds in _STEP_TYPES.items():
            value = getattr(result, field)
            if not isinstance(value, kinds):
                raise self._fail(f"{where}: step({action!r}) gives {field}={_short(value)}, which is of a wrong type.")
        self._keepable(f"{where}: step({action!r})", lambda: a_result("its answer", result))
        return result

    def _keepable(self, label: str, read: Callable[[], object]) -> None:
        """Note what play would refuse: a text that no file can keep or that is too long, a reward that is no number."""
        try:
            read()
        except WorldFailed as error:
            raise self._fail(f"{label}: {error.reason}.") from None

    def _admissible(self, env: Env, where: str) -> list[str]:
        return self._texts(f"{where}: admissible", self._read(where, env, "admissible", Sequence))

    # Lists and texts ----------------------------------------------------------------------------------------------

    def _check_lists(self) -> None:
        seen: dict[str, str] = {}
        name = getattr(self.world, "name", None)
        if not isinstance(name, str) or not name:
            self._note(f"the world's name is {_short(name)}; it must be a text.")
        for split in self.splits:
            with suppress(_Broken):
                tasks = self._tasks(split)
                if tasks != self._tasks(split):
                    self._note(f"{split}: tasks() lists other tasks, or another order, when it is asked again.")
                for task in tasks:
                    if task.split != split or task.world != name or not task.kind:
                        self._note(
                            f"{task.id}: its split is {task.split!r}, its world {task.world!r} and its kind "
                            f"{task.kind!r}; it is listed in {split!r} of {name!r}, and needs a kind."
                        )
                    if task.id in seen:
                        self._note(f"{task.id}: this id is listed twice, in {seen[task.id]} and in {split}.")
                    seen[task.id] = split
        try:
            outcome = f"lists {len(self.world.tasks(NO_SPLIT))} tasks"
        except RwmlError:
            return
        except (Exception, SystemExit) as error:  # whatever a world raises
            outcome = f"raises {type(error).__name__}"
        if outcome != "lists 0 tasks":
            self._note(f"the world: tasks({NO_SPLIT!r}) {outcome}; it must list none or raise RwmlError.")

    def _check_prompts(self, style: str) -> None:
        where = f"prompts({style!r})"
        prompts: Prompts = self._call("the world", self.world, "prompts", Prompts, style)
        for field in fields(prompts):
            if not isinstance(getattr(prompts, field.name), str):
                raise self._fail(
                    f"{where}: {field.name} is {_short(getattr(prompts, field.name))}, which is not a text."
                )
        if prompts.actions not in ("tags", "calls"):
            self._note(f'{where}: actions is {prompts.actions!r}; it must be "tags" or "calls".')
        try:
            asked = prompts.question.format(action=NONSENSE)
        except (KeyError, IndexError, ValueError) as error:
            raise self._fail(f"{where}: the question cannot be filled in: {type(error).__name__}: {error}") from None
        if NONSENSE not in asked:
            self._note(f"{where}: the question does not hold {{action}}.")

    # Plays --------------------------------------------------------------------------------------------------------

    def _check_task(self, task: Task) -> bool:
        """Play the task twice, then try actions in sampled states of the play; returns whether it was solved."""
        play = self._play(task)
        self.num_states += len(play.steps) + 1
        self._check_play(task, play)
        if self._play(task) != play:
            self._note(f"{task.id}: the same seed and actions play differently the second time.")
        self._check_actions(task, play.actions)
        return play.success

    def _play(self, task: Task) -> _Play:
        world, steps = self.world, list[tuple[str, StepResult]]()
        env: Env = self._call("the world", world, "env", object)
        opening = observation = self._reset(env, task)
        if self.policy:
            policy = self._call("the world", world, "policy", object, self.policy, _SEED)
            for number in range(self.max_steps):
                where = f"{task.id}, step {number}"
                admissible = self._admissible(env, where)
                action = self._call(where, policy, "act", str, observation, admissible)
                result = self._step(env, where, action)
                steps.append((action, result))
                observation = result.observation
                if result.terminated:
                    break
        return _Play(opening, tuple(steps), self._read(task.id, env, "success", bool))

    def _check_play(self, task: Task, play: _Play) -> None:
        world, history = self.world, list[str]()
        if not play.opening.strip():
            self._note(f"{task.id}: the opening is empty.")
        read = self._call(task.id, world, "world_model_opening", str, task, play.opening)
        if play.opening not in read:
            self._note(f"{task.id}: world_model_opening() leaves out what the policy reads.")
        for number, (action, result) in enumerate(play.steps):
            where = f"{task.id}, step {number} ({action})"
            if not result.observation.strip() and not result.terminated:
                self._note(f"{where}: the observation is empty.")
            if self._call(where, world, "verb", str, action) == "invalid" and result.valid:
                self._note(f"{where}: the action is valid, and its verb is 'invalid'.")
            self._call(where, world, "inefficient", bool, action)
            target = self._call(where, world, "target", str, result.kind, result.observation)
            self._keepable(f"{where}: target()", partial(a_text, "the target", target))
            if result.observation.strip() and not target.strip():
                self._note(f"{where}: the target is empty.")
            self._call(where, world, "knowable", bool, play.opening, list(history), action, target)
            history += [action, result.observation]
        if play.success and not (play.steps and play.steps[-1][1].terminated):
            self._note(f"{task.id}: the task is solved, and the episode is not terminated.")

    def _check_actions(self, task: Task, actions: list[str]) -> None:
        """Try nonsense, and every admissible action, in sampled states of a play (its last state left out)."""
        env: Env = self._call("the world", self.world, "env", object)
        depths = range(max(1, len(actions)))
        for depth in sorted(random_for(task.id).sample(depths, min(_SAMPLED, len(depths)))):
            where = f"{task.id}, step {depth}"
            self._replay(env, task, actions[:depth])
            listed = self._admissible(env, where)
            if len(set(listed)) < len(listed):
                self._note(f"{where}: an action is listed twice as admissible.")
            result = self._step(env, where, NONSENSE)
            if result.valid and result.kind != "user":  # a user answers any words
                self._note(f"{where}: nonsense ({NONSENSE!r}) is valid.")
            if result.terminated:
                self._note(f"{where}: nonsense ({NONSENSE!r}) terminates the episode.")
            if self._admissible(env, where) != listed:
                self._note(f"{where}: nonsense ({NONSENSE!r}) changes the admissible actions.")
            for action in listed:
                self._replay(env, task, actions[:depth])
                if not self._step(env, where, action).valid:
                    self._note(f"{where}: {action!r} is listed as admissible, and is not valid.")

    def _replay(self, env: Env, task: Task, actions: list[str]) -> None:
        self._reset(env, task)
        for number, action in enumerate(actions):
            self._step(env, f"{task.id}, step {number}", action)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # whatever a class of the world raises
        return f"an object whose repr raises {type(error).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
