"""The one error that users see, and the spelling help that its messages use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rwml.core.guard.shown import without_secrets


class RwmlError(Exception):
    """A mistake that a user can mend. what: the fault and the wrong value. why: its consequence. fix: the remedy.

    A key of this process is in none of them: messages are printed and written into files.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        self.what, self.why, self.fix = map(without_secrets, (what, why, fix))
        super().__init__(f"{self.what}\n  why it matters: {self.why}\n  what to do: {self.fix}")

    def __reduce__(self) -> tuple[type[RwmlError], tuple[str, str, str]]:
        return type(self), (self.what, self.why, self.fix)


class NotFiniteError(RwmlError):
    """NaN or infinity where a computation needs a number. A training that meets it stops, and says at which step."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? " for the closest known name, else the list of known names."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'? (known: {', '.join(options)})"
    return f"known: {', '.join(options) or 'none'}"
