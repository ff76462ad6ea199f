"""The scheme of seeds: hand-made hashes, and that purposes share nothing."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from made import transition
from rwml.core.seeds import chosen_rows, generator_for, lot, numpy_for, random_for, seed_of, share_of


def test_seeds_are_the_first_seven_bytes_of_the_hash_of_what_they_are_for() -> None:
    digest = hashlib.sha256(b"7/train_wm/3").digest()
    assert lot(7, "train_wm", 3) == digest
    assert seed_of(7, "train_wm", 3) == int.from_bytes(digest[:7], "big") < 2**56
    assert share_of(7, "train_wm", 3) == seed_of(7, "train_wm", 3) / 2**56


def test_every_generator_starts_from_its_own_purpose() -> None:
    assert torch.equal(
        torch.rand(3, generator=generator_for(1, "a")),
        torch.rand(3, generator=torch.Generator().manual_seed(seed_of(1, "a"))),
    )
    assert numpy_for(1, "a").random() == np.random.default_rng(seed_of(1, "a")).random()
    assert random_for("scene", "tiny", 4).random() == random.Random("scene/tiny/4").random()
    draws = {numpy_for(1, purpose).random() for purpose in ("collect", "filter", "train_wm", "train_policy")}
    assert len(draws) == 4


def test_a_share_of_the_ids_is_picked() -> None:
    picked = sum(share_of(0, "keep", n) < 0.3 for n in range(10_000))
    assert abs(picked / 10_000 - 0.3) < 4 * (0.3 * 0.7 / 10_000) ** 0.5


def test_rows_are_chosen_by_lot_and_no_truth_comes_twice() -> None:
    rows = [transition(f"r{n}", "t") for n in range(5)]
    assert chosen_rows(rows, 5) == [min(rows, key=lambda row: hashlib.sha256(row.id.encode()).hexdigest())]
