"""Whether a log says that its episode was solved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

_SOLVED = frozenset({"true", "yes", "success", "successful", "succeeded", "solved", "passed", "pass"})
_FAILED = frozenset({"false", "no", "failure", "fail", "failed", "unsuccessful", "unsolved"})
_CLOSE = 1e-6


def stated_success(record: dict[str, Any], keys: Sequence[str], counts: Counter[str]) -> bool:
    """Whether the first of these keys whose value can be read says that the episode was solved.

    counts: an outcome that is not stated, or that cannot be read, is counted, with the form of the latter; its episode
    counts as unsolved.
    """
    stated = [record[key] for key in keys if record.get(key) is not None]
    for value in stated:
        read = _read(value)
        if read is not None:
            return read
    if stated:
        counts[f"outcomes that cannot be read: {_form(stated[0])}"] += 1
    else:
        counts["outcomes that are not stated"] += 1
    return False


def _read(value: Any) -> bool | None:
    """True or false, a word for one of the two, or a reward, which is 1 or more; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _SOLVED or word in _FAILED:
            return word in _SOLVED
        try:
            value = float(word)
        except ValueError:
            return None
    if isinstance(value, (int, float)):
        return value >= 1 - _CLOSE if isinstance(value, int) or math.isfinite(value) else None
    return None


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "a text"
    if isinstance(value, (int, float)):
        return "a number that is not finite"
    return "a list" if isinstance(value, list) else "an object"
