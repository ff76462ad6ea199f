"""Play our ALFWorld engine and the official one side by side, and count the states in which they differ.

After every command the observation, the list of admissible commands, the reward, done and won are compared. Commands
are a mixture of the game's own winning plan, random admissible ones (verb first, so that rare verbs get their turn) and
deliberately wrong ones. Needs the optional extra `alfworld` and the games of `alfworld-download` below $ALFWORLD_DATA.

    python benchmarks/alfworld_lockstep.py --games 300 --steps 36 --jobs 2

A line per finished game is kept beside the JSON file, so that the same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rwml.worlds.alfworld import Game, load_game

STYLES = ("plan", "random", "mixed")
# How often random play picks each verb: those that are seldom admissible and change much come first.
WEIGHTS = {
    "go": 5, "look": 1, "examine": 2, "inventory": 0.1, "help": 0.05, "open": 6, "close": 2, "take": 6, "move": 2,
    "clean": 8, "heat": 8, "cool": 8, "use": 3, "slice": 8,
}  # fmt: skip


def official_env() -> Any:
    """The official engine with the wrappers of its own environment, names unshuffled."""
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos
    from textworld import EnvInfos
    from textworld.envs.pddl import PddlEnv

    wanted = EnvInfos(admissible_commands=True, won=True, extras=["gamefile", "walkthrough"])
    return AlfredInfos(AlfredDemangler(PddlEnv(wanted), shuffle=False))


def find_games(root: Path) -> list[Path]:
    """All game files below `root`/json_2.1.1 (or `root`), sorted."""
    folder = root / "json_2.1.1" if (root / "json_2.1.1").is_dir() else root
    return sorted(folder.glob("*/*/*/game.tw-pddl"))


def wrong_command(game: Game, rng: random.Random) -> str:
    """A command that is usually not admissible: wrong place, wrong object, wrong form, or nothing at all."""
    spec = game.spec
    item, place = rng.choice(spec.object_names), rng.choice(spec.receptacle_names)
    command = rng.choice(game.admissible_commands)
    receptacles = game.tables.receptacles_at[game.location]
    present = spec.receptacle_names[rng.choice(receptacles)] if receptacles else place
    kinds = [
        f"go to {present}", f"go to {place}", f"take {item} from {present}", f"move {item} to {present}",
        f"examine {item}", f"examine {place}", f"open {present}", f"close {present}", f"use {item}",
        f"clean {item} with {present}", f"heat {item} with {present}", f"cool {item} with {present}",
        f"slice {item} with {rng.choice(spec.object_names)}", f"put {item} in/on {present}", "look around", "",
        "think: what now?", command.upper(), f"  {command} ", command.replace(" ", "  "), f"{command} 1", command[:-1],
    ]  # fmt: skip
    return rng.choice(kinds)


def commands_of(game: Game, style: str, steps: int, rng: random.Random) -> Iterator[str]:
    """Choose `steps` commands one by one, looking at the game's present state."""
    plan = game.walkthrough if style != "random" else []
    for _ in range(steps):
        dice = rng.random()
        if dice < 0.15:
            yield wrong_command(game, rng)
        elif plan and (style == "plan" or dice < 0.6):
            yield plan.pop(0)
        else:
            by_verb: dict[str, list[str]] = {}
            for command in game.admissible_commands:
                by_verb.setdefault(command.split(" ", 1)[0], []).append(command)
            verb = rng.choices(list(by_verb), [WEIGHTS[verb] for verb in by_verb])[0]
            yield rng.choice(by_verb[verb])


