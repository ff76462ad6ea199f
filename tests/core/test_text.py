"""Equal words, and JSON arrays read element by element: whole ones, and those that break off."""

from __future__ import annotations

import json

import pytest

from rwml.core.text import (
    MOST_NESTING,
    array_elements,
    as_unicode,
    is_unicode,
    nested_too_deep,
    printable,
    same_text,
    shortened,
    sound,
)


def test_white_space_makes_no_other_text() -> None:
    assert same_text(" a  b\n", "a b")
    assert not same_text("ab", "a b")
    assert not same_text("you see", "You see")
    assert not same_text(None, "")


def test_half_a_character_becomes_its_escape() -> None:
    assert [is_unicode(text) for text in ("a", "é", "😀", "\ud83d", "a\udc80")] == [True, True, True, False, False]
    assert as_unicode("é\ud83d\udc80x") == r"é\ud83d\udc80x"
    assert json.loads(f'"{as_unicode(chr(0xD83D))}"') == "\ud83d"
    assert as_unicode("😀") == "😀"


def test_what_a_terminal_acts_on_becomes_its_escape() -> None:
    assert printable("\x1b[31mé\x07\n\t\u202e\ud83d 　") == "\\x1b[31mé\\x07\n\t\\u202e\\ud83d 　"
    assert (shortened("abc", 3), shortened("abcd" * 300, 3)) == ("abc", "abc... (1,200 characters)")


def test_elements_come_with_the_span_of_their_text() -> None:
    text = ' [ {"a": [1, 2]},\n"x" , 3.5 ] 7'
    elements = list(array_elements(text, text.index("[") + 1))
    assert [value for value, _, _ in elements] == [{"a": [1, 2]}, "x", 3.5]
    assert [text[start:end] for _, start, end in elements] == ['{"a": [1, 2]}', '"x"', "3.5"]
    assert list(array_elements("[]", 1)) == list(array_elements("[", 1)) == []


def test_the_elements_before_a_break_come_first() -> None:
    seen = []
    with pytest.raises(json.JSONDecodeError):
        for value, _, end in array_elements('[1, {"a": 2}, {"a": ', 1):
            seen.append((value, end))
    assert seen == [(1, 2), ({"a": 2}, 12)]


def test_a_text_for_a_terminal_has_no_control_characters() -> None:
    assert printable("a\x1b[31mb\rc\x00\x7f\x9b1m") == "a\\x1b[31mb\\rc\\x00\\x7f\\x9b1m"
    assert printable("Zürich 🌞\n\tplain") == "Zürich 🌞\n\tplain"
    assert printable("\u202e\u2066\udce9").isascii()


def test_halves_of_surrogate_pairs_are_replaced_and_whole_pairs_joined() -> None:
    assert sound("a\ud83db") == "a\ufffdb"
    assert sound("\ud83c\udf1e") == "🌞"
    assert sound("plain") == "plain"


def test_levels_of_json_are_counted() -> None:
    def nested(levels: int) -> object:
        return {"x": nested(levels - 1)} if levels > 1 else []

    assert not nested_too_deep(7)
    assert not nested_too_deep(nested(MOST_NESTING))
    assert nested_too_deep([1, nested(MOST_NESTING)])
    assert not nested_too_deep([[1] * 1000] * 1000)
