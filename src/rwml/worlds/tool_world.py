"""What all worlds of tools and users have in common: the head word, the target and the knowability of a step.

Actions are the canonical text of `core/tool_calls.py`; kinds of next state are `tool` and `user`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rwml.core.tool_calls import ToolCall, calls_of
from rwml.worlds.schema import mask_response

# Every step of an episode looks at all the steps before it.
_masked = lru_cache(maxsize=4096)(mask_response)


@lru_cache(maxsize=4096)
def _calls(action: str) -> tuple[ToolCall, ...]:
    return calls_of(action)


def verb(action: str) -> str:
    """The name of the (first) tool that is called, "message" for words to the user, "invalid" for no action."""
    if not action.strip():
        return "invalid"
    calls = _calls(action)
    return calls[0].name if calls else "message"


def target(kind: str, observation: str) -> str:
    """What a world model is asked for: the schema of a tool's response, a user's message as it is (RWML, tau2)."""
    return _masked(observation) if kind == "tool" else observation


def knowable(opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
    """Whether the history shows the next state, or its form.

    True for calls that all were made before with the same arguments, and where an earlier call of the same tools
    was answered in the form `next_state` (a target). A user's words are never knowable.
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
