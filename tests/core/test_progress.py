"""Progress in a log: the first line, one at most every ten seconds, and the last; on a terminal: a bar."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from rwml.core.progress import clock_time, duration, note, on_advance, progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _clock(*times: float) -> Callable[[], float]:
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_plain_lines_show_count_rate_time_left_and_fields() -> None:
    stream, now = io.StringIO(), [0.0]
    with progress("collect", 40, "episodes", stream=stream, clock=lambda: now[0]) as bar:
        for second in range(1, 21):
            now[0] = float(second)
            bar.advance(2, reward=0.125, kind="pick")
    assert stream.getvalue().splitlines() == [
        "collect: 0/40 episodes (0%)",
        "collect: 20/40 episodes (50%), 2 episodes/s, 0:10 left, reward=0.125, kind=pick",
        "collect: 40/40 episodes (100%), 2 episodes/s, reward=0.125, kind=pick",
        "collect: 40/40 episodes (100%) in 0:20, reward=0.125, kind=pick",
    ]


def test_a_resumed_loop_counts_what_was_there_but_not_as_speed() -> None:
    stream = io.StringIO()
    with progress("train", 100, "steps", done=90, stream=stream, clock=_clock(0.0, 0.0, 20.0)) as bar:
        bar.advance(5)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train: 90/100 steps (90%)"
    assert lines[1] == "train: 95/100 steps (95%), 0.25 steps/s, 0:20 left"


def test_no_total_and_no_items() -> None:
    stream = io.StringIO()
    with progress("read", None, "files", stream=stream, clock=lambda: 0.0) as bar:
        bar.advance(1234)
    with progress("none", 0, "files", stream=stream, clock=lambda: 0.0):
        pass
    assert stream.getvalue().splitlines() == [
        "read: 0 files",
        "read: 1,234 files in 0:00",
        "none: 0/0 files",
        "none: 0/0 files in 0:00",
    ]


def test_an_error_leaves_no_closing_line() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), progress("x", 3, stream=stream, clock=lambda: 0.0):
        raise ZeroDivisionError
    assert stream.getvalue().splitlines() == ["x: 0/3 steps (0%)"]


def test_a_terminal_gets_a_bar_with_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    with progress("collect", 4, "episodes", stream=stream) as bar:
        bar.advance(3, reward=0.5)
    shown = stream.getvalue()
    assert "collect" in shown
    assert "3/4 episodes (75%)" in shown
    assert "reward=0.5" in shown


@pytest.mark.parametrize("stream", [io.StringIO(), _Terminal()])
def test_listeners_hear_of_every_advance(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    heard: list[str] = []
    with progress("x", 3, stream=stream) as bar:
        with on_advance(lambda: heard.append("a")), on_advance(lambda: heard.append("b")):
            bar.advance()
            bar.advance(2)
        bar.advance()
    assert heard == ["a", "b", "a", "b"]


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("warning: x")
    assert capsys.readouterr() == ("", "warning: x\n")


def test_seconds_as_a_clock_and_in_words() -> None:
    assert [clock_time(s) for s in (0, 59.6, 61, 3600, 7325)] == ["0:00", "1:00", "1:01", "1:00:00", "2:02:05"]
    assert [duration(s) for s in (3.21, 42, 561, 7200)] == ["3.2 s", "42 s", "9.3 min", "2.0 h"]


@pytest.mark.parametrize("terminal", [False, True])
def test_escapes_from_data_do_not_reach_the_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    note("a\x1b]0;title\x07b\u202ec\ud83d\nd\te")
    assert capsys.readouterr().err == "a\\x1b]0;title\\x07b\\u202ec\\ud83d\nd\te\n"
    stream = _Terminal() if terminal else io.StringIO()
    with progress("x\x1b[5m[red]y", 2, stream=stream) as bar:
        bar.advance(1, kind="\x1b]8;;evil\x1b\\z")
    shown = stream.getvalue()
    assert "x\\x1b[5m[red]y" in shown
    assert "kind=\\x1b]8;;evil\\x1b\\z" in shown
    assert "\x1b[5m" not in shown
    assert "\x1b]" not in shown
