"""A language model as a world model: questions in its chat format, sampled answers, parsed next states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rwml.core.prompts import parse_next_state
from rwml.core.types import PredictedState, Query
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Completion, Sampler, SamplingParams
from rwml.world_models.questions import question_ids
from rwml.world_models.world_model import CONTEXT, UNPARSED, Materials, WorldModel, lacks, register
from rwml.worlds.base import Prompts


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