def differences(state: Any, ours: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare what the official engine says of its present state with ours, field by field."""
    names = {"observation": "feedback", "admissible": "admissible_commands", "walkthrough": "extra.walkthrough",
             "reward": "score"}  # fmt: skip
    official = {key: state[names.get(key, key)] for key in ours}
    return [{"field": key, "official": official[key], "ours": ours[key]} for key in ours if official[key] != ours[key]]


def play_both(path: Path, style: str, steps: int, seed: int) -> dict[str, Any]:
    """Play one game in both engines. The record counts states and verbs; play stops at the first difference."""
    rng = random.Random(f"{seed}/{path.parent.name}")
    env = official_env()
    env.load(str(path))
    game = load_game(path)
    opening = game.reset()
    ours = {"observation": opening, "admissible": game.admissible_commands, "won": game.won}
    found = differences(env.reset(), {**ours, "walkthrough": game.walkthrough})
    verbs: Counter[str] = Counter()
    played: list[str] = []
    won = game.won
    for command in commands_of(game, style, steps, rng):
        if found:
            break
        played.append(command)
        state, reward, done = env.step(command)
        observation, our_reward, our_done = game.step(command)
        ours = {"observation": observation, "admissible": game.admissible_commands, "won": game.won}
        found = differences(state, {**ours, "reward": our_reward, "done": our_done})
        assert (reward, done) == (state["score"], state["done"])
        won = won or game.won
        verbs["(refused)" if observation == "Nothing happens." else command.split()[0]] += 1
    return {
        "game": name_of(path), "style": style, "states": len(played) + 1, "refused": verbs["(refused)"], "won": won,
        "verbs": dict(verbs), "differences": found, "commands": played if found else [],
    }  # fmt: skip


def run(jobs: Sequence[tuple[Path, str, int, int]], processes: int) -> Iterator[dict[str, Any]]:
    """Play in child processes, new ones every 25 games each, because the official engine never frees a game."""
    for batch in (jobs[start : start + 25 * processes] for start in range(0, len(jobs), 25 * processes)):
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            for done in as_completed([pool.submit(play_both, *job) for job in batch]):
                yield done.result()


def finished_games(kept: Path) -> list[dict[str, Any]]:
    """The records of an earlier run; a last line that was cut off by a kill is left out and played again."""
    lines = kept.read_text(encoding="utf-8").split("\n")[:-1] if kept.exists() else []
    return [json.loads(line) for line in lines]


def name_of(path: Path) -> str:
    return "/".join(path.parts[-4:-1])


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    verbs: Counter[str] = Counter()
    for record in records:
        verbs.update(record["verbs"])
    return {
        "games": len(records),
        "states": sum(record["states"] for record in records),
        "refused": sum(record["refused"] for record in records),
        "games_won": sum(record["won"] for record in records),
        "games_that_differ": sum(bool(record["differences"]) for record in records),
        "differences": sum(len(record["differences"]) for record in records),
        "verbs": dict(verbs.most_common()),
        "first_differences": [record for record in records if record["differences"]][:5],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=300)
    parser.add_argument("--steps", type=int, default=36, help="commands per game")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data", type=Path, default=os.environ.get("ALFWORLD_DATA"), help="folder with json_2.1.1")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/alfworld_lockstep.json"))
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("set ALFWORLD_DATA or --data to the folder that holds json_2.1.1")
    games = find_games(options.data)
    if not games:
        parser.error(f"no games below {options.data}")
    chosen = random.Random(options.seed).sample(games, min(options.games, len(games)))
    jobs = [(path, STYLES[place % 3], options.steps, options.seed) for place, path in enumerate(chosen)]

    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = options.json.with_suffix(f".{options.seed}.{options.steps}.jsonl")
    wanted = {(name_of(path), style) for path, style, _, _ in jobs}
    records = [record for record in finished_games(kept) if (record["game"], record["style"]) in wanted]
    finished = {record["game"] for record in records}
    left = [job for job in jobs if name_of(job[0]) not in finished]
    started = time.perf_counter()
    with kept.open("w", encoding="utf-8") as log:
        log.writelines(json.dumps(record) + "\n" for record in records)
        for record in run(left, options.jobs):
            records.append(record)
            log.write(json.dumps(record) + "\n")
            log.flush()
            count = summary(records)
            line = f"{count['games']}/{len(jobs)} games, {count['states']} states, {count['differences']} differences"
            print(f"{line}, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    result = summary(records)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for key in ("games", "states", "refused", "games_won", "games_that_differ", "differences"):
        print(f"{key:>20}  {result[key]:>7}")
    print("               verbs  " + ", ".join(f"{verb} {count}" for verb, count in result["verbs"].items()))
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
