"""Words and numbers of the reports: names, formats, word-level differences, and recipes as TOML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from rwml.measure.figures.sentences import NOTHING
from rwml.reports import escapes

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])")
CHEAP_PAIRS = 10_000
MOST_WORDS = 10_000

TITLES = {
    "collect": "collect", "transitions": "transitions", "filter": "filter", "train_wm": "train-wm",
    "train_policy": "train-policy", "evaluate": "evaluate",
}  # fmt: skip
ARM_NAMES = {
    "model": "before any training", "world_model": "after world-model training", "policy": "after policy RL",
    "copy_last": "copy last", "most_frequent": "most frequent",
}  # fmt: skip
BASELINE_TELLS = {
    "copy_last": "repeating what the same action last brought in the history",
    "most_frequent": "always answering with the action's most frequent next state in training",
}
KIND_NAMES = {"text": "Observations", "tool": "Tool responses", "user": "User messages"}


def decimal(value: float | None, digits: int = 2) -> str:
    """A plain figure; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def with_spread(measure: Mapping[str, Any] | None, kind: str = "percent") -> str:
    """`40.1 ± 2.0` in percent, or `decimal`. One seed gives the mean alone, no seed a dash."""
    if measure is None or measure["mean"] is None:
        return NOTHING
    scale, digits = (1, 2) if kind == "decimal" else (100, 1)
    sd = "" if measure["sd"] is None else f" ± {scale * measure['sd']:.{digits}f}"
    return f"{scale * measure['mean']:.{digits}f}{sd}"


def number(value: Any) -> str:
    """A count with thousands separators; other figures to three digits, the rest as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    if isinstance(value, (int, float)):
        return f"{int(value):,}" if float(value).is_integer() else f"{value:.3g}"
    return str(value)


def word_difference(predicted: str, real: str) -> list[tuple[str, str]]:
    """Pieces of `predicted` against `real`: ("same", text), ("wrong", not in real), ("missing", only in real).

    Words and signs are compared, whitespace is not; the same and wrong pieces together are `predicted` without the
    whitespace at its end. Of texts with more than `MOST_WORDS` words between what both begin and end with, the rest is
    not compared: it is wrong and missing.
    """
    ours, theirs = (_WORD.findall(text.rstrip()) for text in (predicted, real))
    pieces: list[tuple[str, str]] = []
    at, beside = 0, 0
    for a, b, size in [*_matches([w.strip() for w in ours], [w.strip() for w in theirs]), (len(ours), len(theirs), 0)]:
        parts = {"wrong": ours[at:a], "missing": theirs[beside:b], "same": ours[a : a + size]}
        pieces += [(kind, "".join(words)) for kind, words in parts.items() if words]
        at, beside = a + size, b + size
    return pieces


def _matches(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of equal words (start in ours, start in theirs, length), in order.

    difflib's, which are the longest and best to read, where they cost little: it compares every pair of equal words
    again and again. Else those of a longest common subsequence, which takes a moment for any text.
    """
    count = Counter(theirs)
    if sum(count[word] for word in ours) <= CHEAP_PAIRS:
        blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
        return [(run.a, run.b, run.size) for run in blocks if run.size]
    shorter = min(len(ours), len(theirs))
    front = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    left = shorter - front
    back = next((i for i in range(left) if ours[-1 - i] != theirs[-1 - i]), left)
    inner = [words[front : len(words) - back][:MOST_WORDS] for words in (ours, theirs)]
    pairs = [(i + front, j + front) for i, j in common_subsequence(*inner)]
    pairs = [(i, i) for i in range(front)] + pairs
    pairs += [(len(ours) - back + i, len(theirs) - back + i) for i in range(back)]
    runs: list[tuple[int, int, int]] = []
    for i, j in pairs:
        a, b, size = runs[-1] if runs else (0, 0, 0)
        if size and (a + size, b + size) == (i, j):
            runs[-1] = a, b, size + 1
        else:
            runs.append((i, j, 1))
    return runs


def common_subsequence(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """The places (in ours, in theirs) of a longest common subsequence, in order.

    Bit j of a row is 0 where the subsequence of theirs[: j + 1] is longer than that of theirs[:j], as in
    `rewards/rouge.py`; the rows of all words of ours are kept, len(ours) x len(theirs) bits, to walk back through them.
    """
    where: dict[str, int] = {}
    for place, word in enumerate(theirs):
        where[word] = where.get(word, 0) | 1 << place
    full = (1 << len(theirs)) - 1
    rows = [full]
    for word in ours:
        row, matches = rows[-1], rows[-1] & where.get(word, 0)
        rows.append((row + matches | row - matches) & full)
    pairs, i, j = [], len(ours), len(theirs)
    while i and j:
        if rows[i] >> (j - 1) & 1:
            j -= 1
        elif ours[i - 1] == theirs[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        else:
            i -= 1
    return pairs[::-1]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, aligned: bool = False) -> str:
    """A Markdown table of plain texts: the first column aligned to the left, all others to the right.

    aligned: pads cells to the width of their column, for reading on a terminal.
    """
    lines = [[escapes.markdown(cell) for cell in row] for row in (header, *rows)]
    columns = range(len(header))
    widths = [max(3, *(len(line[column]) for line in lines)) if aligned else 0 for column in columns]
    rule = ["-" * (width or 3) if not column else "-" * ((width or 4) - 1) + ":" for column, width in enumerate(widths)]
    cells = [
        [line[column].rjust(widths[column]) if column else line[0].ljust(widths[0]) for column in columns]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
