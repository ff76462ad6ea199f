"""Cheats of a batch by hand, and the alarm of training on real sequences."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.records import MetricsLog
from rwml.core.types import Transition
from rwml.train.drift import COLLAPSE_SHARE, DriftWatch, cheat_share, find_cheats

DESK = "You arrive at desk 1. On the desk 1, you see a mug 2, and a pen 3."
NOTHING = "Nothing happens."


def transition(next_state: str, action: str = "go to desk 1", history: tuple[str, ...] = ()) -> Transition:
    return Transition("e@0", "e", "t", "train", 0, "opening", history, action, next_state, "text", "go", True, True)


def test_cheats_of_a_batch_by_hand() -> None:
    seen = ("look", "You see a bed 1.")
    asked = [transition(f"You arrive at desk {number}.", f"go to desk {number}", seen) for number in range(8)]
    answers: list[str | None] = [
        "You arrive at desk 0.",  # right
        "You see a  bed 1.",  # the last observation
        "go to desk 2",  # the action
        "The observation will describe the contents of desk 3.",
        None,
        "You arrive at desk 9.",  # plainly wrong
        "You arrive at desk 9.",
        "You arrive at desk 8.",
    ]
    assert find_cheats(answers, asked) == ["", "copied", "copied", "generic", "", "", "", ""]
    assert cheat_share(answers, asked) == 3 / 8
    # A third wrong answer of one text makes 3 of 8, more than a quarter.
    answers[7] = "You arrive at  desk 9."
    assert 2 / 8 <= COLLAPSE_SHARE < 3 / 8
    assert find_cheats(answers, asked)[5:] == ["collapsed"] * 3
    assert cheat_share(answers, asked) == 6 / 8
    # Where it is the real answer, it is right: given for two other states only, it is no collapse; for three it is.
    asked[7] = transition("You arrive at desk 9.", "go to desk 9", seen)
    assert find_cheats(answers, asked)[4:] == ["", "", "", ""]
    answers[4] = "You arrive at desk 9."
    assert find_cheats(answers, asked)[4:] == ["collapsed", "collapsed", "collapsed", ""]
    assert cheat_share([], []) == 0.0


def test_copying_and_generic_words_are_no_cheats_where_they_are_right() -> None:
    still = transition(NOTHING, "open desk 1", ("go to desk 1", NOTHING))
    deck = transition("The observation deck is closed. I will show you various things.")
    rows = [still, deck, deck]
    assert find_cheats([NOTHING, deck.next_state, "The observation deck is open."], rows) == ["", "", ""]
    assert find_cheats(["opening", None, None], [transition(DESK)] * 3) == ["copied", "", ""]


def play_steps(watch: DriftWatch, shares: list[float]) -> list[float]:
    """Steps of 20 questions, of which that share is answered with the same wrong text."""
    rows = [transition(f"You arrive at desk {number}.", f"go to desk {number}") for number in range(20)]
    measured = []
    for share in shares:
        bad = round(20 * share)
        measured.append(watch.share([NOTHING if n < bad else f"You see bed {n}." for n in range(20)], rows))
    return measured


def test_the_alarm_speaks_once_when_answers_collapse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = DriftWatch(0.25, MetricsLog(tmp_path / "metrics.jsonl"))
    # 0.2 of one text is below a quarter: no collapse.
    assert play_steps(watch, [0.0, 0.0, 0.2, 0.0, 0.0, 0.4, 0.4]) == [0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.4]
    assert capsys.readouterr().err == ""
    play_steps(watch, [0.5])  # the last five: 0, 0, 0.4, 0.4, 0.5 = 0.26
    warning = capsys.readouterr().err
    assert warning.count("warning: 26% of the answers") == 1
    assert NOTHING in warning
    assert all(part in warning for part in ("up to step 8", "first steps: 0%", "why it matters", "what to do"))
    play_steps(watch, [0.9] * 5)
    assert capsys.readouterr().err == ""


def test_the_alarm_is_silent_while_nothing_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    play_steps(DriftWatch(0.25, log), [0.5] * 8 + [0.6] * 5)  # so from the start, and a tenth more is not above GROWTH
    play_steps(DriftWatch(1.0, log), [0.0] * 5 + [1.0] * 5)  # switched off
    assert capsys.readouterr().err == ""


def test_the_alarm_remembers_the_steps_before_a_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(6):
        log.append({"stage": "train_wm", "step": step + 1, "cheat_share": 0.0})
        log.append({"stage": "filter", "step": step + 1, "cheat_share": 1.0})
    watch = DriftWatch(0.25, log)
    play_steps(watch, [0.6] * 3)
    assert "36% of the answers" in capsys.readouterr().err
    play_steps(DriftWatch(0.25, MetricsLog(tmp_path / "other.jsonl")), [0.6] * 3)
    assert capsys.readouterr().err == ""
