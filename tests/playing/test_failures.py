"""Failed episodes as they are counted and said."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from made import hand_episode
from rwml.core.errors import RwmlError
from rwml.core.types import Episode, StopReason
from rwml.playing.failures import count_failures, failures, refuse_if_all_failed, say_failures

WHOLE = hand_episode(("look", "a room"))
SHUT = str(RwmlError("it is shut", "nobody can play", "open it"))


def failed(error: str) -> Episode:
    return replace(WHOLE, stop=StopReason.ERROR, error=error)


def test_reasons_are_counted_and_the_most_frequent_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    episodes = [WHOLE, *[failed("b")] * 2, *[failed("a")] * 2, failed("c"), failed("d"), failed(SHUT)]
    reasons = failures(episodes)
    assert reasons == Counter({"a": 2, "b": 2, "c": 1, "d": 1, "it is shut": 1})
    counts: dict[str, float] = {"episodes": 8}
    count_failures(counts, reasons)
    assert counts == {"episodes": 8, "failed, a": 2, "failed, b": 2, "failed, c": 1}
    say_failures("collect", reasons, 8)
    assert capsys.readouterr().err == "collect: 7 of 8 episodes failed: 2 x a; 2 x b; 1 x c; and 2 more reasons\n"
    say_failures("collect", failures([WHOLE]), 1)
    assert capsys.readouterr().err == ""


def test_a_reason_is_one_short_line_that_a_terminal_only_shows() -> None:
    assert failures([failed("\n\x1b[31mred\x07\ud83d\nmore")]) == Counter({r"\x1b[31mred\x07\ud83d": 1})
    [long] = failures([failed("x" * 5000)])
    assert long == f"{'x' * 300}... (5,000 characters)"


def test_only_where_all_failed_it_is_an_error() -> None:
    refuse_if_all_failed([], "again")
    refuse_if_all_failed([WHOLE, failed("a")], "again")
    with pytest.raises(RwmlError) as caught:
        refuse_if_all_failed([failed("a"), failed("b"), failed("b")], "then play again")
    assert caught.value.what == "all 3 episodes failed, 2 of them so: b"
    assert caught.value.fix == "mend the world (`rwml worlds check` names its faults); then play again"
    with pytest.raises(RwmlError) as caught:
        refuse_if_all_failed([failed(SHUT)], "then play again")
    assert (caught.value.what, caught.value.fix) == (
        "all 1 episodes failed, 1 of them so: it is shut", "open it; then play again",
    )  # fmt: skip
