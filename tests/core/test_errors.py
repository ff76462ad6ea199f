"""An error has three parts, which survive a copy to another process, and a misspelt name gets the nearest one."""

from __future__ import annotations

import copy

from rwml.core.errors import RwmlError, nearest


def test_an_error_says_what_why_and_what_to_do() -> None:
    error = RwmlError("there is no file 'x'", "a stage reads it", "run the stage before")
    assert str(error) == "there is no file 'x'\n  why it matters: a stage reads it\n  what to do: run the stage before"
    again = copy.copy(error)  # by __reduce__, as between processes
    assert again is not error
    assert (str(again), again.what, again.why, again.fix) == (str(error), error.what, error.why, error.fix)


def test_the_nearest_name_comes_first_and_all_are_listed() -> None:
    assert nearest("rogue", ["exact", "rouge"]) == "did you mean 'rouge'? (known: exact, rouge)"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "known: none"
