"""Asking a language model for the next state (RWML, step 4 and its prompts)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from rwml.core.prompts import action_text, next_state_text, parse_next_state
from rwml.core.tool_calls import calls_of
from rwml.core.types import Transition
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Sampler, SamplingParams
from rwml.worlds.base import Prompts

TOO_LONG = "longer than model.max_context_tokens"  # the reason in a transition that is left out


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer. ids: with the stop token; text: without; next_state: None where it cannot be read."""

    ids: tuple[int, ...]
    text: str
    next_state: str | None
    truncated: bool


def question_ids(chat: ChatFormat, prompts: Prompts, transition: Transition) -> list[int]:
    """Prompt ids: opening and history as the trunk, then the question about the action.

    The trunk of step t is an exact token prefix of the trunk of step t+1 of the same episode (unless a history
    window cuts it), so that trees share it. What follows tool calls is told as their response.
    """
    ids = chat.opening(prompts.world_model, transition.opening)
    history, after_tool = transition.history, False
    for action, observation in zip(history[::2], history[1::2], strict=True):
        calls = calls_of(action) if prompts.actions == "calls" else ()
        if calls:
            ids += chat.past_calls(calls, observation, after_tool=after_tool)
        else:
            said = action if prompts.actions == "calls" else action_text(action)
            ids += chat.past_turn(said, observation, after_tool=after_tool)
        after_tool = bool(calls)
    return ids + chat.ask(prompts.question.format(action=transition.action), after_tool=after_tool)


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


def ask(
    lm: LanguageModel,
    sampler: Sampler,
    prompts: Prompts,
    transitions: Sequence[Transition],
    num_samples: int,
    params: SamplingParams,
    generator: torch.Generator,
) -> list[list[Answer]]:
    """Sample answers, [num_transitions][num_samples]. Transitions of one episode should stand together."""
    questions = [question_ids(lm.chat, prompts, transition) for transition in transitions]
    sampled = sampler.sample(questions, num_samples, params, generator)
    answers = []
    for group in sampled:
        texts = [lm.chat.decode(completion.ids) for completion in group]
        answers.append(
            [
                Answer(c.ids, text, parse_next_state(lm.chat.message_of(text), c.truncated), c.truncated)
                for c, text in zip(group, texts, strict=True)
            ]
        )
    return answers
