"""What a chat template writes around tools, tool calls and tool responses, learnt by rendering it around placeholders.

A template that does not know tools, or whose calls `core/tool_calls.py` cannot read back, gets plain text instead:
calls in `<tool_call>` tags, and responses as user messages in `<tool_response>` tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rwml.core.tool_calls import ToolCall, call_text, calls_of, parse_message

_USER, _FIRST, _SECOND, _ASSISTANT, _LAST = (
    "RwmlUser",
    "RwmlFirstResponse",
    "RwmlSecondResponse",
    "RwmlAssistant",
    "RwmlLastUser",
)
_PROBE = ToolCall("rwml_probe", {"rwml_text": "RwmlValue"})
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE.name,
        "description": "RwmlDescription",
        "parameters": {
            "type": "object",
            "properties": {"rwml_text": {"type": "string", "description": "RwmlText"}},
            "required": ["rwml_text"],
        },
    },
}
# What templates that escape responses, or write them as JSON, would change.
_DELICATE = '{"rwml": "Naïve \\"x\\" <b> 10%"}\nsecond line'
_RESPONSE_OPEN, _RESPONSE_CLOSE = "<tool_response>\n", "\n</tool_response>"


@dataclass(frozen=True, slots=True)
class Turns:
    """A template's pieces between plain messages, as text.

    generation: closes a user message and lets the model write. to_assistant: the same for an assistant's message of the
    past. to_user: closes an assistant message and opens the next user's. stop: the text of the token that ends an
    assistant message, "" if no single token does.
    """

    to_assistant: str
    to_user: str
    generation: str
    stop: str


@dataclass(frozen=True, slots=True)
class CallPieces:
    """What is written from the end of an open message to the response of some calls.

    after_user, after_tool: by what the open message is, with the calls themselves. opening: from the stop token of a
    message that the model wrote.
    """

    after_user: str
    after_tool: str
    opening: str


class ToolFormat:
    """The pieces of a template around tool calls and responses, as text.

    native: the template renders tools, calls and responses itself.
    generation, to_assistant: as in `Turns`, from an open tool response.
    to_question: closes a tool response and opens a user message; without native tools the response is a user message,
    which stays open.
    """

    def __init__(self, tokenizer: Any, turns: Turns) -> None:
        self._tokenizer = tokenizer
        self._turns = turns
        self._text_arguments = False
        self._verbatim = True
        # Histories are written again at each of their steps: what the template has written once is kept.
        self._written_calls = lru_cache(maxsize=4096)(lambda calls: self._pieces_around(calls_of(calls)))
        self._written_responses = lru_cache(maxsize=4096)(self._after_call)
        self.native = bool(turns.stop) and self._learn()
        if not self.native:
            self.generation = _RESPONSE_CLOSE + turns.generation
            self.to_assistant = _RESPONSE_CLOSE + turns.to_assistant
            self.to_question = _RESPONSE_CLOSE
            self._probe_opening = turns.to_user + _RESPONSE_OPEN

    def head(self, tools: Sequence[dict[str, Any]]) -> str | None:
        """The text before the first user message, with these tools; None if the template does not render them."""
        rendered = self._render([_user(_USER)], tools)
        if rendered is None or rendered.count(_USER) != 1:
            return None
        head = rendered.partition(_USER)[0]
        return head if all(_name(tool) in head for tool in tools) else None

    def calls(self, calls: Sequence[ToolCall]) -> CallPieces:
        """Pieces around some calls; those that the template does not write are put in `<tool_call>` tags."""
        text = call_text(calls)
        rendered = self._written_calls(text) if self.native else None
        if rendered is not None:
            before, between, _ = rendered
            return CallPieces(before, between, before[before.rindex(self._turns.stop) :])
        tagged, opening = _tagged(text), self._probe_opening
        return CallPieces(self._turns.to_assistant + tagged + opening, self.to_assistant + tagged + opening, opening)

    def message(self, calls: Sequence[ToolCall]) -> str:
        """The text of a message that makes these calls, without what opens and closes it."""
        pieces = self.calls(calls)
        written = pieces.after_user.removesuffix(pieces.opening)
        heads = sorted((self._turns.generation, self._turns.to_assistant), key=len, reverse=True)
        head = next((head for head in heads if written.startswith(head)), None)
        return _tagged(call_text(calls)) if head is None else written.removeprefix(head)

    def response(self, observation: str) -> str:
        """A response as the template writes it, which may be escaped."""
        if self._verbatim:
            return observation
        written = self._written_responses(observation)
        return observation if written is None else written

    def _learn(self) -> bool:
        """Find the pieces around calls and responses; whether the template has them all."""
        without = self._render([_user(_USER)], None)
        if self.head([_PROBE_TOOL]) is None or without is None or _PROBE.name in without:
            return False
        pieces = self._probe_pieces()
        talk = [_user(_USER), *self._exchange([_PROBE], _FIRST)]
        closed, asked, user_open = self._render(talk), self._render(talk, generation=True), self._user_open()
        if pieces is None or closed is None or asked is None or user_open is None:
            return False
        if closed.count(_FIRST) != 1 or asked.count(_FIRST) != 1:
            return False
        self._before, _, self._close = closed.partition(_FIRST)
        self.generation = asked.partition(_FIRST)[2]
        self.to_assistant = pieces[2]
        self.to_question = self._close + user_open
        self._probe_opening = pieces[0][pieces[0].rindex(self._turns.stop) :]
        self._verbatim = self._after_call(_DELICATE) == _DELICATE
        return True

    def _probe_pieces(self) -> tuple[str, str, str] | None:
        """Pieces around the probe's call, in the first form of arguments that can be read back."""
        for self._text_arguments in (False, True):
            pieces = self._pieces_around([_PROBE])
            if pieces is not None and self._read_back(pieces[0]) == (_PROBE,):
                return pieces
        return None

    def _user_open(self) -> str | None:
        """What opens a user message after a closed one."""
        closed = self._render([_user(_USER), {"role": "assistant", "content": _ASSISTANT}])
        if closed is None or not self._turns.to_user.startswith(closing := closed.rpartition(_ASSISTANT)[2]):
            return None
        return self._turns.to_user.removeprefix(closing)

    def _pieces_around(self, calls: Sequence[ToolCall]) -> tuple[str, str, str] | None:
        """What is written from user to response, from response to response, and from there to a plain answer.

        A later user message follows, because some templates write past turns otherwise than the present one.
        """
        first, second = self._exchange(calls, _FIRST), self._exchange(calls, _SECOND)
        end = [{"role": "assistant", "content": _ASSISTANT}, _user(_LAST)]
        rendered = self._render([_user(_USER), *first, *second, *end])
        pieces = _between(rendered, (_USER, _FIRST, _SECOND, _ASSISTANT)) if rendered else None
        names = [call.name for call in calls]
        if pieces is None or any([c.name for c in self._read_back(piece)] != names for piece in pieces[:2]):
            return None
        return pieces[0], pieces[1], pieces[2]

    def _read_back(self, piece: str) -> tuple[ToolCall, ...]:
        """The calls of a piece, read from the text before the stop token that closes them."""
        return calls_of(parse_message(piece[: max(piece.rfind(self._turns.stop), 0)]) or "")

    def _after_call(self, observation: str) -> str | None:
        """What the template makes of a response."""
        rendered = self._render([_user(_USER), *self._exchange([_PROBE], observation)])
        if rendered is None or len(rendered) < len(self._before) + len(self._close):
            return None
        if not rendered.startswith(self._before) or not rendered.endswith(self._close):
            return None
        return rendered[len(self._before) : len(rendered) - len(self._close)]

    def _exchange(self, calls: Sequence[ToolCall], response: str) -> list[dict[str, Any]]:
        """An assistant message with calls, and their one response. Ids have nine characters, as Mistral's must."""
        written = [
            {
                "id": f"rwml{number:05d}",
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.arguments, ensure_ascii=False)
                    if self._text_arguments
                    else call.arguments,
                },
            }
            for number, call in enumerate(calls)
        ]
        return [
            {"role": "assistant", "content": "", "tool_calls": written},
            {"role": "tool", "content": response, "tool_call_id": "rwml00000", "name": calls[0].name},
        ]

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = (_PROBE_TOOL,),
        *,
        generation: bool = False,
    ) -> str | None:
        """The rendered conversation, None where the template raises: it may take some conversations and not others."""
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tools=list(tools) if tools else None, tokenize=False, add_generation_prompt=generation
                )
            )
        except Exception:  # whatever a template raises, or the engine that reads it
            return None


def read_tools(text: str) -> list[dict[str, Any]] | None:
    """Schemas of tools in OpenAI's form, one JSON object per line; None if a line holds anything else."""
    tools = []
    for line in text.split("\n"):
        try:
            tool = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if isinstance(tool, dict) and "function" not in tool:
            tool = {"type": "function", "function": tool}
        if not isinstance(tool, dict) or not isinstance(tool["function"], dict) or not _name(tool):
            return None
        tools.append(tool)
    return tools


def _tagged(text: str) -> str:
    """Calls, one a line, in tags that nearly every model with tools has seen."""
    return "\n".join(f"<tool_call>\n{line}\n</tool_call>" for line in text.split("\n"))


def _name(tool: dict[str, Any]) -> str:
    return str(tool["function"].get("name", ""))


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _between(text: str, marks: Sequence[str]) -> list[str] | None:
    """The texts between the marks; None unless each mark occurs once, in this order."""
    places = [text.find(mark) for mark in marks]
    if any(text.count(mark) != 1 for mark in marks) or places != sorted(places):
        return None
    return [
        text[place + len(mark) : after] for mark, place, after in zip(marks[:-1], places[:-1], places[1:], strict=True)
    ]
