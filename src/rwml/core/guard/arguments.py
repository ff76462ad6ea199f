"""Arguments of the library door: what is refused before any work."""

from __future__ import annotations

import math

from rwml.core.errors import RwmlError


def at_least(name: str, value: float, least: int) -> None:
    """RwmlError for a smaller value, and for NaN and infinity."""
    if not (math.isfinite(value) and value >= least):
        raise RwmlError(f"{name} = {value}", "it would mean nothing", f"give {least} or more")


def of_kind(name: str, value: object, kind: type, example: str) -> None:
    """RwmlError for a value of another class, with an example of what to give."""
    if not isinstance(value, kind):
        raise RwmlError(f"{name} is {value!r}", f"it has to be a {kind.__name__}", f"give {example}")
