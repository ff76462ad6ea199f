"""When two texts count as the same, the distance of a text that is missing, texts made fit for files and terminals, and
JSON read element by element and to a bounded depth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

UNPARSED_DISTANCE = 2.0
"""The largest value of `1 - cos`, given to an answer that could not be read."""


def same_text(predicted: str | None, real: str) -> bool:
    """Whether two texts have the same words: equal up to white space. None (no readable answer) equals nothing."""
    return predicted is not None and predicted.split() == real.split()


_SURROGATE = re.compile("[\ud800-\udfff]")


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8. One with a lone surrogate, half of a pair of UTF-16, cannot."""
    return text.isascii() or _SURROGATE.search(text) is None


def as_unicode(text: str) -> str:
    """The text with each lone surrogate written as its escape (`\\ud83d`), which JSON reads as the surrogate again."""
    return text if is_unicode(text) else _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


# What a terminal obeys, and what turns the direction of writing; line ends and tabs are only text.
_NOT_PRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text of data as a terminal may show it: control characters, and characters without UTF-8, as escapes."""
    return _NOT_PRINTED.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def sound(text: str) -> str:
    """A text that UTF-8 can hold: a pair of surrogates becomes its character, half a pair the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


MOST_NESTING = 100
"""Levels of JSON values in one another that are read. Below the interpreter's own limit, at which a value that was read
in one place cannot be written in another."""


def nested_too_deep(value: Any) -> bool:
    """Whether a JSON value has more than `MOST_NESTING` levels."""
    level = [value]
    for _ in range(MOST_NESTING):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, (dict, list)):
                inner += item.values() if isinstance(item, dict) else item
        if not inner:
            return False
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)


def shortened(text: str, most: int) -> str:
    """The text, or its first characters and a note of how many it has."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


_SEPARATOR = re.compile(r"[\s,]*")


def array_elements(text: str, start: int) -> Iterator[tuple[Any, int, int]]:
    """The elements of the JSON array whose inside begins at `start`, each with the span of its text.

    ValueError or RecursionError at an element that is broken or nested too deep; the elements before it have come.
    """
    decoder, end = json.JSONDecoder(), start
    while True:
        match = _SEPARATOR.match(text, end)
        assert match is not None
        begin = match.end()
        if begin == len(text) or text[begin] == "]":
            return
        value, end = decoder.raw_decode(text, begin)
        yield value, begin, end
