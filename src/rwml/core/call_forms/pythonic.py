"""Tool calls that are written as calls of Python (Llama, LFM2, Gemma). They are read, never run."""

from __future__ import annotations

import re
from typing import Any

from rwml.core.call_forms.call_values import ToolCall, UnreadableCallError
from rwml.core.text import MOST_NESTING

BEGINS = re.compile(r"\[\s*+[A-Za-z_][\w.\-]*+\(")
"""The head of a list of such calls; also of texts such as `[note(s)]`."""
SURELY_BEGINS = re.compile(r"\[\s*+[A-Za-z_][\w.\-]*+\(\s*+(?:\)|[A-Za-z_]\w*+\s*+=)")
"""The head of a list of calls that cannot be a text: a keyword, or no argument, after the bracket."""

_NAME = re.compile(r"[A-Za-z_][\w.\-]*+")
_WORD = re.compile(r"[A-Za-z_]\w*+")
_NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"' + r"|'(?:[^'\\]|\\.)*+'", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""} | {mark: mark for mark in "\\'\"/"}
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}


def calls_at(text: str, at: int) -> tuple[list[ToolCall], int]:
    """The calls that begin at `at`, as a list in brackets or one after another, and where they end.

    UnreadableCallError where they are not whole, or an argument has no name, or is an expression.
    """
    reader = _Reader(text, at)
    return reader.calls(), reader.at


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at

    def calls(self) -> list[ToolCall]:
        if self._takes("["):
            calls = [self._call()]
            while not self._takes("]"):
                self._needs(",")
                calls.append(self._call())
            return calls
        calls = [self._call()]
        while self._takes(";") or self._at_name():
            calls.append(self._call())
        return calls

    def _at_name(self) -> bool:
        self._skip()
        name = _NAME.match(self.text, self.at)
        return name is not None and self.text.startswith("(", name.end())

    def _call(self) -> ToolCall:
        name = self._match(_NAME)
        self._needs("(")
        given: dict[str, Any] = {}
        while not self._takes(")"):
            if given:
                self._needs(",")
            key = self._match(_WORD)
            self._needs("=")
            if key in given:
                raise UnreadableCallError
            given[key] = self._value(MOST_NESTING - 1)
        return ToolCall(name, given)

    def _value(self, levels: int) -> Any:
        if not levels:
            raise UnreadableCallError
        if self._takes("["):
            return self._list("]", levels)
        if self._takes("("):
            return self._list(")", levels)
        if self._takes("{"):
            return self._dict(levels)
        if self.text.startswith(('"', "'"), self.at):
            return _ESCAPE.sub(_unescaped, self._match(_STRING)[1:-1])
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            written = number.group()
            return float(written) if any(mark in written for mark in ".eE") else int(written)
        word = self._match(_WORD)
        if word not in _WORDS:
            raise UnreadableCallError
        return _WORDS[word]

    def _list(self, closing: str, levels: int) -> list[Any]:
        values: list[Any] = []
        while not self._takes(closing):
            if values:
                self._needs(",")
                if self._takes(closing):
                    break
            values.append(self._value(levels - 1))
        return values

    def _dict(self, levels: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while not self._takes("}"):
            if fields:
                self._needs(",")
                if self._takes("}"):
                    break
            key = self._value(1)
            self._needs(":")
            if not isinstance(key, str) or key in fields:
                raise UnreadableCallError
            fields[key] = self._value(levels - 1)
        return fields

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _takes(self, mark: str) -> bool:
        self._skip()
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) if found else 0
        return found

    def _needs(self, mark: str) -> None:
        if not self._takes(mark):
            raise UnreadableCallError

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        found = pattern.match(self.text, self.at)
        if found is None:
            raise UnreadableCallError
        self.at = found.end()
        return found.group()


def _unescaped(found: re.Match[str]) -> str:
    code = found.group(1) or found.group(2)
    return chr(int(code, 16)) if code else _ESCAPED.get(found.group(3), found.group())
