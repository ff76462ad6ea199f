"""What the report's examples show of an answer."""

from __future__ import annotations

import pytest

from rwml.reports.run_examples import _thought


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think> find mug</think><action>look</action>", "find mug"),
        ("find mug\n</think>\n\n<action>look</action>", "find mug"),
        ("<think>find mug, then", "find mug, then"),
        ("<action>look</action>", ""),
    ],
)
def test_the_thought_of_an_answer(text: str, shown: str) -> None:
    assert _thought(text) == shown
