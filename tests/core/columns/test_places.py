"""Places of histories, by hand and against the histories that they stand for."""

from __future__ import annotations

import random

import pytest

from rwml.core.columns.places import COLUMNS, PlaceReader, PlaceWriter


def test_a_text_is_held_once_and_a_window_moves_over_it() -> None:
    whole, window = PlaceWriter(), PlaceWriter()
    texts = [f"{word}{n}" for n in range(3) for word in ("go ", "at ")]
    assert [whole.place("e", n, texts[: 2 * n]) for n in range(4)] == [
        ([], 0, 0), (["go 0", "at 0"], 0, 2), (["go 1", "at 1"], 0, 4), (["go 2", "at 2"], 0, 6),
    ]  # fmt: skip
    assert [window.place("e", n, texts[max(0, 2 * n - 2) : 2 * n]) for n in range(4)] == [
        ([], 0, 0), (["go 0", "at 0"], 0, 2), (["go 1", "at 1"], 2, 4), (["go 2", "at 2"], 4, 6),
    ]  # fmt: skip


def test_rows_out_of_order_and_branches_find_the_texts_of_their_episode() -> None:
    writer, texts = PlaceWriter(), ["a", "A", "b", "B"]
    assert writer.place("e", 2, tuple(texts)) == (texts, 0, 4)
    assert writer.place("other", 0, ()) == ([], 0, 0)
    assert writer.place("e", 1, ("a", "A")) == ([], 0, 2), "an earlier step, after rows of another episode"
    assert writer.place("e", 2, tuple(texts)) == ([], 0, 4), "a branch at the same step"
    assert writer.place("e", 1, ("a", "X")) == (["a", "X"], 4, 6), "another course of the same id"
    assert writer.place("e", 2, ("a", "X", "b", "Y")) == (["b", "Y"], 4, 8)


def test_a_history_that_begins_in_mid_episode_has_a_place_too() -> None:
    writer = PlaceWriter()
    assert writer.place("e", 7, ("g", "G")) == (["g", "G"], 0, 2)
    assert writer.place("e", 8, ("h", "H")) == (["h", "H"], 2, 4)
    assert writer.place("e", 20, ("t", "T")) == (["t", "T"], 4, 6)
    assert writer.place("e", 21, ("t", "T", "u", "U")) == (["u", "U"], 4, 8)


def test_any_histories_come_back() -> None:
    draw = random.Random(0)
    for _ in range(300):
        texts = [draw.choice("aab") for _ in range(12)]
        rows = []
        for _ in range(draw.randrange(1, 20)):
            start = draw.randrange(0, 7)
            stop = draw.randrange(start, 7)
            rows.append((draw.choice(("e", "f")), draw.randrange(0, 9), tuple(texts[2 * start : 2 * stop])))
        writer, reader, shared = PlaceWriter(), PlaceReader(), PlaceWriter()
        for episode, step, history in rows:
            row = dict(zip(COLUMNS, writer.place(episode, step, history), strict=True))
            assert reader.history(episode, row) == history == shared.shared(episode, step, history)


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (2, 1)])
def test_a_place_that_is_not_there_is_no_history(start: int, stop: int) -> None:
    row = dict(zip(COLUMNS, (["a", "A"], start, stop), strict=True))
    with pytest.raises(ValueError, match=f"episode 'e' has the history {start}:{stop} of 2 texts"):
        PlaceReader().history("e", row)
