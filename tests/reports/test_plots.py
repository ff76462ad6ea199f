"""Curves and bands, by hand and as bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.reports.plots import Panel, band_of, curve_svg, moving_average, write_png


def test_moving_average_by_hand() -> None:
    assert moving_average([0, 3, 6, 9], window=3) == [1.5, 3.0, 6.0, 7.5]


@pytest.mark.slow
def test_drawings_are_the_same_bytes_twice(tmp_path: Path) -> None:
    panel = Panel("World model: Reward", range(20), [i / 40 for i in range(20)], ((0.1, "low"),), share=True)
    assert curve_svg(panel) == curve_svg(panel)
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, [panel])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_band_over_seeds_by_hand() -> None:
    # Windows of 9 are wider than the curves: the average at a step is over all that is within 4 steps of it.
    band = band_of("x", [([1, 2, 3], [0.0, 3.0, 6.0]), ([1, 2, 3, 4], [1.0, 1.0, 1.0, 1.0])])
    assert band.steps == [1, 2, 3]
    assert (band.middle, band.low, band.high) == ([2.0] * 3, [1.0] * 3, [3.0] * 3)
