"""A comparison in LaTeX."""

from __future__ import annotations

from rwml.reports import compare_page


def test_latex_signs() -> None:
    assert compare_page._tex("a_b & 5% ± τ_d −1") == r"a\_b \& 5\% $\pm$ $\tau_d$ $-$1"
