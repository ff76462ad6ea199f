"""ALFWorld as a `World`: games of the official release, or scenes of our own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from rwml.core.errors import RwmlError, nearest
from rwml.core.progress import Bar, note, progress
from rwml.core.seeds import lot
from rwml.core.text import as_unicode
from rwml.core.types import Task
from rwml.worlds.alfworld import policies
from rwml.worlds.alfworld.beliefs import NOTHING, knowable, read_action
from rwml.worlds.alfworld.engine.cache import Games, load_games
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import GAME_FILE, GameSpec, parse_game
from rwml.worlds.alfworld.outcome import granted, reads_win
from rwml.worlds.alfworld.pddl import generate, write_game
from rwml.worlds.alfworld.scenes import SPLITS, GamePlan, SceneConfig, split_plans
from rwml.worlds.alfworld.wording import STYLES
from rwml.worlds.base import BaseWorld, BuiltInPolicy, Prompts, StepResult
from rwml.worlds.by_name import register

SOURCES = ("scenes", "official")
RELEASE = "json_2.1.1"
_COUNTS = {"num_train": 256, "num_valid_seen": 64, "num_valid_unseen": 64}
_SCENE_OPTIONS = ("size", "seed", "scene_offset", "num_scenes", "kinds", *_COUNTS)
OPTIONS = ("source", "data", *_SCENE_OPTIONS)


class _Games(Protocol):
    """Where the games come from. Folders are "<task folder>/<trial>"."""

    def splits(self) -> tuple[str, ...]: ...

    def folders(self, split: str) -> list[str]: ...

    def spec(self, split: str, folder: str) -> GameSpec: ...


@lru_cache(maxsize=16)
def _plans(config: SceneConfig, split: str) -> Mapping[str, GamePlan]:
    return {plan.folder: plan for plan in split_plans(config, split)}


@lru_cache(maxsize=4096)
def _scene_spec(config: SceneConfig, split: str, folder: str) -> GameSpec:
    return parse_game(json.dumps(write_game(_plans(config, split)[folder])), folder)


class _SceneGames:
    """Scenes made in memory, when asked for."""

    def __init__(self, config: SceneConfig) -> None:
        self._config = config

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if self._config.count(split))

    def folders(self, split: str) -> list[str]:
        return list(_plans(self._config, split))

    def spec(self, split: str, folder: str) -> GameSpec:
        return _scene_spec(self._config, split, folder)


class _FileGames:
    """Game files below `root/json_2.1.1`, parsed through a cache in the user's cache folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / RELEASE
        if not self._root.is_dir():
            raise RwmlError(
                f"{root} has no folder {RELEASE}",
                "the ALFWorld games are read from <data>/json_2.1.1/<split>/<task>/<trial>/game.tw-pddl",
                "point ALFWORLD_DATA (or world.options.data) at the folder that `alfworld-download` made",
            )

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if (self._root / split).is_dir())

    def folders(self, split: str) -> list[str]:
        return list(_list_files(self._root.resolve(), split))

    def spec(self, split: str, folder: str) -> GameSpec:
        root = self._root.resolve()
        return _open_files(root, split).spec(_list_files(root, split)[folder])


@lru_cache(maxsize=16)
def _list_files(root: Path, split: str) -> Mapping[str, int]:
    """Folders of the split's games, sorted, with their places."""
    return {as_unicode(folder): place for place, folder in enumerate(_folders(root, split))}


def _folders(root: Path, split: str) -> list[str]:
    """As the file system names them: bytes that are no UTF-8 are surrogates, which no task's id can hold."""
    base = root / split
    folders = sorted(path.parent.relative_to(base).as_posix() for path in base.glob(f"*/*/{GAME_FILE}"))
    # The release has trials with movable receptacles and sliced objects; the official engine leaves them out.
    return [folder for folder in folders if "movable" not in folder and "Sliced" not in folder]


@lru_cache(maxsize=16)
def _open_files(root: Path, split: str) -> Games:
    paths = [root / split / folder for folder in _folders(root, split)]
    place = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = base / "rwml" / f"alfworld-{split}-{place}.games"
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        note(f"games are parsed one by one, without the cache {cache}: {error.strerror}")
        return load_games(paths)
    with ExitStack() as stack:
        bars: list[Bar] = []

        def advance(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(progress(f"parse {split} games", total, "games")))
            bars[0].advance()

        return load_games(paths, cache, advance)


def _official_root(data: str | os.PathLike[str] | None) -> Path:
    place = data or os.environ.get("ALFWORLD_DATA")
    if not place:
        raise RwmlError(
            "the environment variable ALFWORLD_DATA is not set",
            "the official ALFWorld games are read from the folder that it names",
            "run `alfworld-download` and set ALFWORLD_DATA (or world.options.data) to its folder, or play the "
            'generated scenes with world.options.source = "scenes"',
        )
    return Path(place).expanduser()


