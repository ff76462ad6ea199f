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
        # A question that is too long is counted and not written out: it may be a hundred times as long as the context.
        lengths = list(map(QuestionLengths(self.lm.chat, self.prompts).of, queries))
        fits = [length + self.params.max_new_tokens <= self.max_context for length in lengths]
        asked = [query for query, fit in zip(queries, fits, strict=True) if fit]
        groups: list[list[Completion]] = []
        for start in range(0, len(asked), self.in_flight):
            part = [question_ids(self.lm.chat, self.prompts, query) for query in asked[start : start + self.in_flight]]
            groups += self.sampler.sample(part, num_samples, self.params, generator)
        group_of = iter(groups)
        return [
            [self._read(query, length, completion) for completion in next(group_of)]
            if fit
            else [PredictedState(query.id, "", None, reason=CONTEXT, prompt_tokens=length)] * num_samples
            for query, length, fit in zip(queries, lengths, fits, strict=True)
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
    ids, after_tool = chat.opening(prompts.world_model, query.opening), False
    for action, observation in zip(query.history[::2], query.history[1::2], strict=True):
        turn, after_tool = _turn(chat, prompts, action, observation, after_tool=after_tool)
        ids += turn
    return ids + _asked(chat, prompts, query.action, after_tool=after_tool)


def _turn(
    chat: ChatFormat, prompts: Prompts, action: str, observation: str, *, after_tool: bool
) -> tuple[list[int], bool]:
    """Ids of one exchange of the history, and whether it was of tool calls."""
    calls = calls_of(action) if prompts.actions == "calls" else ()
    if calls:
        return chat.past_calls(calls, observation, after_tool=after_tool), True
    message = action if prompts.actions == "calls" else action_text(action)
    return chat.past_turn(message, observation, after_tool=after_tool), False


def _asked(chat: ChatFormat, prompts: Prompts, action: str, *, after_tool: bool) -> list[int]:
    return chat.ask(prompts.question.format(action=action), after_tool=after_tool)


class QuestionLengths:
    """Lengths of questions, for which each exchange of an episode is tokenised once, and not once a question."""

    def __init__(self, chat: ChatFormat, prompts: Prompts) -> None:
        self._chat, self._prompts = chat, prompts
        self._turns: dict[tuple[str, str, bool], tuple[int, bool]] = {}

    def of(self, query: Query | Transition, limit: int | None = None) -> int:
        """How many ids `question_ids` gives; what follows once the count has passed `limit` is not counted."""
        length, after_tool = len(self._chat.opening(self._prompts.world_model, query.opening)), False
        for action, observation in zip(query.history[::2], query.history[1::2], strict=True):
            if limit is not None and length > limit:
                return length
            turn, after_tool = self._turn(action, observation, after_tool=after_tool)
            length += turn
        return length + len(_asked(self._chat, self._prompts, query.action, after_tool=after_tool))

    def _turn(self, action: str, observation: str, *, after_tool: bool) -> tuple[int, bool]:
        key = (action, observation, after_tool)
        if key not in self._turns:
            ids, calls = _turn(self._chat, self._prompts, action, observation, after_tool=after_tool)
            self._turns[key] = len(ids), calls
        return self._turns[key]


def label_ids(chat: ChatFormat, transition: Transition) -> list[int]:
    """The WM SFT label: empty think, the real next state, the closing of the message (as in RWML)."""
    return chat.text(chat.completion_of(next_state_text(transition.next_state))) + chat.to_user[:1]


def too_long(
    chat: ChatFormat, prompts: Prompts, transitions: Iterable[Transition], max_new_tokens: int, max_context: int
) -> frozenset[str]:
    """Ids of the transitions that do not fit in `max_context` tokens, with their label or the longest answer.

    No text is tokenised after a question has passed the limit: what an episode of any length costs is linear.
    """
    lengths, long = QuestionLengths(chat, prompts), set()
    for row in transitions:
        room = max_context - lengths.of(row, max_context - max_new_tokens)
        if room < max_new_tokens or room < len(label_ids(chat, row)):
            long.add(row.id)
    return frozenset(long)
