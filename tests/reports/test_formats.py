"""Words, numbers and tables of the reports."""

from __future__ import annotations

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
