"""The questions that a language model is asked about next states, and the labels that it learns (RWML, step 4)."""

from __future__ import annotations

from collections.abc import Iterable

from rwml.core.prompts import action_text, next_state_text
from rwml.core.tool_calls import calls_of
from rwml.core.types import Query, Transition
from rwml.models.chat import ChatFormat
from rwml.worlds.base import Prompts

TOO_LONG = "longer than model.max_context_tokens"  # the reason in a transition that is left out


def question_ids(chat: ChatFormat, prompts: Prompts, query: Query | Transition) -> list[int]:
    """Prompt ids: opening and history as the trunk, then the question about the action.

    The trunk of step t is an exact token prefix of the trunk of step t+1 of the same episode (unless a history window
    cuts it), so that trees share it. The observation after tool calls is written as their response.
    """
    ids = chat.opening(prompts.world_model, query.opening)
    history, after_tool = query.history, False
    for action, observation in zip(history[::2], history[1::2], strict=True):
        calls = calls_of(action) if prompts.actions == "calls" else ()
        if calls:
            ids += chat.past_calls(calls, observation, after_tool=after_tool)
        else:
            message = action if prompts.actions == "calls" else action_text(action)
            ids += chat.past_turn(message, observation, after_tool=after_tool)
        after_tool = bool(calls)
    return ids + chat.ask(prompts.question.format(action=query.action), after_tool=after_tool)


def label_ids(chat: ChatFormat, transition: Transition) -> list[int]:
    """The WM SFT label: empty think, the real next state, the closing of the message (as in RWML)."""
    return chat.text(chat.completion_of(next_state_text(transition.next_state))) + chat.to_user[:1]


def too_long(
    chat: ChatFormat, prompts: Prompts, transitions: Iterable[Transition], max_new_tokens: int, max_context: int
) -> frozenset[str]:
    """Ids of the transitions that do not fit in `max_context` tokens, with their label or the longest answer."""
    return frozenset(
        row.id
        for row in transitions
        if len(question_ids(chat, prompts, row)) + max(max_new_tokens, len(label_ids(chat, row))) > max_context
    )
