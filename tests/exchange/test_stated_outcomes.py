"""Outcomes in words and numbers; those of no known form are counted and stay unsolved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rwml.exchange.stated_outcomes import stated_success


def read(record: dict[str, Any]) -> tuple[bool, dict[str, int]]:
    counts: Counter[str] = Counter()
    return stated_success(record, ("success", "reward"), counts), dict(+counts)


@pytest.mark.parametrize("value", [True, 1, 1.0, 2, "true", " TRUE ", "1", "1.0", "success", "Solved", "passed", "yes"])
def test_solved(value: Any) -> None:
    assert read({"success": value}) == read({"reward": value}) == (True, {})


@pytest.mark.parametrize("value", [False, 0, 0.99, -1, "False", "0", "0.5", "failed", "failure", "no", "Unsolved"])
def test_failed(value: Any) -> None:
    assert read({"success": value}) == read({"reward": value}) == (False, {})


@pytest.mark.parametrize(
    ("value", "form"),
    [("maybe", "a text"), ("", "a text"), ([1], "a list"), ({"value": 1}, "an object"), ("nan", "a text"),
     (float("inf"), "a number that is not finite"), (float("nan"), "a number that is not finite")],
)  # fmt: skip
def test_what_cannot_be_read_is_counted_with_its_form(value: Any, form: str) -> None:
    assert read({"success": value}) == (False, {f"outcomes that cannot be read: {form}": 1})
    assert read({"success": value, "reward": 1}) == (True, {})


def test_what_is_not_stated() -> None:
    assert read({"score": 1, "success": None}) == (False, {"outcomes that are not stated": 1})
