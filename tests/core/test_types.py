"""A history is the tuple of its texts, without a copy of them."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace

import pytest

from rwml.core.types import History, Transition

TEXTS = ["a", "A", "b", "B", "c", "C"]
PLAIN = ("b", "B", "c", "C")


def test_it_equals_the_tuple_in_every_order() -> None:
    view, same = History(TEXTS, 2, 6), History(["x", *PLAIN], 1, 5)
    for other in (PLAIN, same, History(TEXTS, 2, 6)):
        assert view == other
        assert other == view
        assert hash(view) == hash(other)
        assert repr(view) == repr(other)
    for other in (PLAIN[:3], (*PLAIN[:3], "D"), History(TEXTS, 0, 4), list(PLAIN)):
        assert view != other
        assert other != view


@pytest.mark.parametrize(
    "key",
    [slice(None), slice(None, None, 2), slice(1, None, 2), slice(-2, None, -2), slice(None, None, -2), slice(-3, 9),
     slice(3, 1), slice(None, -1)],
)  # fmt: skip
def test_its_slices_are_the_tuples(key: slice) -> None:
    cut = History(TEXTS, 2, 6)[key]
    assert type(cut) is tuple
    assert cut == PLAIN[key]


def test_it_is_read_like_the_tuple() -> None:
    view = History(TEXTS, 2, 6)
    assert [view[n] for n in (0, 3, -1, -4)] == ["b", "C", "C", "b"]
    for outside in (4, -5):
        with pytest.raises(IndexError):
            view[outside]
    assert (len(view), list(view), list(reversed(view))) == (4, list(PLAIN), list(reversed(PLAIN)))
    assert ("a" in view, "B" in view, view.index("c"), view.count("C")) == (False, True, 2, 1)
    assert view.__add__(("d",)) == (*PLAIN, "d")
    assert view.__radd__(("x",)) == ("x", *PLAIN)
    assert not History(TEXTS, 3, 3)


def test_texts_that_come_later_change_nothing() -> None:
    texts = ["a", "A"]
    first = History(texts, 0, 2)
    texts += ["b", "B"]
    assert (first, first[::-1], first[-1]) == (("a", "A"), ("A", "a"), "A")


def test_a_place_outside_the_texts_is_refused() -> None:
    with pytest.raises(AssertionError, match="no stretch 0:7 of 6 texts"):
        History(TEXTS, 0, 7)


def test_copies_leave_the_rest_of_the_episode_behind() -> None:
    view = History(TEXTS, 2, 6)
    row = Transition("e@3", "e", "t", "train", 3, "open", view, "d", "D", "text", "d", True, False)
    for history in (copy.copy(view), copy.deepcopy(view), asdict(row)["history"]):
        assert type(history) is tuple
        assert history == PLAIN
    plain = replace(row, history=PLAIN)
    assert (row, hash(row)) == (plain, hash(plain))
    assert row.query.history is view
