"""Chat templates as token pieces, so that the history at step t is an exact token prefix of the history at t+1.

Each text is tokenised once, piece by piece: a template is rendered around placeholders and cut at them. An open message
is a user's or a tool's response (`after_tool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.prompts import split_tools
from rwml.core.tool_calls import ToolCall
from rwml.models.chat_tools import ToolFormat, Turns, read_tools

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
        # The part of a message that the prompt already holds: a completion has only the end of such a thinking block.
        self.thought_open = "<think>" if generation.rstrip().endswith("<think>") else ""
        self._turns = Turns(to_assistant, to_user, generation, self._stop_text(to_user))
        # An opening with a policy may be long, and begins all questions about its episode.
        self._opening = lru_cache(maxsize=256)(self.text)
        self._piece = lru_cache(maxsize=4096)(self.text)
        self._head = lru_cache(maxsize=64)(self._head_with)

    def _stop_ids(self) -> frozenset[int]:
        ids = {self.to_user[0]} if self.to_user else set()
        if self.tokenizer.eos_token_id is not None:
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    def _stop_text(self, to_user: str) -> str:
        """Text of the token that ends an assistant message; "" if no single token does."""
        stop = self.tokenizer.convert_ids_to_tokens(self.to_user[0]) if self.to_user else ""
        known = {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}
        return str(stop) if stop in known and to_user.startswith(stop) else ""

    @cached_property
    def tools(self) -> ToolFormat:
        """Pieces around tool calls; learnt when a world with tools first asks for them."""
        return ToolFormat(self.tokenizer, self._turns)

    def text(self, text: str) -> list[int]:
        """Tokenise a piece on its own, with no special tokens added around it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, without the stop token; tags that are special tokens are kept."""
        kept = [i for i in ids if i not in self.stop_ids]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def message_of(self, completion: str) -> str:
        """The whole message that a completion ends, with the thinking block that the generation prompt opened."""
        return self.thought_open + completion

    def completion_of(self, message: str) -> str:
        """What is left to write of a message after the generation prompt, which may have opened its thinking block; a
        message without a thought then begins by closing it."""
        if not self.thought_open or message.startswith(self.thought_open):
            return message.removeprefix(self.thought_open)
        return message if "</think>" in message else "</think>" + message

    def _head_with(self, tools: str) -> list[int] | None:
        """Ids before the first user message where these tools are given; None where the template renders none."""
        schemas = read_tools(tools)
        head = self.tools.head(schemas) if schemas and self.tools.native else None
        return None if head is None else self.text(head)

    def opening(self, instruction: str, opening: str) -> list[int]:
        """Ids up to and including the first observation, with its message still open.

        Tools at the head of `opening` go to the template if it renders tools.
        """
        head = self.user_open
        tools, rest = split_tools(opening)
        with_tools = self._head(tools) if tools else None
        if with_tools is not None:
            head, opening = with_tools, rest
        return head + self._opening(f"{instruction}\n\n{opening}" if instruction else opening)

    def turn_after(self, sampled: Sequence[int], observation: str, calls: Sequence[ToolCall] = ()) -> list[int]:
        """Ids that follow a sampled assistant message: its closing (if not sampled), the observation, message open.

        calls: those that the message made and that the observation answers, () where a user does.
        """
        following = self._piece(self.tools.calls(calls).opening) if calls else self.to_user
        closed = bool(sampled) and bool(following) and sampled[-1] == following[0]
        shown = self.tools.response(observation) if calls else observation
        return (following[1:] if closed else following) + self.text(shown)

    def past_turn(self, assistant: str, observation: str, *, after_tool: bool = False) -> list[int]:
        """Ids of one past exchange that was not sampled here: assistant message, then the observation, open."""
        to_assistant = self._piece(self.tools.to_assistant) if after_tool else self.history_to_assistant
        return to_assistant + self.text(assistant) + self.to_user + self.text(observation)

    def past_calls(self, calls: Sequence[ToolCall], observation: str, *, after_tool: bool = False) -> list[int]:
        """Ids of one past exchange of tool calls and their response, with the response open."""
        pieces = self.tools.calls(calls)
        written = self._piece(pieces.after_tool if after_tool else pieces.after_user)
        return written + self.text(self.tools.response(observation))

    def ask(self, question: str = "", *, after_tool: bool = False) -> list[int]:
        """Ids that end the open message and let the assistant answer.

        A question goes into the open user message; after a tool's response it gets its own user message.
        """
        if not after_tool:
            return self.text(question) + self.to_assistant
        if not question:
            return list(self._piece(self.tools.generation))
        own = question.lstrip() if self.tools.native else question
        return self._piece(self.tools.to_question) + self.text(own) + self.to_assistant


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
