"""ALFWorld: an exact and fast text engine, scenes of our own, policies, and the world that wraps them."""

from rwml.worlds.alfworld.cache import Games, load_games
from rwml.worlds.alfworld.game import Game, load_game
from rwml.worlds.alfworld.parse import GameSpec

__all__ = ["Game", "GameSpec", "Games", "load_game", "load_games"]
