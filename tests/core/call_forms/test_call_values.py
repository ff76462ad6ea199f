"""Calls out of JSON values and tags: which keys are arguments, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rwml.core.call_forms.call_values import ToolCall, UnreadableCallError, call_of, object_of, tagged_parameters

F = ToolCall("f", {"x": 1})


@pytest.mark.parametrize(
    ("value", "unmarked", "marked"),
    [
        ({"name": "f", "arguments": {"x": 1}}, F, F),
        ({"name": "f", "args": {"x": 1}}, F, F),
        ({"tool_name": "f", "parameters": '{"x": 1}', "tool_call_id": "0"}, F, F),
        ({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}, F, F),
        ({"function": "f", "arguments": {"x": 1}}, F, F),
        ({"name": "f", "input": {"x": 1}}, None, F),
        ({"name": "f"}, None, ToolCall("f", {})),
        ({"name": "f", "description": "", "parameters": {}}, None, ToolCall("f", {})),
        ({"x": 1}, None, None),
        ([1], None, None),
    ],
)
def test_keys_of_a_call(value: Any, unmarked: ToolCall | None, marked: ToolCall | None) -> None:
    assert call_of(value, marked=False) == unmarked
    assert call_of(value, marked=True) == marked


def test_a_call_of_another_form_is_not_one_without_arguments() -> None:
    with pytest.raises(UnreadableCallError):
        call_of({"name": "f", "kwargs": {"x": 1}}, marked=True)


def test_arguments_are_an_object_of_bounded_depth() -> None:
    assert object_of(None) == object_of("") == {}
    deep: Any = 1
    for _ in range(99):
        deep = {"x": deep}
    assert object_of(deep) == deep
    for wrong in ([1], 7, "[1]", "{", {"x": {"x": deep}}):
        with pytest.raises(UnreadableCallError):
            object_of(wrong)


def test_parameters_in_tags() -> None:
    tags = ("<p=", ">", "</p>")
    assert tagged_parameters(" <p=a>1</p>\n<p= b >\nx y\n</p><p=c>True</p> ", *tags) == {"a": 1, "b": "x y", "c": True}
    assert tagged_parameters(" \n", *tags) == {}
    for wrong in ("x", "<p=a>1", "<p=a", "<p=a>1</p>x", "<p=a>1</p><p=a>2</p>", "<p=>1</p>", "<p=a>1<p=b>2</p>", "<"):
        with pytest.raises(UnreadableCallError):
            tagged_parameters(wrong, *tags)
