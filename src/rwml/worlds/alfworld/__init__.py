"""ALFWorld: an exact and fast text engine, scenes of our own, policies, and the world that wraps them."""

from rwml.worlds.alfworld.engine.cache import Games, load_games
from rwml.worlds.alfworld.engine.game import Game, load_game
from rwml.worlds.alfworld.engine.parse import GameSpec

__all__ = ["Game", "GameSpec", "Games", "load_game", "load_games"]
