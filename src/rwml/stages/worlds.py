"""`rwml worlds`: the worlds that are known, one task of one of them played by hand, and a world checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.recipe.recipe import key_and_value
from rwml.core.text import printable
from rwml.core.types import Task
from rwml.worlds.answers import SoundEnv, splits_of, tasks_of
from rwml.worlds.base import World
from rwml.worlds.by_name import WORLDS, NotMade, get_world
from rwml.worlds.checker import WorldCheck

SHOWN_VIOLATIONS = 50
_HELP = "Type an action; ? lists what is admissible, quit ends."


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as a world's options. A value is read as TOML if it is valid TOML, else as text."""
    return dict(key_and_value(pair, "option", "e.g. source=official") for pair in pairs)


def world_rows(only: str | None = None, options: dict[str, Any] | None = None) -> list[tuple[str, str, int, str]]:
    """World, split, number of tasks, and the numbers by kind, for one world made with `options`, or for all.

    In a list of all worlds, one whose data are missing has one row, which says so.
    """
    if only:
        return _rows_of(only, options or {})
    if options:
        raise RwmlError(
            f"the option '{next(iter(options))}' is for one world, and none is named",
            "worlds have different options",
            "add --only WORLD",
        )
    rows = []
    for name in sorted(WORLDS.names()):
        try:
            rows += _rows_of(name, {})
        except RwmlError as error:
            rows.append((name, "-", 0, error.what))
    return rows


def _rows_of(name: str, options: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    world, rows = get_world(name, **options), []
    for split in splits_of(world):
        tasks = tasks_of(world, split)
        kinds = sorted(Counter(task.kind for task in tasks).items())
        rows.append((name, split, len(tasks), ", ".join(f"{kind} {number}" for kind, number in kinds)))
    return rows


def find_task(world: World, split: str, wanted: str) -> Task:
    """A task by id, by a part of its id, or by its number in the split (from 0); "" is the first one."""
    tasks = tasks_of(world, split)
    if not wanted and tasks:
        return tasks[0]
    if wanted.isdigit() and int(wanted) < len(tasks):
        return tasks[int(wanted)]
    for task in tasks:
        if wanted and wanted in task.id:
            return task
    raise RwmlError(
        f"{world.name}/{split} has no task '{wanted}' (it has {len(tasks)})",
        "a game is played from its task",
        nearest(wanted, [task.id for task in tasks][:1000]) if len(tasks) <= 20 else f"try 0 to {len(tasks) - 1}",
    )


def play(world: World, task: Task, read: Callable[[str], str], show: Callable[[str], None]) -> bool:
    """Play a task by hand until it ends, `quit`, or the input's end; returns whether it was solved.

    read: asks for a line, raises EOFError at the end. show: prints a line. RwmlError where the world fails.
    """
    env = SoundEnv(world.env)
    show(f"{task.id} ({task.kind})\n{_HELP}\n")
    show(printable(env.reset(task)))
    steps = 0
    while True:
        try:
            action = read("> ").strip()
        except EOFError:
            return env.success
        if action in ("quit", "exit"):
            return env.success
        if action == "?":
            show(printable("\n".join(env.admissible)) or "This world cannot list its actions.")
        elif action:
            result = env.step(action)
            steps += 1
            show(printable(result.observation) + ("" if result.valid else "  (not admissible)"))
            if result.terminated:
                show(f"{'Solved' if env.success else 'Over'} after {steps} step{'s' * (steps > 1)}.")
                return env.success


def check(
    name: str, options: dict[str, Any], splits: Sequence[str], policy: str, num_tasks: int, show: Callable[[str], None]
) -> bool:
    """Check a world and show each violation in a sentence; returns whether it is sound.

    name: as in a recipe. splits: those to play (none: all of the world's). policy: see `check_world`. RwmlError: the
    name or an option is unknown, or `num_tasks` is below 1.
    """
    if num_tasks < 1:
        raise RwmlError(f"--tasks is {num_tasks}", "a check plays tasks", "give a number of 1 or more")
    try:
        world = get_world(name, **options)
    except NotMade as error:
        show(printable(error.what))
        return False
    result = WorldCheck(world, policy)
    for split in splits or result.splits:
        result.tasks_of(split, num_tasks)
    for sentence in result.violations[:SHOWN_VIOLATIONS]:
        show(sentence)
    if len(result.violations) > SHOWN_VIOLATIONS:
        show(f"... and {len(result.violations) - SHOWN_VIOLATIONS} more violations")
    played = f"played by {result.policy}" if result.policy else "not played: the world has no built-in policy"
    seen = f"{result.num_tasks} tasks and {result.num_states} states"
    found = len(result.violations)
    show(f"{name}: {found or 'no'} violation{'s' * (found != 1)} in {seen} ({played})")
    return not result.violations
