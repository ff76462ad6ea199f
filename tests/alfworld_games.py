"""Generated ALFWorld games and whole plays of them, which several test files make."""

from __future__ import annotations

import json

from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import GameSpec, parse_game
from rwml.worlds.alfworld.pddl import write_game
from rwml.worlds.alfworld.policies import make_policy
from rwml.worlds.alfworld.scenes import SceneConfig, plan_game


def specs(size: str, num_games: int, seed: int = 1, *, shared: bool = True) -> list[GameSpec]:
    """Games of one size; without `shared`, those in which no two receptacles are at one spot."""
    config = SceneConfig(size, seed)
    plans = [plan_game(config, "train", index) for index in range(num_games)]
    if not shared:
        plans = [plan for plan in plans if len(plan.scene.places) == len(plan.scene.receptacles) + 1]
    return [parse_game(json.dumps(write_game(plan))) for plan in plans]


def play(spec: GameSpec, name: str, seed: int, max_steps: int = 50) -> tuple[Game, list[str], list[str]]:
    """The game as it ended, (action, observation, ...), and the thoughts."""
    game, policy = Game(spec), make_policy(name, seed)
    observation = game.reset()
    history, thoughts = [], []
    while not game.won and len(history) < 2 * max_steps:
        action = policy.act(observation, game.admissible_commands)
        observation, _, _ = game.step(action)
        history += [action, observation]
        thoughts.append(policy.thought())
    return game, history, thoughts
