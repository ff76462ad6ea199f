"""Asking a language model for the next state (RWML, step 4 and its prompts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rwml.core.prompts import action_text, next_state_text, parse_next_state
from rwml.core.types import Transition
from rwml.models.hf import Mind
from rwml.models.sampler import Sampler, SamplingParams
from rwml.worlds.base import Prompts


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer. ids: with the stop token; next_state: None where tags are missing or malformed."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    next_state: str | None
    truncated: bool


def question_ids(mind: Mind, prompts: Prompts, transition: Transition) -> list[int]:
    """Prompt ids: opening and history as the trunk, then the question about the action.

    The trunk of step t is an exact token prefix of the trunk of step t+1 of the same episode (unless a history
    window cuts it), so that trees share it.
    """
    chat = mind.chat
    ids = chat.opening(prompts.world_model, transition.opening)
    history = transition.history
    for action, observation in zip(history[::2], history[1::2], strict=True):
        ids += chat.told_turn(action_text(action), observation)
    return ids + chat.ask(prompts.question.format(action=transition.action))


def label_ids(mind: Mind, transition: Transition) -> list[int]:
    """The WM SFT label: empty think, the real next state, the closing of the message (as in RWML)."""
    return mind.chat.text(next_state_text(transition.next_state)) + mind.chat.to_user[:1]


def ask(
    mind: Mind,
    sampler: Sampler,
    prompts: Prompts,
    transitions: Sequence[Transition],
    num_samples: int,
    params: SamplingParams,
    generator: torch.Generator,
) -> list[list[Answer]]:
    """Sample answers, [num_transitions][num_samples]. Transitions of one episode should stand together."""
    questions = [question_ids(mind, prompts, transition) for transition in transitions]
    sampled = sampler.sample(questions, num_samples, params, generator)
    answers = []
    for group in sampled:
        texts = [mind.chat.decode(completion.ids) for completion in group]
        answers.append(
            [
                Answer(c.ids, c.logprobs, text, parse_next_state(text), c.truncated)
                for c, text in zip(group, texts, strict=True)
            ]
        )
    return answers
