"""Imported chat logs as a `World`: what is asked of a world model is told of them; nothing can be played."""

from __future__ import annotations

from collections.abc import Sequence

from rwml.core.errors import RwmlError, nearest
from rwml.core.types import Task
from rwml.worlds import tool_world
from rwml.worlds.base import BuiltInPolicy, Env, Prompts

FULL = Prompts(
    agent="""\
You act for a user, with tools. In each turn you either call tools, or write a message to the user; never both.""",
    world_model="""\
You predict what an agent that works with tools will see next. You read what the agent knows and the course of its work
so far. After a tool call, the next state is the tool's response: every JSON object in it is written as its schema,
{"type": "object", "properties": {...}}, all other text word for word. After a message, it is what the user answers.

When you are asked about an action, first sum up the facts that decide what comes of it, briefly. Then write the next
state:
<think>the facts that matter</think><next_state>the response or the answer</next_state>""",
    question="\n\nPotential next action: {action}\nWhat will the next state be?",
    actions="calls",
)

BRIEF = Prompts(agent="", world_model="", question="\nIf I do: {action}\nthen?", actions="calls")

STYLES = {"full": FULL, "brief": BRIEF}


class ChatLogs:
    """Conversations with tools and a user that another program wrote down (`rwml import`)."""

    name = "chat"

    def splits(self) -> tuple[str, ...]:
        """None: what was played stands in the logs."""
        return ()

    def tasks(self, split: str) -> list[Task]:
        """None: what was played stands in the logs."""
        return []

    def env(self) -> Env:
        """RwmlError: there is nothing to play."""
        raise _not_played("an environment")

    def policies(self) -> tuple[str, ...]:
        """None."""
        return ()

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        """RwmlError: there is nothing to play."""
        raise _not_played(f"a policy '{name}'")

    def prompts(self, style: str) -> Prompts:
        """Wording in the style "full" or "brief"."""
        if style not in STYLES:
            raise RwmlError(f"unknown style of prompts: '{style}'", "models are asked in it", nearest(style, STYLES))
        return STYLES[style]

    def verb(self, action: str) -> str:
        """The name of the tool, "message", or "invalid"."""
        return tool_world.verb(action)

    def inefficient(self, action: str) -> bool:
        """False: a log does not say which tools only look."""
        return False

    def world_model_opening(self, task: Task, opening: str) -> str:
        """The opening itself; the importer has put into it what a world model may know."""
        return opening

    def target(self, kind: str, observation: str) -> str:
        """A tool's response masked to its schema, a user's message as it is."""
        return tool_world.target(kind, observation)

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """Whether an earlier call shows the next state, or its form."""
        return tool_world.knowable(opening, history, action, next_state)


def _not_played(what: str) -> RwmlError:
    return RwmlError(
        f"the world chat was asked for {what}",
        "it stands for imported logs, which cannot be played; a world model can be trained and measured on them",
        "set collect.episodes to the imported folder and stop with --until train-wm, or name a world that is played",
    )
