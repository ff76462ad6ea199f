"""Our ALFWorld engine against the official one, state by state, on a sample of games."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rwml.worlds.alfworld import load_game

pytestmark = pytest.mark.slow  # plays whole games on two engines

BENCHMARKS = Path(__file__).parents[4] / "benchmarks"


@pytest.fixture(scope="module")
def lockstep() -> Iterator[ModuleType]:
    # On the path, not only loaded: the processes that it spawns import it too.
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("alfworld_lockstep")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def official() -> Path:
    """Folder of the official package's domain and grammar; without the package there is nothing to compare with."""
    pytest.importorskip("alfworld", reason="the official engine is not installed (extra `alfworld`)")
    import alfworld

    return Path(alfworld.__file__).parent / "data"


@pytest.mark.parametrize("seed", range(2))
def test_kitchen_is_played_alike(
    seed: int, lockstep: ModuleType, official: Path, write_kitchen: Callable[..., Path]
) -> None:
    grammar = (official / "alfred.twl2").read_text().replace("UNKNOWN GOAL", "put a hot apple in fridge")
    path = write_kitchen(grammar=grammar, domain=(official / "alfred.pddl").read_text())
    record = lockstep.play_both(path, "random", 60, seed)
    assert record["differences"] == []
    assert record["states"] == 61


@pytest.mark.timeout(900)
def test_official_games_are_played_alike(
    lockstep: ModuleType, official: Path, official_games: dict[str, Path], tmp_path: Path
) -> None:
    """One game of each kind, by plan, at random and wrongly; the official engine takes seconds a game."""
    by_kind = {name.split("/")[1].split("-")[0]: path for name, path in sorted(official_games.items())}
    assert len(by_kind) == 6
    jobs = [(path, lockstep.STYLES[place % 3], 12, 7) for place, path in enumerate(by_kind.values())]
    records = list(lockstep.run(jobs, 2))
    result = lockstep.summary(records)
    assert (result["games"], result["states"]) == (6, 6 * 13)
    assert result["first_differences"] == []
    assert result["refused"] > 0
    assert result["games_won"] > 0


def test_a_difference_is_found_and_kept(
    lockstep: ModuleType, official: Path, write_kitchen: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = (official / "alfred.twl2").read_text()
    path = write_kitchen(grammar=grammar, domain=(official / "alfred.pddl").read_text())
    other = json.loads(path.read_text())
    other["pddl_problem"] = other["pddl_problem"].replace("(inReceptacle DeskLamp_bar_1 CounterTop_bar_1)", "")
    (path.parent / "other.tw-pddl").write_text(json.dumps(other))
    monkeypatch.setattr(lockstep, "load_game", lambda _: load_game(path.parent / "other.tw-pddl"))
    record = lockstep.play_both(path, "plan", 10, 0)
    assert record["commands"][-1] == "go to countertop 1"
    fields = {found["field"]: found["ours"] for found in record["differences"]}
    assert set(fields) == {"observation", "admissible"}
    assert fields["observation"].endswith("you see a apple 2, and a plate 1.")
    assert lockstep.summary([record])["games_that_differ"] == 1


def test_a_killed_run_leaves_out_only_its_torn_line(lockstep: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert lockstep.finished_games(log) == []
    log.write_text('{"game": "a"}\n{"game": "b"}\n{"game": "c", "sta')
    assert lockstep.finished_games(log) == [{"game": "a"}, {"game": "b"}]