@register("alfworld")
class AlfWorld(BaseWorld):
    """The household world of ALFWorld.

    source "scenes": games of our own (`SceneConfig`), made in memory, or written to `data` and read from there.
    source "official": the games below `data`, or below $ALFWORLD_DATA.
    A task's id is "<split>/<task folder>/<trial>", its kind the ALFRED task type.
    """

    name = "alfworld"

    def __init__(self, source: str = "scenes", data: str | None = None, **options: Any) -> None:
        if source not in SOURCES:
            raise RwmlError(
                f"unknown source of games: '{source}'", "it decides what is played", nearest(source, SOURCES)
            )
        for key in options:
            if key not in _SCENE_OPTIONS:
                raise RwmlError(
                    f"unknown option of the world alfworld: '{key}'", "it would be ignored", nearest(key, OPTIONS)
                )
        self._games: _Games
        if source == "official":
            if options:
                raise RwmlError(
                    f"the official games take no option '{next(iter(options))}'",
                    "size, seed and numbers are for generated scenes",
                    'remove it, or set source = "scenes"',
                )
            self._games = _FileGames(_official_root(data))
        else:
            config = _scene_config({**_COUNTS, **options})
            self._games = _FileGames(generate(data, config)) if data else _SceneGames(config)
        self._tasks: dict[str, list[Task]] = {}

    def splits(self) -> tuple[str, ...]:
        """The splits that there are games of, of train, valid_seen and valid_unseen."""
        return self._games.splits()

    def tasks(self, split: str) -> list[Task]:
        """All tasks of a split, in the order of a hash of their ids: stable, and any first part is a fair sample."""
        if split not in self._tasks:
            if split not in self.splits():
                raise RwmlError(
                    f"the world alfworld has no games of the split '{split}'",
                    "tasks are drawn from it",
                    nearest(split, self.splits()),
                )
            folders = self._games.folders(split)
            tasks = [Task(f"{split}/{folder}", self.name, split, folder.split("-")[0]) for folder in folders]
            self._tasks[split] = sorted(tasks, key=lambda task: lot(task.id))
        return list(self._tasks[split])

    def spec(self, task: Task) -> GameSpec:
        """The parsed game of a task; RwmlError if this world has no such task."""
        split, _, folder = task.id.partition("/")
        try:
            return self._games.spec(split, folder)
        except KeyError:
            raise RwmlError(
                f"the world alfworld has no task '{task.id}'",
                "an episode is played from its game",
                "use the options (source, data, size, seed, numbers) with which the task was listed",
            ) from None

    def env(self) -> AlfEnv:
        """Make an environment that plays this world's tasks."""
        return AlfEnv(self)

    def policies(self) -> tuple[str, ...]:
        """Names of the built-in policies; "noisy:0.2" sets the share of random actions."""
        return policies.NAMES

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """Make a built-in policy, for one episode."""
        return policies.make_policy(name, seed)

    def prompts(self, style: str) -> Prompts:
        """Wording in the style "full" or "brief"."""
        if style not in STYLES:
            raise RwmlError(f"unknown style of prompts: '{style}'", "models are asked in it", nearest(style, STYLES))
        return STYLES[style]

    def verb(self, action: str) -> str:
        """The head word of a well-formed command ("go" of "go to desk 1"), "invalid" for anything else."""
        parts = read_action(action)
        return parts[0].removesuffix(" to") if parts else "invalid"

    def inefficient(self, action: str) -> bool:
        """Whether an action only looks: look or examine (as RWML counts)."""
        return self.verb(action) in ("look", "examine")

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """Whether the next state follows from what was seen; see `beliefs.knowable`."""
        return knowable(opening, history, action, next_state)

    def reads_win(self, opening: str, exchanges: Sequence[str]) -> bool | None:
        """Whether (action, observation, ...), real or imagined, says that the goal was met; see `outcome.py`."""
        return reads_win(opening, exchanges)

    def granted(self, action: str) -> str:
        """The answer of a world that admits every action and shows nothing; see `outcome.py`."""
        return granted(action)


def _scene_config(options: Mapping[str, Any]) -> SceneConfig:
    fields = dict(options)
    if isinstance(fields.get("kinds"), list):
        fields["kinds"] = tuple(fields["kinds"])
    for key, value in fields.items():
        if key == "size":
            sound, wanted = isinstance(value, str), "the name of a size"
        elif key == "kinds":
            sound, wanted = isinstance(value, tuple), "a list of task types"
        else:
            sound, wanted = (
                isinstance(value, int) and not isinstance(value, bool) and value >= 0,
                "a number of 0 or more",
            )
        if not sound:
            raise RwmlError(
                f"the option {key} of the world alfworld is {value!r}",
                "it decides which scenes are made",
                f"give {wanted}",
            )
    return SceneConfig(**fields)


class AlfEnv:
    """Plays one task at a time; see `Env`. The games are deterministic: the seed of `reset` changes nothing."""

    def __init__(self, world: AlfWorld) -> None:
        self._world = world
        self._game: Game | None = None

    def reset(self, task: Task, seed: int = 0) -> str:
        """Start `task`; return the room and the task's wording."""
        self._game = Game(self._world.spec(task))
        return self._game.reset()

    def step(self, action: str) -> StepResult:
        """Play one command. valid: it was admissible; reward 1.0 and terminated once the goal holds."""
        observation, reward, done = self._playing().step(action)
        # An inadmissible action gets exactly this answer; comparing is much cheaper than listing the commands.
        return StepResult(observation, float(reward), done, observation != NOTHING)

    @property
    def admissible(self) -> Sequence[str]:
        """The admissible commands, sorted; none before the first `reset`."""
        return self._game.admissible_commands if self._game is not None else ()

    @property
    def success(self) -> bool:
        """Whether the goal holds now."""
        return self._game is not None and self._game.won

    def _playing(self) -> Game:
        if self._game is None:
            raise RwmlError("step before reset", "the environment plays no task yet", "call reset(task) first")
        return self._game
