"""Words and numbers of the report: formats, the headline sentences, and word-level differences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])")
NOTHING = "–"

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


def percent(value: float | None) -> str:
    """A share as percent with one decimal; a dash for None."""
    return NOTHING if value is None else f"{100 * value:.1f}%"


def points(value: float | None) -> str:
    """A difference of shares in signed percentage points; a dash for None."""
    return NOTHING if value is None else f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def decimal(value: float | None, digits: int = 2) -> str:
    """A plain figure; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def with_spread(measure: Mapping[str, Any] | None, kind: str = "percent") -> str:
    """`40.1 ± 2.0` (in percent; or `decimal`); the mean alone for one seed, a dash for nothing."""
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


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def verdict(difference: Mapping[str, Any]) -> str:
    """`up`, `down`, `unsure` (the interval holds 0) or `unknown` (no interval), of a difference in eval.json."""
    low, high = difference["interval"]
    if low is None or high is None:
        return "unknown"
    if low > 0:
        return "up"
    return "down" if high < 0 else "unsure"


def sentence(difference: Mapping[str, Any], subject: str, unit: str) -> str:
    """What the data say about a headline difference, in plain words.

    subject: what is measured ("the share of ..."); unit: what a row is ("predictions").
    """
    low, high = difference["interval"]
    before, after = percent(difference["before"]), percent(difference["after"])
    where = f"over {difference['n']:,} held-out {unit} from {difference['clusters']:,} tasks"
    said = verdict(difference)
    if said == "unknown":
        return f"{subject} went from {before} to {after} {where}: too few tasks for an interval, so no claim is made."
    range_ = (
        f"the difference is {points(difference['difference'])} points, 95% interval {points(low)} to {points(high)}"
    )
    if said == "unsure":
        return (
            f"The data do not support a difference. {subject} was {before} before and {after} after, {where}; "
            f"{range_}, and that range holds zero."
        )
    moved = "rose" if said == "up" else "fell"
    return f"{subject} {moved} from {before} to {after}, {where}; {range_}."


def baseline_verdict(difference: Mapping[str, Any]) -> str:
    """Whether the world model (`after`) beats a baseline (`before`), in two or three words."""
    return {
        "up": "beaten", "down": "not beaten, it is better", "unsure": "not beaten", "unknown": "too few tasks to say",
    }[verdict(difference)]  # fmt: skip


def baseline_sentence(difference: Mapping[str, Any], contender: str, baseline: str, subject: str) -> str:
    """What the data say about a world model (`after`) beside a baseline (`before`), in plain words."""
    after, before = percent(difference["after"]), percent(difference["before"])
    low, high = difference["interval"]
    figures = (
        f"{subject} is {after} against {before}, over {difference['n']:,} held-out predictions from "
        f"{difference['clusters']:,} tasks"
    )
    said = verdict(difference)
    if said == "unknown":
        return f"Too few tasks to say whether {contender[0].lower()}{contender[1:]} beats {baseline}: {figures}."
    range_ = (
        f"the difference is {points(difference['difference'])} points, 95% interval {points(low)} to {points(high)}"
    )
    if said == "up":
        return f"{contender} beats {baseline}: {figures}; {range_}."
    if said == "down":
        return f"{contender} does not beat {baseline} but falls short of it: {figures}; {range_}."
    return (
        f"{contender} does not beat {baseline}, as far as these data can tell: {figures}; {range_}, which holds zero."
    )


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
