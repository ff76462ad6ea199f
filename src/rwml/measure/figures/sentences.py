"""What the data say about a difference, in plain words: one verdict, and a sentence for each compared pair.

A difference D is one of `eval.json` or `compare.json`: {"before", "after", "difference", "interval", "n", "clusters"},
and "by_seed" if it is over training seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NOTHING = "–"

Difference = Mapping[str, Any]


def percent(value: float | None) -> str:
    """A share as percent with one decimal; a dash for None."""
    return NOTHING if value is None else f"{100 * value:.1f}%"


def points(value: float | None) -> str:
    """A difference of shares in signed percentage points; a dash for None."""
    return NOTHING if value is None else f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def verdict(difference: Difference) -> str:
    """What the data support.

    `up` or `down`: the interval excludes zero and, over training seeds, every seed has that sign; `seeds`: the interval
    excludes zero, but the seeds do not agree; `unsure`: the interval holds zero; `unknown`: there is no interval.
    """
    low, high = difference["interval"]
    if low is None or high is None:
        return "unknown"
    if low <= 0 <= high:
        return "unsure"
    sign = 1 if low > 0 else -1
    seeds: Mapping[str, float | None] = difference.get("by_seed", {})
    agree = all(value is not None and not math.isclose(value, 0) and value * sign > 0 for value in seeds.values())
    return {1: "up", -1: "down"}[sign] if agree else "seeds"


def sentence(difference: Difference, subject: str, unit: str) -> str:
    """About a figure before and after training. subject: "the share of ..."; unit: what a row is ("predictions")."""
    before, after = percent(difference["before"]), percent(difference["after"])
    where = f"over {difference['n']:,} held-out {unit} from {difference['clusters']:,} tasks"
    result = verdict(difference)
    if result == "unknown":
        return f"{subject} went from {before} to {after} {where}: too few tasks for an interval, so no claim is made."
    if result == "unsure":
        return (
            f"The data do not support a difference. {subject} was {before} before and {after} after, {where}; "
            f"{_range(difference)}, and that range holds zero."
        )
    moved = "rose" if result == "up" else "fell"
    return f"{subject} {moved} from {before} to {after}, {where}; {_range(difference)}."


def baseline_verdict(difference: Difference) -> str:
    """Whether the world model (`after`) beats a baseline (`before`), in two or three words."""
    return {
        "up": "beaten", "down": "not beaten, it is better", "unsure": "not beaten", "unknown": "too few tasks to say",
    }[verdict(difference)]  # fmt: skip


def baseline_sentence(difference: Difference, contender: str, baseline: str, subject: str) -> str:
    """About a world model (`after`) against a baseline (`before`)."""
    after, before = percent(difference["after"]), percent(difference["before"])
    figures = (
        f"{subject} is {after} against {before}, over {difference['n']:,} held-out predictions from "
        f"{difference['clusters']:,} tasks"
    )
    result = verdict(difference)
    if result == "unknown":
        return f"Too few tasks to say whether {contender[0].lower()}{contender[1:]} beats {baseline}: {figures}."
    facts = f"{figures}; {_range(difference)}"
    if result == "up":
        return f"{contender} beats {baseline}: {facts}."
    if result == "down":
        return f"{contender} does not beat {baseline} but falls short of it: {facts}."
    return f"{contender} does not beat {baseline}, as far as these data can tell: {facts}, which holds zero."


def arm_sentence(difference: Difference, arm: str, other: str, subject: str, unit: str) -> str:
    """About two arms over training seeds: arm (`after`) and other (`before`), by their titles."""
    low, high = difference["interval"]
    after, before = percent(difference["after"]), percent(difference["before"])
    seeds = [value for value in difference["by_seed"].values() if value is not None]
    count = f"{len(seeds)} seeds" if len(seeds) != 1 else "1 seed"
    facts = (
        f"{subject} is {after} against {before} (difference {points(difference['difference'])} points, "
        f"95% interval {points(low)} to {points(high)}, over {difference['n']:,} paired {unit} from "
        f"{difference['clusters']:,} tasks; by seed {', '.join(map(points, seeds))})"
    )
    result = verdict(difference)
    if result == "unknown":
        return f"Too few tasks to say whether {arm} and {other} differ: {facts}."
    if result == "unsure":
        return f"The data do not support a difference between {arm} and {other}: {facts}."
    if result == "seeds":
        return (
            f"The data do not support a difference between {arm} and {other} that another training run would repeat: "
            f"the interval leaves out zero, but the {count} do not agree: {facts}."
        )
    word = "is better than" if result == "up" else "falls short of"
    alone = " It is one training run; another seed may end elsewhere." if len(seeds) == 1 else ""
    return f"{arm} {word} {other}: {facts}.{alone}"


def _range(difference: Difference) -> str:
    low, high = difference["interval"]
    return f"the difference is {points(difference['difference'])} points, 95% interval {points(low)} to {points(high)}"
