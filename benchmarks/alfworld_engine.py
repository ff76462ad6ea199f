"""Time our ALFWorld engine against the official one on the same games and commands, in one run.

Each game is loaded, reset and played by both engines, one after the other; a step includes the observation and the list
of admissible commands. Medians over games (and, for ours, over repeats), in processor time of one core, so that other
work on the machine does not count. Then ours alone: games per second from the cache, and the memory that all training
games take. The last line is `ratio: N`, steps per second of ours over the official engine's.

    python benchmarks/alfworld_engine.py --games 8 --steps 30
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from alfworld_lockstep import commands_of, find_games, official_env
from rwml.worlds.alfworld import Game, load_game, load_games
from rwml.worlds.alfworld.engine.parse import read_game

Times = dict[str, float]


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    """Run `work`; return the processor seconds that it took, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def record_commands(path: Path, steps: int, seed: int) -> list[str]:
    """A play of the game's plan and random commands, to be timed in both engines."""
    game = load_game(path)
    game.reset()
    commands = []
    for command in commands_of(game, "mixed", steps, random.Random(seed)):
        commands.append(command)
        game.step(command)
    return commands


def time_official(path: Path, commands: list[str]) -> Times:
    env = official_env()
    load_s, _ = cpu_s(lambda: env.load(str(path)))
    reset_s, _ = cpu_s(env.reset)

    def play() -> None:
        for command in commands:
            env.step(command)[0]["admissible_commands"]

    play_s, _ = cpu_s(play)
    return {"load_ms": load_s * 1e3, "reset_ms": reset_s * 1e3, "step_ms": play_s / len(commands) * 1e3}


def time_ours(path: Path, commands: list[str], repeats: int) -> Times:
    """Medians over repeats; every reset is that of a game which was never reset before."""
    taken: dict[str, list[float]] = {"load_ms": [], "reset_ms": [], "step_ms": []}
    for _ in range(repeats):
        load_s, spec = cpu_s(lambda: read_game(path))
        game = Game(spec)

        def reset(game: Game = game) -> None:
            game.reset()
            game.admissible_commands  # noqa: B018 - making the list is part of what is timed

        def play(game: Game = game) -> None:
            for command in commands:
                game.step(command)
                game.admissible_commands  # noqa: B018

        reset_s, _ = cpu_s(reset)
        play_s, _ = cpu_s(play)
        for name, value in (("load_ms", load_s), ("reset_ms", reset_s), ("step_ms", play_s / len(commands))):
            taken[name].append(value * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def resident_mb() -> float:
    """Memory of this process in megabytes (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_all(paths: list[Path], cache: Path) -> Times:
    """Open every game from the cache in this fresh process, then reset each; seconds and megabytes."""
    before = resident_mb()
    seconds, games = cpu_s(lambda: list(load_games(paths, cache)))
    opened = resident_mb() - before
    for game in games:
        game.reset()
    return {"games_per_s": len(games) / seconds, "open_mb": opened, "reset_mb": resident_mb() - before}


def time_cache(paths: list[Path], repeats: int) -> dict[str, float]:
    """Make a cache of all games in a temporary folder, then open it in fresh processes; medians over repeats."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "games.cache"
        build_s, _ = cpu_s(lambda: load_games(paths, cache))
        runs = []
        for _ in range(repeats):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                runs.append(pool.submit(open_all, paths, cache).result())
        size = cache.stat().st_size
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {"games": len(paths), "build_s": build_s, "file_mb": size / 1e6, **medians}


def compare(games: list[Path], steps: int, repeats: int, *, official: bool) -> dict[str, Times]:
    """Medians over games of both engines (of ours alone without `official`)."""
    taken: dict[str, list[Times]] = {"official": [], "ours": []}
    for number, path in enumerate(games):
        commands = record_commands(path, steps, number)
        if official:
            taken["official"].append(time_official(path, commands))
        taken["ours"].append(time_ours(path, commands, repeats))
        print(f"{number + 1}/{len(games)} games", file=sys.stderr, flush=True)
    result = {}
    for engine, rows in taken.items():
        if rows:
            medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
            result[engine] = {**medians, "steps_per_s": 1e3 / medians["step_ms"]}
    return result


def show(result: dict[str, Any]) -> None:
    official, ours, cache = result["engines"].get("official"), result["engines"]["ours"], result["cache"]
    print(f"{'':16}{'official':>12}{'ours':>12}{'ratio':>10}")
    for name in ("load_ms", "reset_ms", "step_ms", "steps_per_s"):
        theirs = official[name] if official else float("nan")
        ratio = ours[name] / theirs if name == "steps_per_s" else theirs / ours[name]
        print(f"{name:16}{theirs:12.2f}{ours[name]:12.3f}{ratio:10.0f}")
    print(f"cache of {cache['games']} games: {cache['file_mb']:.1f} MB, made in {cache['build_s']:.1f} s")
    print(f"from the cache: {cache['games_per_s']:.0f} games/s")
    print(f"memory: {cache['open_mb']:.0f} MB with all of them open, {cache['reset_mb']:.0f} MB with all of them reset")
    if official:
        print(f"ratio: {result['ratio']:.0f}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=8, help="games that both engines play")
    parser.add_argument("--steps", type=int, default=30, help="commands per game")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ours-only", action="store_true", help="leave the official engine out (and the ratio)")
    parser.add_argument("--data", type=Path, default=os.environ.get("ALFWORLD_DATA"), help="folder with json_2.1.1")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/alfworld_engine.json"))
    options = parser.parse_args(arguments)
    games = find_games(options.data) if options.data else []
    if not games:
        parser.error("set ALFWORLD_DATA or --data to the folder that holds json_2.1.1")
    training = [path for path in games if path.parts[-4] == "train"] or games
    chosen = random.Random(0).sample(games, min(options.games, len(games)))
    engines = compare(chosen, options.steps, options.repeats, official=not options.ours_only)
    result: dict[str, Any] = {"engines": engines, "cache": time_cache(training, min(options.repeats, 3))}
    if not options.ours_only:
        result["ratio"] = engines["ours"]["steps_per_s"] / engines["official"]["steps_per_s"]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
