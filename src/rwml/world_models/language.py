"""A language model as a world model: questions in its chat format, sampled answers, parsed next states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from rwml.core.prompts import action_text, next_state_text, parse_next_state
from rwml.core.tool_calls import calls_of
from rwml.core.types import PredictedState, Query, Transition
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Completion, Sampler, SamplingParams
from rwml.world_models.world_model import CONTEXT, UNPARSED, Materials, WorldModel, lacks, register
from rwml.worlds.base import Prompts

TOO_LONG = "longer than model.max_context_tokens"  # the reason in a transition that is left out


@register("language")
@dataclass(frozen=True, slots=True)
class LanguageWorldModel:
    """A language model that is asked for next states (RWML, step 4 and its prompts).

    prompts: the world's words. max_context: tokens of question and answer together; a longer question has no answer.
    in_flight: queries that are sampled at a time.
    """

    lm: LanguageModel
    sampler: Sampler
    prompts: Prompts
    params: SamplingParams
    max_context: int
    in_flight: int = 128
    name: str = "language"

    @classmethod
    def make(cls, materials: Materials) -> WorldModel:
        """The language model of the materials."""
        if materials.language is None:
            raise lacks("language", "a language model", "name one in the section [model]")
        return materials.language()

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`."""
        questions = [question_ids(self.lm.chat, self.prompts, query) for query in queries]
        fits = [len(question) + self.params.max_new_tokens <= self.max_context for question in questions]
        asked = [question for question, fit in zip(questions, fits, strict=True) if fit]
        groups: list[list[Completion]] = []
        for start in range(0, len(asked), self.in_flight):
            part = asked[start : start + self.in_flight]
            groups += self.sampler.sample(part, num_samples, self.params, generator)
        group_of = iter(groups)
        return [
            [self._read(query, len(question), completion) for completion in next(group_of)]
            if fit
            else [PredictedState(query.id, "", None, reason=CONTEXT, prompt_tokens=len(question))] * num_samples
            for query, question, fit in zip(queries, questions, fits, strict=True)
        ]

    def _read(self, query: Query, prompt_tokens: int, completion: Completion) -> PredictedState:
        text = self.lm.chat.decode(completion.ids)
        next_state = parse_next_state(self.lm.chat.message_of(text), truncated=completion.truncated)
        return PredictedState(
            transition=query.id,
            text=text,
            next_state=next_state,
            truncated=completion.truncated,
            reason="" if next_state is not None else UNPARSED,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(completion.ids),
            ids=completion.ids,
        )


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
