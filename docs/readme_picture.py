"""Draw docs/predictions.png: two held-out predictions of a finished run, before and after training, beside the truth.

    python docs/readme_picture.py runs/quickstart

The report's own rule picks them (the order of hashed ids, no truth twice), so that nobody picks the flattering ones.
Struck through is what was predicted and is not so; underlined is what is so and was not predicted.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rwml.core.files import read_json
from rwml.reports.run_examples import Evaluation, examples

COLUMNS = 48
"""Letters in a line of a card."""
FONT_SIZE = 9.0  # points
LETTER = FONT_SIZE * 0.602 / 72  # inches: a letter of DejaVu Sans Mono is 0.602 em wide
CARD_WIDTH, LINE = (COLUMNS + 3) * LETTER, 0.185
INK, FAINT, WRONG, RIGHT, MISSING = "#1c2530", "#6b7480", "#b3372a", "#1a7f4b", "#9a6700"
COLOURS = {"same": INK, "wrong": WRONG, "missing": MISSING}

Word = tuple[str, str, str]  # text, colour, "same" | "wrong" | "missing" | "plain"
Line = list[Word]


def wrapped(pieces: list[tuple[str, str]], colour: str | None = None) -> list[Line]:
    """(kind, text) pieces as lines of at most COLUMNS letters. A word carries the space that follows it."""
    lines: list[Line] = [[]]
    width = 0
    for kind, text in pieces:
        for word in re.findall(r"\S+ ?", f"{text.strip()} " if kind == "missing" else text):
            if kind == "missing" and lines[-1] and not lines[-1][-1][0].endswith(" "):
                before = lines[-1].pop()
                lines[-1].append((f"{before[0]} ", *before[1:]))
                width += 1
            if width + len(word.rstrip()) > COLUMNS:
                lines, width = [*lines, []], 0
            lines[-1].append((word, colour or COLOURS[kind], kind))
            width += len(word)
    return lines


def card(example: dict[str, Any], tau_d: float) -> list[Line]:
    """The lines of one example."""
    row = example["row"]
    history = [f"> {row.history[-2]}", row.history[-1]] if row.history else [row.opening]
    lines = [line for step in history for line in wrapped([("plain", step)], FAINT)]
    lines += [*wrapped([("plain", f"> {row.action}")], INK), []]
    lines += [*wrapped([("plain", "What really followed:")], FAINT), *wrapped([("same", row.next_state)]), []]
    for label, prediction, exact, difference in example["answers"]:
        near = prediction.distance < tau_d
        gap = "the same words" if exact else f"distance {prediction.distance:.2f}"
        mark = ("✓ ", RIGHT, "plain") if near else ("✗ ", WRONG, "plain")
        [heading] = wrapped([("plain", f"{label.capitalize()} training, {gap}:")], FAINT)
        lines += [[mark, *heading], *wrapped(difference), []]
    return lines[:-1]


def draw(cards: list[list[Line]], out: Path) -> None:
    """One picture with the cards side by side."""
    height = LINE * (max(map(len, cards)) + 1.6)
    figure = plt.figure(figsize=(CARD_WIDTH * len(cards), height), dpi=200, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, CARD_WIDTH * len(cards)), ylim=(height, 0))
    axes.axis("off")
    for number, lines in enumerate(cards):
        left = number * CARD_WIDTH
        frame = plt.Rectangle((left + 0.06, 0.06), CARD_WIDTH - 0.12, height - 0.12, fill=False, edgecolor="#dfe2e7")
        axes.add_patch(frame)
        for at, line in enumerate(lines):
            column, y = 1.5, LINE * (at + 1.3)
            for word, colour, kind in line:
                x, width = left + column * LETTER, len(word.rstrip()) * LETTER
                axes.text(x, y, word, color=colour, fontsize=FONT_SIZE, family="DejaVu Sans Mono", va="center")
                if kind == "wrong":
                    axes.plot([x, x + width], [y + 0.01] * 2, "-", color=colour, linewidth=0.9)
                elif kind == "missing":
                    axes.plot([x, x + width], [y + 0.08] * 2, ":", color=colour, linewidth=1.1)
                column += len(word)
    figure.savefig(out, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("predictions.png"))
    parser.add_argument("--count", type=int, default=2)
    arguments = parser.parse_args()
    figures = read_json(arguments.run / "eval.json")
    held_out = Evaluation.of(arguments.run / "evaluation", figures)
    draw([card(example, figures["tau_d"]) for example in examples(held_out, arguments.count)], arguments.out)
    print(f"picture: {arguments.out}")


if __name__ == "__main__":
    main()
