"""Game files that cannot be played, and the cache of parsed games."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import Game, load_game, load_games

WriteKitchen = Callable[..., Path]
GOALS = (
    "()", "(forall (?r - receptacle) (imply (openable ?r) (opened ?r)))", "(inReceptacle Mug_bar_1 Microwave_bar_1)",
    "(exists (?o - object) (isHot ?o))", "(exists (?a - agent) (holdsAny ?a))",
)  # fmt: skip


def test_missing_truncated_and_foreign_files(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    text = write_kitchen().read_text()
    cases = {
        "missing": (None, "No such file"),
        "truncated": (text[: len(text) // 2], "it ends early or is not JSON"),
        "empty": ("", "it ends early or is not JSON"),
        "list": ("[1, 2]", "it has no text 'pddl_domain'"),
        "half": (json.dumps({"pddl_domain": "", "pddl_problem": ""}), "it has no text 'grammar'"),
        "torn problem": (text.replace("(:goal", "(:goal ("), "brackets are not closed"),
        "no goal": (text.replace("(:goal", "(:gaol"), "it has no (:goal ...)"),
        "nowhere": (text.replace("(atLocation agent1 loc_bar_0)", ""), "its agent is at 0 locations"),
        "older": (
            text.replace("move {o} to {r}", "put {o} in/on {r}"),
            "writes the command of PutObject as 'put {o} in/on {r}', not 'move {o} to {r}'",
        ),
        "new action": (text.replace("(:action help", "(:action dance) (:action help"), "missing or unknown: dance"),
        "no task": (text.replace("Your task is to: ", ""), "its grammar has no task"),
    }
    for name, (content, problem) in cases.items():
        path = tmp_path / name / "game.tw-pddl"
        path.parent.mkdir()
        if content is not None:
            path.write_text(content)
        with pytest.raises(RwmlError) as caught:
            load_game(path)
        assert problem in caught.value.what, name
        assert str(path) in caught.value.what
        assert "alfworld-download" in caught.value.fix


def fields_of(game: Game) -> dict[str, Any]:
    spec = game.spec
    return {name: getattr(spec, name) for name in spec.__slots__ if name != "tables"}


def test_cache_gives_back_the_same_games(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen(goal=goal) for goal in GOALS]
    cache = tmp_path / "sub" / "games.cache"
    ticks: list[tuple[int, int]] = []
    first = load_games([path.parent for path in paths], cache, progress=lambda done, total: ticks.append((done, total)))
    assert (first.parsed, first.reused, first.rebuilt) == (5, 0, "there was no cache yet")
    assert ticks == [(number, 5) for number in range(1, 6)]
    second = load_games(paths, cache)
    assert [fields_of(game) for game in second] == [fields_of(load_game(path)) for path in paths]
    assert (second.parsed, second.reused, second.rebuilt) == (0, 5, "")
    assert second[3].spec is second[3].spec is second[3:4][0].spec
    assert second[3] is not second[3]
    assert second[-2].spec.goal == "(exists (?o - object) (ishot ?o))"
    assert list(cache.parent.iterdir()) == [cache]


def test_cache_follows_changed_and_missing_files(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen() for _ in range(3)]
    cache = tmp_path / "games.cache"
    load_games(paths, cache)
    paths[1].write_text(paths[1].read_text().replace("put a hot apple", "place a hot apple"))
    games = load_games(paths, cache)
    hot = "put a hot apple in fridge."
    assert [game.task for game in games] == [hot, "place a hot apple in fridge.", hot]
    assert (games.parsed, games.reused) == (1, 2)
    assert load_games(paths, cache)[1].task == "place a hot apple in fridge."
    status = paths[2].stat()
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load_games(paths, cache).parsed == 1
    assert load_games(paths[:1], cache).parsed == 0
    assert load_games(paths, cache).parsed == 0
    paths[0].unlink()
    games = load_games(paths, cache)
    with pytest.raises(RwmlError, match="cannot read the game file"):
        games[0]
    assert [game.task for game in games[1:]] == ["place a hot apple in fridge.", hot]
    assert ([*games.broken], games.reused) == ([0], 2)


def test_damaged_caches_are_made_anew(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen(goal=goal) for goal in GOALS[:4]]
    cache = tmp_path / "games.cache"
    load_games(paths, cache)
    whole = cache.read_bytes()
    wanted = [fields_of(load_game(path)) for path in paths]
    damaged = "the cache is truncated or damaged"
    later = whole.replace(b'"version": 2', b'"version": 9', 1)
    older = whole.replace(b'"sinks", ', b"", 1)
    middle = whole.index(b"\n") + 20
    for content, reason in [
        (b"", damaged),
        (whole[:30], damaged),
        (whole[:middle], damaged),
        (whole[:-1], damaged),
        (whole + b"x", damaged),
        (b"PK\x03\x04" * 40, damaged),
        (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], damaged),
        (older, "its records have other fields than games have now"),
        (later, "it is rwml-alfworld-games version 9, not rwml-alfworld-games version 2"),
    ]:
        cache.write_bytes(content)
        games = load_games(paths, cache)
        assert (games.rebuilt, games.parsed) == (reason, 4)
        assert [fields_of(game) for game in games] == wanted
        assert cache.read_bytes() == whole
    cache.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    games = load_games(paths, cache)
    assert [fields_of(game) for game in games] == wanted
    assert (games.rebuilt, games.parsed, games.reused) == ("", 1, 3)


def test_games_without_cache_are_parsed_when_asked_for(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    games = load_games([write_kitchen(), tmp_path / "gone.tw-pddl"])
    assert games[0].task == "put a hot apple in fridge."
    with pytest.raises(RwmlError, match="cannot read the game file"):
        games[1]


def test_games_are_usable_when_the_cache_cannot_be_written(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    path = write_kitchen()
    (tmp_path / "file").write_text("not a folder")
    games = load_games([path], tmp_path / "file" / "games.cache")
    assert games.unsaved
    assert "the cache cannot be read" in games.rebuilt
    assert games[0].reset().endswith("put a hot apple in fridge.")
    assert load_games([path], tmp_path / "games.cache").unsaved == ""
