"""Tool calls: how a model writes them, how they are read back, and the one text in which they are kept.

An agent's message is either tool calls or a message to the user. Kept calls have one line each,
`{"name": ..., "arguments": {...}}`; everything else is a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rwml.core.call_forms import pythonic
from rwml.core.call_forms.call_values import (
    CALL_JSON,
    ToolCall,
    UnreadableCallError,
    call_of,
    object_of,
    tagged_parameters,
)
from rwml.core.text import nested_too_deep

__all__ = ["Spoken", "ToolCall", "call_text", "calls_of", "parse_message", "read_message"]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A model's text, taken apart. message: the words without thoughts and marks; those beside `calls` too."""

    message: str
    calls: tuple[ToolCall, ...]
    thoughts: str


def call_text(calls: Sequence[ToolCall]) -> str:
    """Canonical text, one line per call. Raises ValueError or TypeError where an argument is not a JSON value."""
    return "\n".join(
        json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False, allow_nan=False)
        for call in calls
    )


def calls_of(action: str) -> tuple[ToolCall, ...]:
    """The calls of a canonical text, the inverse of `call_text`; () for a message, or if any line is not a call."""
    calls = []
    for line in action.split("\n"):
        if not line.startswith('{"name": "'):
            return ()
        try:
            fields = json.loads(line)
            call = ToolCall(fields["name"], fields["arguments"])
            if not isinstance(call.arguments, dict) or nested_too_deep(call.arguments) or call_text([call]) != line:
                return ()
        except (ValueError, KeyError, RecursionError):
            return ()
        calls.append(call)
    return tuple(calls)


def parse_message(text: str) -> str | None:
    """Canonical action of a model's text: its calls, or else its message; None if neither can be read.

    Thinking is left out: `<think>...</think>`, and all before a lone `</think>` (likewise `<thinking>`, `<thought>`,
    `[THINK]` and the marks of Cohere, Kimi and Seed). Calls are read in the marks of Hermes, Qwen, Mistral, Llama, GLM,
    DeepSeek, Kimi, gpt-oss, Gemma, LFM2, Phi, Granite, Cohere and MiniMax; as a list of Python's calls, and as JSON
    without a mark (with both a name and arguments), that begin a line or a code fence. Calls win over the text around
    them. A mark that no whole call follows, a mark of a form that is not known, or a list that is not all calls, makes
    the message unreadable: a part of the calls is never executed.
    """
    spoken = read_message(text)
    if spoken is None:
        return None
    return (call_text(spoken.calls) if spoken.calls else spoken.message) or None


def read_message(text: str) -> Spoken | None:
    """Message, calls and thoughts of a model's text (see `parse_message`); None if the calls cannot be read, or if a
    thought is not closed. The time is linear in the length of the text."""
    try:
        spoken = _Reader(text).read()
        # A JSON escape can smuggle in half a surrogate pair, which no file or tokenizer takes.
        f"{call_text(spoken.calls)}{spoken.message}{spoken.thoughts}".encode()
    except (UnreadableCallError, ValueError, RecursionError):
        return None
    return spoken


