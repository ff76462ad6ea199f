"""Imported chat logs as a `World`: a world model learns from them, and nothing can be played."""

from __future__ import annotations

from rwml.core.errors import RwmlError
from rwml.core.types import Task
from rwml.worlds.base import BuiltInPolicy, Env, Prompts
from rwml.worlds.by_name import register
from rwml.worlds.tool_world import ToolWorld

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


@register("chat")
class ChatLogs(ToolWorld):
    """Conversations with tools and a user that another program wrote down (`rwml import`)."""

    name = "chat"
    texts = FULL

    def splits(self) -> tuple[str, ...]:
        """None: the logs hold what was played."""
        return ()

    def tasks(self, split: str) -> list[Task]:
        """None: the logs hold what was played."""
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


def _not_played(what: str) -> RwmlError:
    return RwmlError(
        f"the world chat was asked for {what}",
        "it holds imported logs, which cannot be played; a world model can be trained and measured on them",
        "set collect.episodes to the imported folder and stop with --until train-wm, or name a world that is played",
    )
