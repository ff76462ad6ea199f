"""Words and numbers of the reports: names, formats, word-level differences, and recipes as TOML."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rwml.measure.figures.sentences import NOTHING

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])")

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

    Words and signs are compared, whitespace is not; the same and wrong pieces together are `predicted`.
    """
    ours, theirs = _WORD.findall(predicted), _WORD.findall(real)
    match = difflib.SequenceMatcher(
        None, [word.strip() for word in ours], [word.strip() for word in theirs], autojunk=False
    )
    pieces: list[tuple[str, str]] = []
    for kind, a, b, c, d in match.get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(ours[a:b])))
            continue
        if b > a:
            pieces.append(("wrong", "".join(ours[a:b])))
        if d > c:
            pieces.append(("missing", "".join(theirs[c:d])))
    return pieces


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, aligned: bool = False) -> str:
    """A Markdown table: the first column aligned to the left, all others to the right. aligned: pads cells to the width
    of their column, for reading on a terminal.
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    columns = range(len(header))
    widths = [max(3, *(len(line[column]) for line in lines)) if aligned else 0 for column in columns]
    rule = ["-" * (width or 3) if not column else "-" * ((width or 4) - 1) + ":" for column, width in enumerate(widths)]
    cells = [
        [line[column].rjust(widths[column]) if column else line[0].ljust(widths[0]) for column in columns]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