# What opens a thought, and what closes it.
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
}
# What only frames words to the user.
_FRAMES = ("<|START_RESPONSE|>", "<|END_RESPONSE|>")
# What opens calls, and what closes them; the end of the text may replace the closing. Token texts come with a wide bar
# and a low line of their own (DeepSeek), and with the plain ones.
_XML_CALLS = r"(?:\w{1,20}:|｜DSML｜)?(?:tool_calls|function_calls?|tool_call)>"
_BRACKETS = (
    (r"<tool_call>", r"</tool_call>"),
    (r"<\|tool_call\|>", r"<\|/tool_call\|>"),
    (r"<\|tool_call_start\|>", r"<\|tool_call_end\|>"),
    (r"<[|｜]tool[_▁]calls[_▁](?:section[_▁])?begin[|｜]>", r"<[|｜]tool[_▁]calls[_▁](?:section[_▁])?end[|｜]>"),
    (r"<[|｜]tool[_▁]call[_▁]begin[|｜]>", r"<[|｜]tool[_▁]call[_▁]end[|｜]>"),
    (r"<\|START_ACTION\|>", r"<\|END_ACTION\|>"),
    (r"<\|action_start\|>\s*+<\|plugin\|>", r"<\|action_end\|>"),
    (r"<TOOLCALL>", r"</TOOLCALL>"),
    (r"<functioncall>", r"</functioncall>"),
    (rf"<{_XML_CALLS}", rf"</{_XML_CALLS}"),
    (r"```tool_code\b", r"```"),
)
_CLOSINGS = tuple(re.compile(rf"\s*+(?:{closing})") for _, closing in _BRACKETS)
_PLAIN, _TOOL_CODE = 0, len(_BRACKETS) - 1  # the bracket `<tool_call>`, in which words in round brackets are not a call
# Anything else that only a call, or the answer to one, is marked with.
_STRAY = (
    r"</?(?:\w{1,20}[:_]|｜DSML｜)?(?:(?:tool|function)[_▁]?calls?|tool_code)(?![a-z])[^<>\n]{0,60}>"
    r"|<parameter=|</function>|</parameter>|</?TOOLCALL>|^>>>[\w.]{1,80}\n(?=\{)|^Action Input:"
    r"|<[|｜]/?(?:tool|function|action|plugin|python|call|channel|constrain|message|START_ACTION|END_ACTION)"
    r"[^<>\n|｜]{0,60}[|｜]>"
)
_HARMONY = (
    r"(?:<\|start\|>[^<\n]{0,200})?<\|channel\|>[^<]{0,200}(?:<\|constrain\|>[^<]{0,60})?<\|message\|>"
)
_MARKS = re.compile(
    "|".join(
        (
            rf"(?P<thought>{'|'.join(map(re.escape, _THOUGHTS))})",
            rf"(?P<frame>{'|'.join(map(re.escape, _FRAMES))})",
            r"(?P<function><function=)",
            r"(?P<invoke><(?:｜DSML｜)?invoke name=)",
            r"(?P<mistral>\[TOOL_CALLS\])",
            r"(?P<python><\|python_tag\|>)",
            rf"(?P<harmony>{_HARMONY})",
            *(rf"(?P<bracket{number}>{opening})" for number, (opening, _) in enumerate(_BRACKETS)),
            rf"(?P<stray>{_STRAY})",
            r"(?P<unmarked>^[ \t]*+(?:```\w*+\s*+)?(?=\{|\[(?!TOOL_CALLS\])))",
        )
    ),
    re.MULTILINE,
)
_FUNCTION_END = "</function>"
_INVOKE = re.compile(r"<((?:｜DSML｜)?)invoke name=\"([^<>\"\n]{1,200})\"\s*+>")
_DSML_TYPE = re.compile(r"\" string=\"(?:true|false)\">")
_MISTRAL_NAME = re.compile(r"\s*+([\w.\-]++)\s*+(?:\[CALL_ID\][^\[]*+)?(?:\[ARGS\]\s*+)?(?=\{)")
_NAMED = re.compile(
    r"\s*+([\w.\-:/]++)\s*+(<[|｜]tool[_▁]sep[|｜]>|<\|tool_call_argument_begin\|>|(?=<arg_key>|</tool_call>))"
)
_FENCED = re.compile(r"\s*+([\w.\-]++)\s*+```(?:json)?\s*+(?=\{)")
_GLM_MIDDLE = re.compile(r"</arg_key>\s++<arg_value>")
_KIMI_NAME = re.compile(r"(?:functions\.)?([^:]++)(?::\d+)?")
_RECIPIENT = re.compile(r"\bto=([\w.\-]++)")
_HARMONY_END = re.compile(r"<\|(?:end|call|return|start|channel)\|>")
_BEGINS_AS_CALL = re.compile(
    r'\s*+(?:\[\s*+)?\{\s*+"(?:(?:tool_)?name|arguments|parameters|function|type"\s*+:\s*+"function)"'
)
_WORK = 20
"""JSON that is broken is read again from its next line. All such readings together go over a text this often."""


