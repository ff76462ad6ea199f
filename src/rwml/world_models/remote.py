"""A chat model behind an OpenAI-compatible server as a world model: the same questions, sent as messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rwml.core.prompts import action_text, parse_next_state
from rwml.core.types import PredictedState, Query
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.server import ApiModel, ChatReply
from rwml.world_models.world_model import UNPARSED
from rwml.worlds.base import Prompts

if TYPE_CHECKING:
    import torch

FAILED = "the request failed"
"""Why there is no next state: the server gave no reply; its own words follow."""


@dataclass(frozen=True, slots=True)
class RemoteWorldModel:
    """A chat model that is asked for next states. The server draws by its own chance; the generator is not used.

    top_p and top_k of params do not reach the server.
    """

    model: ApiModel
    prompts: Prompts
    params: SamplingParams
    name: str = "remote"

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`. A failed request is an answer without a next state, with its reason."""
        conversations = [question_messages(self.prompts, query) for query in queries]
        replies = self.model.chat(conversations, self.params.temperature, self.params.max_new_tokens, num_samples)
        return [[_read(query, reply) for reply in group] for query, group in zip(queries, replies, strict=True)]


def question_messages(prompts: Prompts, query: Query) -> list[dict[str, str]]:
    """The question as chat messages: the opening, the history in turns, and the question in the last user's message."""
    opening = f"{prompts.world_model}\n\n{query.opening}" if prompts.world_model else query.opening
    contents = [opening]
    for action, observation in zip(query.history[::2], query.history[1::2], strict=True):
        contents += [action if prompts.actions == "calls" else action_text(action), observation]
    contents[-1] += prompts.question.format(action=query.action)
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]


def _read(query: Query, reply: ChatReply) -> PredictedState:
    next_state = None if reply.error else parse_next_state(reply.text, truncated=reply.truncated)
    failure = f"{FAILED}: {reply.error}" if reply.error else UNPARSED
    return PredictedState(
        transition=query.id,
        text=reply.text,
        next_state=next_state,
        truncated=reply.truncated,
        reason="" if next_state is not None else failure,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
