"""The world of imported chat logs."""

from __future__ import annotations

import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import Task
from rwml.worlds.base import World
from rwml.worlds.by_name import get_world


def test_chat_logs_are_a_world_that_cannot_be_played() -> None:
    world = get_world("chat")
    assert isinstance(world, World)
    assert (world.splits(), world.tasks("train"), world.policies()) == ((), [], ())
    task = Task("t", "chat", "train", "chat")
    assert world.world_model_opening(task, "Be kind.") == "Be kind."
    for play in (world.env, lambda: world.policy("expert", 0)):
        with pytest.raises(RwmlError, match="cannot be played"):
            play()
    for style in ("full", "brief"):
        prompts = world.prompts(style)
        assert prompts.actions == "calls"
        assert "{action}" in prompts.question
    with pytest.raises(RwmlError, match="full"):
        world.prompts("ful")
