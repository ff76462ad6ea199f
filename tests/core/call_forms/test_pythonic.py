"""Calls of Python: their values, against Python's own reader, and what is refused."""

from __future__ import annotations

import ast
import random

import pytest

from rwml.core.call_forms.call_values import ToolCall, UnreadableCallError
from rwml.core.call_forms.pythonic import calls_at


def test_lists_and_lines_of_calls_and_where_they_end() -> None:
    text = "x [f(a=1, b='two'), mail.send()] y"
    assert calls_at(text, 2) == ([ToolCall("f", {"a": 1, "b": "two"}), ToolCall("mail.send", {})], text.index(" y"))
    assert calls_at("f()\ng(x=true);h()", 0)[0] == [ToolCall("f", {}), ToolCall("g", {"x": True}), ToolCall("h", {})]


def test_values_are_those_of_python() -> None:
    draw = random.Random(0)
    texts = ["a", 'q"uote', "it's", "two\nlines", "tab\t", "ü 🎉", "back\\slash", ""]
    words = [*texts, 0, -7, 2.5, -1e-9, True, False, None]
    for _ in range(300):
        one, two, three, four = draw.choices(words, k=4)
        value = {"x": one, "y": [two, (three,)], "z": {"k": four}}
        expected = ast.literal_eval(repr(value))
        expected["y"][1] = list(expected["y"][1])
        assert calls_at(f"f(v={value!r})", 0)[0] == [ToolCall("f", {"v": expected})]


@pytest.mark.parametrize(
    "text",
    ["f", "f(", "f(1)", "f(x)", "f(x=)", "f(x=y)", "f(x=1 y=2)", "f(x=1, x=2)", "[f()", "[f(), 1]", "f(x='a)",
     "f(x={1: 2})", "f(x=[1", "f(x=g())", f"f(x={'[' * 200}{']' * 200})"],
)  # fmt: skip
def test_what_is_not_a_call_of_names_and_values(text: str) -> None:
    with pytest.raises(UnreadableCallError):
        calls_at(text, 0)
