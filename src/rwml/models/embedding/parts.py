"""Texts that are longer than an embedding model reads: cut into parts that it reads, and compared part by part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MAX_PARTS = 16
"""Parts of one text that are embedded; what lies behind them is left out, and counted."""

Span = tuple[int, int]


def windows(spans: Sequence[Span], room: int) -> list[Span]:
    """Spans of text that hold at most `room` tokens each, in order, and together all tokens; of about equal length.

    spans: of the tokens (start, end). Equal lengths leave no scrap at the end, which would be like nothing. A window
    ends where a token does not begin right at the end of the one before it, if such a place is near.
    """
    near = min(16, room // 8)
    count = max(1, -(-len(spans) // (room - near)))
    edges = [0]
    for number in range(1, count):
        at = number * len(spans) // count
        edges.append(next((e for e in range(at, at - near, -1) if spans[e][0] > spans[e - 1][1]), at))
    edges.append(len(spans))
    return [(spans[first][0], spans[last - 1][1]) for first, last in pairwise(edges) if last > first]


def part_distance(distances_LR: NDArray[np.floating]) -> float:
    """The distance of two texts by those of their parts: of that part of either which is farthest from all parts of the
    other. With one part each it is their distance."""
    return float(max(distances_LR.min(axis=1).max(), distances_LR.min(axis=0).max()))
