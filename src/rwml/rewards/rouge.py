"""How much of two texts is the same words: in the same order (ROUGE-L), or in any order (token F1)."""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"[a-z0-9]+")


def rouge_l(predicted: str, reference: str) -> float:
    """F1 of the longest common subsequence L of words, 2 L / (words of one + words of the other), within [0, 1].

    Words are runs of a-z and 0-9 of the lowercase text, unstemmed, as in the package `rouge_score`. 0 if either text
    has no word. Cost: per predicted word, one operation on integers with one bit per word of `reference`.
    """
    ours, theirs = _words(predicted), _words(reference)
    if not ours or not theirs:
        return 0.0
    return 2 * _common(ours, theirs) / (len(ours) + len(theirs))


def token_f1(predicted: str, reference: str) -> float:
    """F1 of the words that both texts have, in any order, 2 C / (words of one + words of the other), within [0, 1].

    C counts a word as often as both texts have it. Words as in `rouge_l`; articles stay. 0 if either text has no word.
    """
    ours, theirs = _words(predicted), _words(reference)
    if not ours or not theirs:
        return 0.0
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _common(ours: list[str], theirs: list[str]) -> int:
    """Length of the longest common subsequence.

    Bit j of `row` is 0 where the length over theirs[: j + 1] is one more than over theirs[:j]. A new word of ours moves
    the lowest match in each run of ones down to the run's end, which an addition does for all runs at once.
    """
    where: dict[str, int] = {}
    for index, word in enumerate(theirs):
        where[word] = where.get(word, 0) | 1 << index
    full = (1 << len(theirs)) - 1
    row = full
    for word in ours:
        matches = row & where.get(word, 0)
        if matches:
            row = (row + matches | row - matches) & full
    return len(theirs) - row.bit_count()
