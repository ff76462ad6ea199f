"""Words, numbers and tables of the reports."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from rwml.core.run import CHAIN
from rwml.reports import formats


def test_word_difference_marks_words_and_keeps_the_text() -> None:
    pieces = formats.word_difference("On the desk 1, you see a pen 2.", "On the desk 1, you see a book 1, and a pen 2.")
    assert pieces == [("same", "On the desk 1, you see a"), ("missing", " book 1, and a"), ("same", " pen 2.")]
    predicted, real = "You open the\n  drawer 1.", "You open the drawer 2."
    pieces = formats.word_difference(predicted, real)
    assert [kind for kind, _ in pieces] == ["same", "wrong", "missing", "same"]
    assert "".join(text for kind, text in pieces if kind != "missing") == predicted
    assert formats.word_difference("", "a b") == [("missing", "a b")]


LOOPS = {
    "two words": ("a b " * 4_000, "b a a " * 3_000),
    "a schema": ('{"type": "string"}, ' * 2_000, '{"type": "integer"}, ' * 2_000),
    "one word": ("x " * 30_000, "x " * 20_000),
    "spaces": (" " * 200_000, "\n" * 200_000),
    "all different": (" ".join(map(str, range(50_000))), " ".join(map(str, range(50_000, 0, -1)))),
}


@pytest.mark.parametrize("name", LOOPS)
def test_looping_answers_are_compared_in_a_moment(name: str) -> None:
    predicted, real = LOOPS[name]
    begun = time.process_time()
    pieces = formats.word_difference(predicted, real)
    assert time.process_time() - begun < 5
    assert "".join(text for kind, text in pieces if kind != "missing") == predicted.rstrip()
    assert "".join("".join(text for kind, text in pieces if kind != "wrong").split()) == "".join(real.split())


def test_the_difference_of_a_loop_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pieces by either way: a loop that is cut, in the middle of what both have."""
    predicted, real = "Now a b a b a b stop here.", "Now a b a b stop there."
    expected = [
        ("same", "Now a b a b"), ("wrong", " a b"), ("same", " stop"), ("wrong", " here"), ("missing", " there"),
        ("same", "."),
    ]  # fmt: skip
    assert formats.word_difference(predicted, real) == expected
    monkeypatch.setattr(formats, "CHEAP_PAIRS", 0)
    assert formats.word_difference(predicted, real) == expected
    assert formats.word_difference("", "a b") == [("missing", "a b")]
    assert formats.word_difference("a a", "a a a") == [("same", "a a"), ("missing", " a")]


def test_a_common_subsequence_is_a_longest_one() -> None:
    """Against the textbook's table, on random words."""
    draw = random.Random(0)
    for _ in range(60):
        ours, theirs = ([draw.choice("abc") for _ in range(draw.randrange(12))] for _ in range(2))
        table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
        for i, word in enumerate(ours):
            for j, other in enumerate(theirs):
                table[i + 1][j + 1] = table[i][j] + 1 if word == other else max(table[i][j + 1], table[i + 1][j])
        pairs = formats.common_subsequence(ours, theirs)
        assert len(pairs) == table[-1][-1]
        assert all(ours[i] == theirs[j] for i, j in pairs)
        assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))


def test_figures_are_written_for_people() -> None:
    assert [formats.number(x) for x in (1234567, 0.1234, 12.0, True, None, "x")] == [
        "1,234,567", "0.123", "12", "yes", "–", "x",
    ]  # fmt: skip


def test_markdown_tables() -> None:
    header, rows = ["kind", "n"], [["a|b", "1"], ["longer", "1,000"]]
    assert formats.markdown_table(header, rows).splitlines() == [
        "| kind | n |",
        "| --- | ---: |",
        r"| a\|b | 1 |",
        "| longer | 1,000 |",
    ]
    assert formats.markdown_table(header, rows, aligned=True).splitlines() == [
        "| kind   |     n |",
        "| ------ | ----: |",
        r"| a\|b   |     1 |",
        "| longer | 1,000 |",
    ]


def test_every_stage_of_the_chain_has_a_title() -> None:
    assert set(formats.TITLES) == set(CHAIN) - {"report"}
