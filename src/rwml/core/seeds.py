"""The one scheme of seeds: every source of chance is seeded with a hash of its purpose.

Parts say the purpose, from the run's seed to the step or the row: `generator_for(seed, "train_wm", step)`. Two purposes
never share a stream, and a resumed stage draws the same values as an uninterrupted one. Equal parts give equal draws on
every machine. docs/concepts/seeds.md lists the three draws that are equal in every run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from rwml.core.types import Transition

if TYPE_CHECKING:
    import torch


def lot(*parts: object) -> bytes:
    """A hash of the parts, 32 bytes: sorting by it gives an arbitrary order that never changes."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()


def seed_of(*parts: object) -> int:
    """A seed within [0, 2**56)."""
    return int.from_bytes(lot(*parts)[:7], "big")


def share_of(*parts: object) -> float:
    """A number within [0, 1): `share_of(seed, purpose, id) < p` picks a share p of the ids."""
    return seed_of(*parts) / 2**56


def generator_for(*parts: object) -> torch.Generator:
    """A generator of torch, on the CPU."""
    import torch

    return torch.Generator().manual_seed(seed_of(*parts))


def numpy_for(*parts: object) -> np.random.Generator:
    """A generator of numpy."""
    return np.random.default_rng(seed_of(*parts))


def random_for(*parts: object) -> random.Random:
    """A generator of Python's own, which hashes the joined parts itself."""
    return random.Random("/".join(map(str, parts)))


def chosen_rows(rows: Iterable[Transition], count: int) -> list[Transition]:
    """`count` of the rows in the order of the lots of their ids; no next state comes twice."""
    chosen: list[Transition] = []
    truths: set[str] = set()
    for row in sorted(rows, key=lambda row: lot(row.id)):
        if len(chosen) < count and row.next_state not in truths:
            chosen.append(row)
            truths.add(row.next_state)
    return chosen
