"""Chat templates as token pieces, so that the history at step t is an exact token prefix of the history at t+1.

Texts are tokenised piece by piece and never again: a template is rendered once around placeholders, and cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rwml.core.errors import RwmlError

_MARKS = ("RwmlFirstUser", "RwmlAssistant", "RwmlSecondUser")


class ChatFormat:
    """The pieces of a tokenizer's chat template around its messages.

    user_open: ids before the first user message (begin-of-text and default system message included).
    to_assistant: ids that close a user message and open the assistant's (the generation prompt).
    to_user: ids that close an assistant message and open the next user's; its head is the stop token.
    stop_ids: ids that end an assistant message.

    Raises RwmlError where the tokenizer has no chat template, or one that rewrites messages.
    """

    def __init__(self, tokenizer: Any, source: str = "the model") -> None:
        self.tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise RwmlError(
                f"{source} has no chat template",
                "policies and world models are asked through chat turns, and these must be the ones it was trained on",
                "use an instruction-tuned checkpoint, or put a chat_template.jinja into its folder",
            )
        head, to_assistant, to_user, generation = _pieces(tokenizer, source)
        self.user_open = self.text(head)
        # A template may open a thinking block in the generation prompt only; that is what the model answers to.
        self.to_assistant = self.text(generation)
        self.history_to_assistant = self.text(to_assistant)
        self.to_user = self.text(to_user)
        self.stop_ids = self._stop_ids()

    def _stop_ids(self) -> frozenset[int]:
        ids = {self.to_user[0]} if self.to_user else set()
        if self.tokenizer.eos_token_id is not None:
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    def text(self, text: str) -> list[int]:
        """Tokenise a piece on its own, with no special tokens added around it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, without the stop token; tags that are special tokens are kept."""
        kept = [i for i in ids if i not in self.stop_ids]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def opening(self, instruction: str, opening: str) -> list[int]:
        """Ids up to and including the first observation, with its message still open."""
        return self.user_open + self.text(f"{instruction}\n\n{opening}" if instruction else opening)

    def turn_after(self, sampled: Sequence[int], observation: str) -> list[int]:
        """Ids that follow a sampled assistant message: its closing (if not sampled), the observation, message open."""
        closed = bool(sampled) and bool(self.to_user) and sampled[-1] == self.to_user[0]
        return (self.to_user[1:] if closed else self.to_user) + self.text(observation)

    def told_turn(self, assistant: str, observation: str) -> list[int]:
        """Ids of one past exchange that was not sampled here: assistant message, then the observation, open."""
        return self.history_to_assistant + self.text(assistant) + self.to_user + self.text(observation)

    def ask(self, question: str = "") -> list[int]:
        """Ids that end the open user message (after an optional question) and let the assistant answer."""
        return self.text(question) + self.to_assistant


def _pieces(tokenizer: Any, source: str) -> list[str]:
    """What the template writes before, between and after three messages."""
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, _MARKS, strict=True)]
    try:
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # whatever a template raises, or the engine that reads it
        raise RwmlError(
            f"the chat template of {source} cannot be rendered: {error}",
            "models are asked in turns of user, assistant, user, and so on, without a system message",
            "use a template that takes such conversations",
        ) from None
    places = [rendered.find(mark) for mark in _MARKS]
    if any(rendered.count(mark) != 1 for mark in _MARKS) or places != sorted(places):
        raise RwmlError(
            f"the chat template of {source} does not write each message exactly once, and in their order",
            "trees share a history only where a longer conversation begins with the shorter one",
            "use a template that renders messages one after another",
        )
    pieces = []
    for mark in _MARKS:
        piece, rendered = rendered.split(mark)
        pieces.append(piece)
    return [*pieces, rendered]
