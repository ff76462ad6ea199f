"""What may stand in a recipe as a value, whoever wrote it: TOML, recipe.json, an override or a program."""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from rwml.core.errors import RwmlError

MAX_DEPTH = 32
"""Levels of tables and arrays in one another; a recipe of ours has four."""

SHOWN = 120
"""Characters of a wrong value that a message shows."""

_INT64 = 1 << 63


def read_toml(text: str, source: str) -> dict[str, Any]:
    """A TOML document. TOMLDecodeError for text that is not TOML; RwmlError for what its reader cannot hold."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        what, fix = "is nested too deep", f"nest tables and arrays at most {MAX_DEPTH} levels deep"
    except ValueError:  # Python reads no decimal number of more than 4,300 digits
        what, fix = "holds a number of thousands of digits", "write numbers of at most 64 bits"
    raise RwmlError(f"{source} {what}", "a recipe that is half read would train something else", fix)


def check_values(data: Mapping[str, Any], source: str) -> None:
    """RwmlError for a value that no setting can have, wherever it stands: NaN, infinity, an integer beyond 64 bits, a
    date, text that no file can hold, or too many levels."""
    for place, value, depth in _walk(data):
        fault = "" if depth <= MAX_DEPTH else f"is nested more than {MAX_DEPTH} levels deep"
        fault = fault or _fault(value)
        if fault:
            raise RwmlError(
                f"{source}: {place} {fault}",
                "no setting can have that value, and a run with a wrong value is a wrong run",
                f"set {place} to an allowed value, in the file or with {place}=VALUE on the command line",
            )


def short_repr(value: Any) -> str:
    """A value as a message shows it: on one line, without its end where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _walk(data: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Every value with its place, as `section.key[2]`, and its level. Nothing below `MAX_DEPTH` + 1 is visited."""
    left: list[tuple[str, Any, int]] = [("", data, 0)]
    while left:
        place, value, depth = left.pop()
        if place:
            yield place, value, depth
        if isinstance(value, Mapping):
            for key, inner in value.items():
                name = key if isinstance(key, str) and len(key) <= SHOWN and key.isprintable() else short_repr(key)
                left.append((f"{place}.{name}" if place else name, inner, depth + 1))
                if isinstance(key, str) and _fault(key):
                    yield f"the key {short_repr(key)}", key, depth + 1
        elif isinstance(value, (list, tuple)):
            left += [(f"{place}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]


def _fault(value: Any) -> str:
    """Why no setting can have this value; "" if one can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"= {value} is not a finite number"
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return f"is an integer of {value.bit_length()} bits; 64 are allowed"
    if isinstance(value, (datetime.date, datetime.time)):
        return f"= {value} is a date or time; write it in quotes if it is meant as text"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        return f"= {short_repr(value)} holds a character that no file name and no text file can hold"
    return ""
