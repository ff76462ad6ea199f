"""Failed episodes on the screen and in a stage's counts: how many there are, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rwml.core.errors import RwmlError
from rwml.core.progress import note
from rwml.core.text import printable, shortened
from rwml.core.types import Episode

SHOWN = 3
"""Reasons that are shown, the most frequent ones."""
_CHARACTERS = 300  # of one reason
_FIX = "what to do: "  # begins the last line of an `RwmlError`


def failures(episodes: Sequence[Episode]) -> Counter[str]:
    """The reasons of failed episodes, each as one printable line, with their numbers."""
    return Counter(_line(episode.error) for episode in episodes if episode.error)


def most_frequent(reasons: Counter[str]) -> list[tuple[str, int]]:
    """The first `SHOWN` reasons by number, then by name; the same for the same episodes in any order."""
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]


def say_failures(what: str, reasons: Counter[str], total: int, unit: str = "episodes") -> None:
    """One line on stderr if any of `total` failed. what: begins the line."""
    if not reasons:
        return
    shown = most_frequent(reasons)
    words = "; ".join(f"{number} x {reason}" for reason, number in shown)
    rest = len(reasons) - len(shown)
    more = f"; and {rest} more reasons" if rest else ""
    note(f"{what}: {reasons.total()} of {total} {unit} failed: {words}{more}")


def count_failures(counts: dict[str, float], reasons: Counter[str]) -> None:
    """Note the most frequent reasons in a stage's counts."""
    counts |= {f"failed, {reason}": number for reason, number in most_frequent(reasons)}


def refuse_if_all_failed(episodes: Sequence[Episode], again: str) -> None:
    """RwmlError if every one of the episodes failed (no episodes are no error). again: how to play them again."""
    if not episodes or not all(episode.error for episode in episodes):
        return
    [(reason, number), *_] = most_frequent(failures(episodes))
    advice = next((e.error.rpartition(_FIX)[2] for e in episodes if _FIX in e.error and _line(e.error) == reason), "")
    raise RwmlError(
        f"all {len(episodes)} episodes failed, {number} of them so: {reason}",
        "there is nothing to learn from or to measure",
        f"{advice or 'mend the world (`rwml worlds check` names its faults)'}; {again}",
    )


def _line(error: str) -> str:
    """The first line, with characters that a terminal acts on written as escapes."""
    return shortened(printable(error.strip().partition("\n")[0]), _CHARACTERS)
