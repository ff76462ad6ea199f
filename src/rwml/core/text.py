"""When two texts count as the same, and the distance of a text that is not there."""

from __future__ import annotations

UNPARSED_DISTANCE = 2.0
"""The largest value of `1 - cos`, given to an answer that could not be read."""


def same_text(predicted: str | None, real: str) -> bool:
    """Whether two texts have the same words: equal up to white space. None (no readable answer) equals nothing."""
    return predicted is not None and predicted.split() == real.split()
