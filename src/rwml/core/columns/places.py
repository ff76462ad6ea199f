"""Histories as places in an episode: a file of transitions holds each text of an episode once, not once a row.

The columns of a row: `history_new` has the texts that no earlier row of its episode brought. All `history_new` of an
episode's rows up to this one, one after another, are what is known of the episode there; the row's history is their
stretch from `history_start` to `history_stop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rwml.core.types import History

COLUMNS = ("history_new", "history_start", "history_stop")


class _Known:
    """texts: what the rows of one episode have brought so far. shift: from a text's number in the episode to its number
    in `texts`, as the last row had it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.shift = 0


class PlaceWriter:
    """The places of a file's rows, which depend on their contents and their order alone."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def place(self, episode: str, step: int, history: Sequence[str]) -> tuple[list[str], int, int]:
        """The columns of the next row."""
        known = self._known.setdefault(episode, _Known())
        start = 2 * step - len(history) + known.shift
        if not _continues(known.texts, start, history):
            start = len(known.texts)
            known.shift = start - (2 * step - len(history))
        new = list(history[len(known.texts) - start :])
        known.texts += new
        return new, start, start + len(history)

    def shared(self, episode: str, step: int, history: Sequence[str]) -> History:
        """The history as a stretch of texts that it shares with the other rows of its episode."""
        _, start, stop = self.place(episode, step, history)
        return History(self._known[episode].texts, start, stop)


def _continues(texts: Sequence[str], start: int, history: Sequence[str]) -> bool:
    """Whether the history stands at `start` of the texts, or would with more of them at their end."""
    if not 0 <= start <= len(texts):
        return False
    both = min(len(texts) - start, len(history))
    return texts[start : start + both] == list(history[:both])


class PlaceReader:
    """Histories of the rows of a file, read in their order."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}

    def history(self, episode: str, row: Mapping[str, Any]) -> History:
        """Of the next row; ValueError for a place that is not there."""
        texts = self._texts.setdefault(episode, [])
        new, start, stop = (row[name] for name in COLUMNS)
        texts += new
        if not 0 <= start <= stop <= len(texts):
            raise ValueError(f"a row of episode '{episode}' has the history {start}:{stop} of {len(texts)} texts")
        return History(texts, start, stop)
