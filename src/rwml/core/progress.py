"""Progress: a bar with rate and time left on a terminal, an occasional plain line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from rwml.core.text import printable

PLAIN_EVERY_S = 10.0


def note(text: str) -> None:
    """Say something on stderr, above the bar if one is shown. Control characters, which data may hold, are escaped."""
    print(printable(text), file=sys.stderr, flush=True)


_LISTENERS: list[Callable[[], None]] = []


@contextmanager
def on_advance(listener: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `listener` is called whenever a bar of this process has moved on."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def _tell_listeners() -> None:
    for listener in _LISTENERS:
        listener()


class Bar(Protocol):
    """What `progress` gives."""

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Count `n` more; `fields` (reward=0.31, ...) are shown until others replace them."""


@contextmanager
def progress(
    description: str,
    total: int | None = None,
    unit: str = "steps",
    done: int = 0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Bar]:
    """Show how far a loop is, on stderr.

    total: None = unknown. done: how many were there before (a resumed stage); progress, but not speed.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _rich_bar(description, total, unit, done, stream) as bar:
            yield bar
        return
    plain = _PlainBar(description, total, unit, done, stream, clock)
    plain.line()
    yield plain
    plain.finish()


class _PlainBar:
    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        done: int,
        stream: TextIO,
        clock: Callable[[], float],
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.before = done
        self.stream, self.clock = stream, clock
        self.started = self.shown = clock()
        self.fields: dict[str, float | int | str] = {}

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        self.done += n
        self.fields |= fields
        if self.clock() - self.shown >= PLAIN_EVERY_S:
            self.line()
        _tell_listeners()

    def line(self) -> None:
        self.shown = self.clock()
        seconds = self.shown - self.started
        parts = [_count(self.done, self.total, self.unit)]
        if self.done > self.before and seconds > 0:
            rate = (self.done - self.before) / seconds
            parts.append(f"{_rate(rate)} {self.unit}/s")
            if self.total is not None and self.done < self.total:
                parts.append(f"{clock_time((self.total - self.done) / rate)} left")
        self._print(parts)

    def finish(self) -> None:
        seconds = self.clock() - self.started
        self._print([f"{_count(self.done, self.total, self.unit)} in {clock_time(seconds)}"])

    def _print(self, parts: list[str]) -> None:
        shown = [f"{key}={_value(value)}" for key, value in self.fields.items()]
        line = printable(f"{self.description}: {', '.join(parts + shown)}")
        print(line.replace("\n", " "), file=self.stream, flush=True)


@contextmanager
def _rich_bar(description: str, total: int | None, unit: str, done: int, stream: TextIO) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{_rate(speed)} {unit}/s" if speed else "", style="dim")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]}", markup=False),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}", style="dim", markup=False),
    )

    class RichBar:
        def __init__(self, shown: Progress) -> None:
            self.shown, self.done = shown, done
            self.fields: dict[str, float | int | str] = {}
            self.task = shown.add_task(
                printable(description), total=total, completed=done, count=_count(done, total, unit), shown=""
            )

        def advance(self, n: int = 1, **fields: float | int | str) -> None:
            self.done += n
            self.fields |= fields
            text = " ".join(f"{key}={_value(value)}" for key, value in self.fields.items())
            self.shown.update(self.task, advance=n, count=_count(self.done, total, unit), shown=printable(text))
            _tell_listeners()

    with Progress(*columns, console=Console(file=stream), refresh_per_second=4) as shown:
        yield RichBar(shown)


def _count(done: int, total: int | None, unit: str) -> str:
    if total is None:
        return f"{done:,} {unit}"
    share = f" ({done / total:.0%})" if total else ""
    return f"{done:,}/{total:,} {unit}{share}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock_time(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS, for a bar that is watched."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
