"""ALFWorld's rules as a world model: never wrong about its own game, and silent about what was not seen."""

from __future__ import annotations

import pytest

from rwml.core.errors import RwmlError
from rwml.core.seeds import generator_for
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.world_model import UNKNOWN, Materials, make_world_model
from rwml.worlds.base import World
from rwml.worlds.chat_world import ChatLogs
from rwml.worlds.transitions import transitions_of


def test_what_the_rules_say_is_what_happens(world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, 3), "noisy:0.6", 12)
    rows = [row for episode in episodes for row in transitions_of(episode, world, "train")]
    model = make_world_model("beliefs", Materials(world))
    states = [state for [state] in model.predict([row.query for row in rows], 1, generator_for("beliefs"))]
    known = [(state, row) for state, row in zip(states, rows, strict=True) if state.next_state is not None]
    assert all(state.next_state == row.next_state for state, row in known)
    assert len(known) > len(rows) / 2
    assert {state.reason for state in states} == {"", UNKNOWN}
    # What a player can know is what the rules can say (`World.knowable`).
    assert sum(row.knowable for row in rows) == len(known)


def test_other_worlds_have_other_rules() -> None:
    with pytest.raises(RwmlError, match="alfworld, not chat"):
        make_world_model("beliefs", Materials(ChatLogs()))
