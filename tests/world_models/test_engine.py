"""The real world as a world model: it is right about its own episodes, and says when it cannot be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rwml.core.errors import RwmlError
from rwml.core.seeds import generator_for
from rwml.core.types import Transition
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.engine import DIVERGED, FAILED, EngineWorldModel
from rwml.world_models.world_model import Materials, make_world_model
from rwml.worlds.base import World
from rwml.worlds.chat_world import ChatLogs
from rwml.worlds.transitions import transitions_of


def test_the_engine_is_always_right(world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train")[:3], 1, 5), "noisy:0.8", 6)
    rows = [row for episode in episodes for row in transitions_of(episode, world, "train")]
    by_episode = EngineWorldModel(world, episodes)
    by_history = make_world_model("engine", Materials(world))
    for model in (by_episode, by_history):
        groups = model.predict([row.query for row in rows], 2, generator_for("engine"))
        assert [[state.next_state for state in group] for group in groups] == [[row.next_state] * 2 for row in rows]
    windowed = [row for episode in episodes for row in transitions_of(episode, world, "train", 1)]
    groups = by_episode.predict([row.query for row in windowed], 1, generator_for("engine"))
    assert [state.next_state for [state] in groups] == [row.next_state for row in windowed]


def test_what_cannot_be_replayed_is_said(world: World, rows: list[Transition]) -> None:
    query = next(row.query for row in rows if row.history)
    elsewhere = replace(query, history=("look", "Never seen."))
    model = EngineWorldModel(world, tasks=world.tasks("train"))
    [[state]] = model.predict([elsewhere], 1, generator_for("engine"))
    assert (state.next_state, state.reason) == (None, DIVERGED)
    [[state]] = model.predict([replace(query, task="train/nowhere")], 1, generator_for("engine"))
    assert state.next_state is None
    assert state.reason.startswith(FAILED)
    with pytest.raises(RwmlError, match="chat has no tasks"):
        make_world_model("engine", Materials(ChatLogs()))
