"""The easy filter's calibration against brute force, and the rule that carries tau_d over to training."""

from __future__ import annotations

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.rewards.thresholds import TAU_D_GRID, calibrate, paper_tau_d

# Ten transitions, four predictions each: by row, how many are within 0.1 and how many within 0.3.
HITS = [(0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 2), (0, 4), (1, 4), (2, 4), (4, 4)]


def distances_of(hits: list[tuple[int, int]]) -> np.ndarray:
    return np.array([[0.05] * near + [0.2] * (mid - near) + [0.9] * (4 - mid) for near, mid in hits], dtype=np.float32)


def test_one_hit_is_enough_and_tau_d_is_the_first_knob() -> None:
    chosen = calibrate(distances_of(HITS), 0.3)
    # 3 of 10 have a hit for every tau_d in (0.05, 0.2], 7 of 10 above, none below; 0.1 is the paper's.
    assert (chosen.tau_d, chosen.tau_easy, chosen.easy_share, chosen.on_target) == (0.1, 0.0, 0.3, True)
    assert chosen.hits_histogram == (7, 1, 1, 0, 1)
    assert [chosen.is_easy(rate) for rate in (0.0, 0.25, 0.5, 1.0)] == [False, True, True, True]
    assert len(chosen.candidates) == len(TAU_D_GRID) * 4
    shares = {(c.tau_d, c.tau_easy): c.easy_share for c in chosen.candidates}
    assert (shares[0.02, 0.0], shares[0.1, 0.5], shares[0.3, 0.0], shares[0.3, 1.0]) == (0.0, 0.2, 0.7, 0.4)
    assert chosen.as_json()["hits_histogram"] == (7, 1, 1, 0, 1)


def test_tau_easy_is_raised_where_tau_d_cannot_reach_the_target() -> None:
    # Half of the rows are exact at least once: no tau_d gets below 50%.
    rows = np.full((10, 4), 0.9, dtype=np.float32)
    rows[:5, :1] = 0.0
    rows[:3, :3] = 0.0
    chosen = calibrate(rows, 0.3)
    # One hit 50%, two hits 30%, three hits 30%, four 0%: the least that reaches the target is two in four.
    assert (chosen.tau_d, chosen.tau_easy, chosen.easy_share, chosen.on_target) == (0.1, 0.5, 0.3, True)
    assert [chosen.is_easy(rate) for rate in (0.25, 0.5, 0.75)] == [False, True, True]


def test_an_unreachable_target_gives_the_nearest_share_and_says_so() -> None:
    nothing = calibrate(np.full((4, 3), 2.0), 0.3)
    assert (nothing.tau_d, nothing.tau_easy, nothing.easy_share, nothing.on_target) == (0.1, 0.0, 0.0, False)
    assert nothing.hits_histogram == (4, 0, 0, 0)
    everything = calibrate(np.zeros((4, 3)), 0.3)
    assert (everything.easy_share, everything.on_target) == (1.0, False)


def test_thresholds_that_a_recipe_fixes_stay() -> None:
    distances = distances_of(HITS)
    fixed = calibrate(distances, 0.3, tau_d=0.3)
    assert (fixed.tau_d, fixed.tau_easy, fixed.easy_share) == (0.3, 0.75, 0.4)
    both = calibrate(distances, 0.3, tau_d=0.1, tau_easy=0.5)
    assert (both.tau_d, both.tau_easy, both.easy_share, both.on_target) == (0.1, 0.5, 0.2, False)
    assert len(both.candidates) == 1
    easy = calibrate(distances, 0.3, tau_easy=1.0)
    assert (easy.tau_easy, easy.easy_share) == (1.0, 0.4)
    assert easy.tau_d == 0.22


def test_calibration_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    for target in (0.05, 0.3, 0.5, 0.9):
        distances = rng.beta(0.5, 1.5, size=(57, 10)) * rng.choice([0.2, 0.5, 1.0], size=(57, 1))
        chosen = calibrate(distances, target)
        one_hit = {tau: sum(any(d < tau for d in row) for row in distances) / 57 for tau in TAU_D_GRID}
        reach = min(abs(share - target) for share in one_hit.values())
        everywhere = min(abs(candidate.easy_share - target) for candidate in chosen.candidates)
        assert {c.tau_d: c.easy_share for c in chosen.candidates if c.tau_easy == 0.0} == pytest.approx(one_hit)
        if reach <= 0.05:
            assert chosen.tau_easy == 0.0
            assert abs(chosen.easy_share - target) == pytest.approx(reach)
        else:
            assert abs(chosen.easy_share - target) <= max(0.05, everywhere) + 1e-9
        rates = (distances < chosen.tau_d).mean(axis=1)
        assert np.mean([chosen.is_easy(float(rate)) for rate in rates]) == pytest.approx(chosen.easy_share)
        assert sum(chosen.hits_histogram) == 57
        assert chosen.hits_histogram[3] == sum(round(rate * 10) == 3 for rate in rates)


def test_three_tenths_of_ten_are_three_hits() -> None:
    rows = np.full((2, 10), 0.9)
    rows[0, :3] = 0.0
    rows[1, :2] = 0.0
    chosen = calibrate(rows, 0.3, tau_d=0.1, tau_easy=0.1 + 0.2)
    assert chosen.easy_share == 0.5
    assert chosen.is_easy(0.3)
    assert not chosen.is_easy(0.2)


def test_nothing_to_calibrate_on_is_an_error() -> None:
    with pytest.raises(RwmlError, match="no predictions to go by") as error:
        calibrate(np.empty((0, 10)), 0.3)
    assert "filter.enabled = false" in error.value.fix


def test_training_tau_d_follows_the_paper() -> None:
    assert paper_tau_d(0.1) == 0.2  # ALFWorld
    assert paper_tau_d(0.15) == 0.4  # tau2-bench
    given = [0.001, 0.02, 0.05, 0.14, 0.34, 0.35, 0.5]
    assert [paper_tau_d(tau) for tau in given] == [0.2, 0.2, 0.2, 0.2, 0.4, 0.6, 0.6]
