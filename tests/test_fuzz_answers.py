"""A seeded search through everything that reads a model's, a tool's or a user's text."""

from __future__ import annotations

import pytest

import fuzz_answers
from fuzz_answers import answer_faults

pytestmark = pytest.mark.slow  # thousands of texts


def test_no_text_ends_in_an_exception_or_takes_long() -> None:
    calls, faults = answer_faults(60, seed=3)
    assert faults == []
    assert calls > 60 * 30


def test_the_search_sees_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_answers, "RULES", [lambda text, vocabulary: text[10**9]])
    _, faults = answer_faults(2)
    assert len([fault for fault in faults if "edit <lambda>: IndexError" in fault]) == 2