class _Reader:
    """Reads a text from left to right; what a call or a thought takes up is not searched for marks again."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.work = text, 0, _WORK * len(text) + 10_000
        self.thoughts: list[str] = []
        self.message_parts: list[str] = []
        self.calls: list[ToolCall] = []

    def read(self) -> Spoken:
        """The whole text."""
        if calls := calls_of(self.text):  # the words in its strings are not marks
            return Spoken("", calls, "")
        self._leave_opened_thought()
        while match := _MARKS.search(self.text, self.at):
            self.message_parts.append(self.text[self.at : match.start()])
            start, self.at = self.at, match.end()
            self._read(match)
            assert self.at > start
        message = "".join([*self.message_parts, self.text[self.at :]]).strip()
        return Spoken(message, tuple(self.calls), "\n".join(part for part in self.thoughts if part))

    def _leave_opened_thought(self) -> None:
        """All before a closing without an opening is a thought: the prompt opened it."""
        for opening, closing in _THOUGHTS.items():
            before, close, after = self.text.partition(closing)
            if close and opening not in before:
                self.thoughts.append(before.strip())
                self.text = after

    def _read(self, match: re.Match[str]) -> None:
        kind = str(match.lastgroup)
        if kind == "thought":
            self.thoughts.append(self._until(_THOUGHTS[match.group()]))
        elif kind.startswith("bracket"):
            self._bracket(int(kind.removeprefix("bracket")))
        elif kind in ("function", "invoke"):
            self.at = match.start()
            self._tags()
        elif kind == "mistral":
            self._mistral()
        elif kind == "python":
            self._marked_values()
        elif kind == "harmony":
            self._harmony(match.group())
        elif kind == "unmarked":
            self._unmarked(match.start())
        elif kind != "frame":
            raise UnreadableCallError  # a closing without an opening, or a form that is not known

    def _until(self, closing: str) -> str:
        end = self.text.find(closing, self.at)
        if end < 0:
            raise UnreadableCallError
        inside, self.at = self.text[self.at : end], end + len(closing)
        return inside.strip()

    def _skip_space(self) -> str:
        """Move to the next character that is not white space and return it; "" at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _value(self) -> Any:
        self._skip_space()
        value, self.at = CALL_JSON.raw_decode(self.text, self.at)
        return value

    def _bracket(self, number: int) -> None:
        """The calls between an opening and its closing, which the end of the text may replace."""
        made = len(self.calls)
        while not (closing := _CLOSINGS[number].match(self.text, self.at)):
            if not self._skip_space():
                break
            self._inside(number, first=len(self.calls) == made)
        self.at = closing.end() if closing else self.at
        if len(self.calls) == made:
            raise UnreadableCallError

    def _inside(self, number: int, *, first: bool) -> None:
        """One part of what a bracket holds: JSON, tags, a name with its arguments, or another bracket."""
        mark = _MARKS.match(self.text, self.at)
        kind = str(mark.lastgroup) if mark else ""
        if pythonic.BEGINS.match(self.text, self.at):
            self._pythonic()
        elif self.text.startswith(("{", "["), self.at):
            self._add_marked(self._value())
            while self.text.startswith((";", ","), self.at):
                self.at += 1
        elif kind in ("function", "invoke"):
            self._tags()
        elif mark and kind.startswith("bracket") and kind != f"bracket{number}" and (first or number != _PLAIN):
            self.at = mark.end()
            self._bracket(int(kind.removeprefix("bracket")))
        elif named := _NAMED.match(self.text, self.at):
            self._named(named)
        elif number == _PLAIN:
            raise UnreadableCallError
        else:
            self._pythonic()

    def _pythonic(self) -> None:
        calls, self.at = pythonic.calls_at(self.text, self.at)
        self.calls += calls

    def _named(self, named: re.Match[str]) -> None:
        """A name, then its arguments: JSON (DeepSeek, Kimi), JSON in a fence (DeepSeek V3), or tags (GLM)."""
        self.at = named.end()
        name = _KIMI_NAME.fullmatch(named.group(1))
        if name is None:
            raise UnreadableCallError
        if not named.group(2):
            end = self.text.find("</tool_call>", self.at)
            end = len(self.text) if end < 0 else end
            body = _GLM_MIDDLE.sub("</arg_key><arg_value>", self.text[self.at : end])
            given = tagged_parameters(body, "<arg_key>", "</arg_key><arg_value>", "</arg_value>")
            self.calls.append(ToolCall(name.group(1), given))
            self.at = end
            return
        fenced = _FENCED.match(self.text, self.at) if name.group(1) == "function" else None
        if fenced:
            self.at = fenced.end()
        self._add_marked({"name": fenced.group(1) if fenced else name.group(1), "arguments": self._value()})
        if fenced:
            self._until("```")

    def _tags(self) -> None:
        """`<function=NAME>` or `<invoke name="NAME">`, with parameters in tags or one JSON object."""
        if invoked := _INVOKE.match(self.text, self.at):
            family, name = invoked.groups()
            self.at = invoked.end()
            body = _DSML_TYPE.sub('">', self._until(f"</{family}invoke>"))
            given = tagged_parameters(body, f'<{family}parameter name="', '">', f"</{family}parameter>")
        else:
            self.at += len("<function=")
            name = self._until(">")
            body = self._until(_FUNCTION_END)
            if body.startswith("{"):
                given = object_of(body)
            else:
                given = tagged_parameters(body, "<parameter=", ">", "</parameter>")
        if not name.strip() or any(mark in name for mark in "<>\n"):
            raise UnreadableCallError
        self.calls.append(ToolCall(name.strip(), given))

    def _mistral(self) -> None:
        match = _MISTRAL_NAME.match(self.text, self.at)
        if match:
            self.at = match.end()
            self._add_marked({"name": match.group(1), "arguments": self._value()})
        else:
            self._marked_values()

    def _harmony(self, header: str) -> None:
        """A message of gpt-oss, whose header names its channel and, for a call, the tool that receives it."""
        ending = _HARMONY_END.search(self.text, self.at)
        end, recipient = ending.start() if ending else len(self.text), _RECIPIENT.search(header)
        body = self.text[self.at : end].strip()
        if recipient:
            self.calls.append(ToolCall(recipient.group(1).removeprefix("functions."), object_of(body)))
        elif "analysis" in header:
            self.thoughts.append(body)
        else:
            self.message_parts.append(body)
        again = ending is None or ending.group() in ("<|start|>", "<|channel|>")
        self.at = end if ending is None or again else ending.end()

    def _marked_values(self) -> None:
        """One or more JSON values after a mark that nothing closes."""
        self._add_marked(self._value())
        while self._next() == "value":
            self._add_marked(self._value())
        if self._next() == "rest":
            raise UnreadableCallError

    def _next(self) -> Literal["value", "rest", "text"]:
        """What follows a JSON value: another value, a rest (the value was incomplete), or text (or nothing)."""
        at = self.at
        while at < len(self.text) and (self.text[at].isspace() or self.text[at] == ";"):
            at += 1
        if self.text.startswith(("{", "["), at) and not self.text.startswith("[TOOL_CALLS]", at):
            self.at = at
            return "value"
        return "rest" if self.text.startswith(tuple('}],:"'), at) else "text"

    def _add_marked(self, value: Any) -> None:
        calls = [call_of(item, marked=True) for item in _items(value)]
        if not calls or None in calls:
            raise UnreadableCallError
        self.calls += [call for call in calls if call]

    def _unmarked(self, start: int) -> None:
        """JSON, or a list of Python's calls, at the head of a line: calls, or else a part of the message."""
        if pythonic.BEGINS.match(self.text, self.at):
            self._unmarked_pythonic(start)
            return
        calls: list[ToolCall | None] = []
        try:
            calls += [call_of(item, marked=False) for item in _items(self._value())]
            while self._next() == "value":
                calls += [call_of(item, marked=False) for item in _items(self._value())]
        except (ValueError, RecursionError) as error:
            if any(calls) or _BEGINS_AS_CALL.match(self.text, self.at):
                raise UnreadableCallError from None
            # The message of a JSON error counts the lines up to its place: cheap, but not for nothing.
            place = getattr(error, "pos", len(self.text))
            self.work -= place - self.at + place // 64
            if self.work < 0:
                raise UnreadableCallError from None
            self.at += 1
        read = [call for call in calls if call]
        if read and (len(read) < len(calls) or self._next() == "rest"):
            raise UnreadableCallError
        self.calls += read
        if not read:
            self.message_parts.append(self.text[start : self.at])

    def _unmarked_pythonic(self, start: int) -> None:
        sure = pythonic.SURELY_BEGINS.match(self.text, self.at)
        try:
            self._pythonic()
        except UnreadableCallError:
            if sure:
                raise
            self.at += 1
            self.message_parts.append(self.text[start : self.at])


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
