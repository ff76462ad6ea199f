"""What all worlds of tools and users have in common: the opening, and the verb, target and knowability of a step.

Actions are the canonical text of `core/tool_calls.py`; kinds of next state are `tool` and `user`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from rwml.core.prompts import tools_block
from rwml.core.tool_calls import ToolCall, calls_of
from rwml.worlds.base import BaseWorld
from rwml.worlds.schema import mask_response

_SPEAKERS = {"assistant": "Agent", "user": "User", "tool": "Tool"}

# Every step of an episode looks at all the steps before it.
_masked = lru_cache(maxsize=4096)(mask_response)


@lru_cache(maxsize=4096)
def _calls(action: str) -> tuple[ToolCall, ...]:
    return calls_of(action)


def opening(tools: Sequence[Mapping[str, Any]], rules: str, before: Sequence[tuple[str, str]], ticket: str = "") -> str:
    """What an agent knows before its first action.

    tools: OpenAI function schemas, which make a `<tools>` block. rules: the agent's policy. before: (role, text) of the
    messages so far. ticket: the problem in words, if no user brings it.
    """
    parts = [tools_block(tools)] if tools else []
    parts.append(rules.strip())
    if ticket.strip():
        parts.append(f"Ticket: {ticket.strip()}")
    parts += [f"{_SPEAKERS.get(role, role.capitalize())}: {text.strip()}" for role, text in before]
    return "\n\n".join(part for part in parts if part)


def verb(action: str) -> str:
    """The name of the (first) tool that is called, "message" for words to the user, "invalid" for no action."""
    if not action.strip():
        return "invalid"
    calls = _calls(action)
    return calls[0].name if calls else "message"


def target(kind: str, observation: str) -> str:
    """What a world model must predict: the schema of a tool's response, a user's message as it is (RWML, tau2)."""
    return _masked(observation) if kind == "tool" else observation


def knowable(opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
    """Whether the history shows the next state, or its form.

    True for calls that all were made before with the same arguments, and if an earlier call of the same tools was
    answered in the form `next_state` (a target). A user's words are never knowable.
    """
    calls = _calls(action)
    names = [call.name for call in calls]
    made: list[ToolCall] = []
    for earlier, observation in zip(history[::2], history[1::2], strict=True):
        before = _calls(earlier)
        made += before
        if calls and [call.name for call in before] == names and _masked(observation) == next_state:
            return True
    return bool(calls) and all(call in made for call in calls)


class ToolWorld(BaseWorld):
    """A `BaseWorld` whose agent calls tools and writes to users; its `texts.actions` is "calls"."""

    def verb(self, action: str) -> str:
        """The name of the tool, "message", or "invalid"."""
        return verb(action)

    def target(self, kind: str, observation: str) -> str:
        """A tool's response masked to its schema, a user's message as it is."""
        return target(kind, observation)

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        """Whether an earlier call shows the next state, or its form."""
        return knowable(opening, history, action, next_state)
