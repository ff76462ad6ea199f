"""Intervals: by hand, against the enumeration of every resample, and how often they cover the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rwml.measure.figures.bootstrap import bootstrap_mean, compare, paired_difference


def test_interval_of_two_clusters_is_worked_by_hand() -> None:
    # Resampled means are 0, 0.5 and 1 with probabilities 1/4, 1/2 and 1/4, whatever the number of rows.
    measured = bootstrap_mean([0, 0, 0, 1, 1, 1], ["a", "a", "a", "b", "b", "b"], 4000, seed=3)
    assert (measured.mean, measured.low, measured.high) == (0.5, 0.0, 1.0)
    assert (measured.n, measured.clusters) == (6, 2)


def test_interval_equals_the_enumeration_of_every_resample() -> None:
    rows = {"a": [1.0], "b": [4.0, 6.0], "c": [2.0, 2.0, 11.0], "d": [0.0, 3.0]}
    exact = sorted(
        float(np.mean([value for name in drawn for value in rows[name]]))
        for drawn in itertools.product(rows, repeat=len(rows))
    )
    values = [value for group in rows.values() for value in group]
    clusters = [name for name, group in rows.items() for _ in group]
    measured = bootstrap_mean(values, clusters, 60_000, seed=0)
    assert measured.mean == pytest.approx(29 / 8)
    assert measured.low == pytest.approx(np.quantile(exact, 0.025), abs=0.06)
    assert measured.high == pytest.approx(np.quantile(exact, 0.975), abs=0.06)


def test_repeated_rows_of_a_task_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).random(30)
    once = bootstrap_mean(values, range(30), 500, seed=1)
    ten_times = bootstrap_mean(np.repeat(values, 10), np.repeat(np.arange(30), 10).tolist(), 500, seed=1)
    assert (ten_times.low, ten_times.high) == (pytest.approx(once.low), pytest.approx(once.high))
    as_if_independent = bootstrap_mean(np.repeat(values, 10), range(300), 500, seed=1)
    assert as_if_independent.high - as_if_independent.low < 0.5 * (once.high - once.low)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        levels = rng.normal(0.0, 1.0, 40)
        values = np.repeat(levels, 4) + rng.normal(0.0, 0.5, 160)
        measured = bootstrap_mean(values, np.repeat(np.arange(40), 4).tolist(), 400, seed=trial)
        covered += measured.low <= 0.0 <= measured.high
    assert 0.90 <= covered / 300 <= 0.98


def test_same_seed_same_interval_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = np.arange(50.0), [i // 2 for i in range(50)]
    whole = bootstrap_mean(values, clusters, 1000, seed=5)
    assert whole == bootstrap_mean(values, clusters, 1000, seed=5)
    monkeypatch.setattr("rwml.measure.figures.bootstrap._CELLS", 25 * 7)
    assert bootstrap_mean(values, clusters, 1000, seed=5) == whole


def test_too_little_data_says_so_instead_of_a_narrow_interval() -> None:
    nothing = bootstrap_mean([], [], 100)
    assert math.isnan(nothing.mean)
    assert nothing.as_json() == {"mean": None, "low": None, "high": None, "n": 0, "clusters": 0}
    one_task = bootstrap_mean([0.0, 1.0], ["a", "a"], 100)
    assert one_task.as_json() == {"mean": 0.5, "low": None, "high": None, "n": 2, "clusters": 1}


def test_paired_difference_cancels_how_hard_a_task_is() -> None:
    hardness = np.random.default_rng(0).random(25)
    shifted = paired_difference(hardness, hardness + 0.1, range(25), 300)
    assert shifted.low == pytest.approx(0.1)
    assert shifted.high == pytest.approx(0.1)
    assert bootstrap_mean(hardness, range(25), 300).high > bootstrap_mean(hardness, range(25), 300).low + 0.1


def test_compare_pairs_by_key_and_counts_what_has_no_partner() -> None:
    before = {"t1": (0.0, "a"), "t2": (1.0, "b"), "only before": (1.0, "c")}
    after = {"t2": (1.0, "b"), "t1": (1.0, "a")}
    assert compare(before, after, 4000) == {
        "before": 0.5, "after": 1.0, "difference": 0.5, "interval": [0.0, 1.0],
        "n": 2, "clusters": 2, "unpaired": 1,
    }  # fmt: skip
    assert compare({"x": (1.0, "a")}, {"y": (1.0, "a")})["before"] is None
