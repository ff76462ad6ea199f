"""Thresholds of the easy filter and of the training reward (RWML, steps 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwml.core.errors import RwmlError

TAU_D_GRID = tuple(round(0.02 * step, 2) for step in range(1, 16))
# Ties go to the threshold nearest to the paper's data-stage value on ALFWorld.
PAPER_TAU_D = 0.1
SHARE_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pair of thresholds and the share of the transitions that it calls easy."""

    tau_d: float
    tau_easy: float
    easy_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The easy filter's thresholds, and the evidence for them.

    num_predictions: K. hits_histogram: number of transitions with 0, 1, ... K predictions within `tau_d` (K + 1 counts;
    pass rate = hits / K). on_target: `easy_share` is within `SHARE_TOLERANCE` of `target_share`.
    candidates: every pair of thresholds that was looked at.
    """

    tau_d: float
    tau_easy: float
    easy_share: float
    target_share: float
    on_target: bool
    num_predictions: int
    hits_histogram: tuple[int, ...]
    candidates: tuple[Candidate, ...]

    def is_easy(self, pass_rate: float) -> bool:
        """Whether a transition with this share of hits among its K predictions is easy."""
        return round(pass_rate * self.num_predictions) >= _hits_needed(self.tau_easy, self.num_predictions)

    def as_json(self) -> dict[str, Any]:
        """All fields, for files and the report."""
        return asdict(self)


def calibrate(
    distances_NK: NDArray[np.floating],
    target_share: float,
    tau_d: float | None = None,
    tau_easy: float | None = None,
    grid: Sequence[float] = TAU_D_GRID,
) -> Calibration:
    """Choose the thresholds of the easy filter from K predictions of each of N transitions (RWML).

    A transition is easy when the share of its predictions with d < tau_d reaches tau_easy; tau_easy = 0.0 means "at
    least one hit in K" (with `>=` alone it would make everything easy). tau_d is the first knob, as in the paper, with
    tau_easy 0.0; if no tau_d of the grid brings the easy share within `SHARE_TOLERANCE` of the target, tau_easy is
    raised through 2/K, 3/K, ... 1 until one does. Failing that too, the nearest share wins. Ties: the lower tau_easy,
    then the tau_d nearest to the paper's 0.1. A threshold that is given stays fixed.

    Raises RwmlError without predictions.
    """
    if distances_NK.ndim != 2 or not distances_NK.size:
        raise RwmlError(
            f"the easy filter has no predictions to go by (shape {distances_NK.shape})",
            "thresholds come from how often the predictor is right",
            "collect more episodes, lower filter.predictor_fraction, or set filter.enabled = false",
        )
    assert not np.isnan(distances_NK).any(), "unparsed predictions have the largest distance, not nan"
    count = distances_NK.shape[1]
    hits_N = {tau: (distances_NK < tau).sum(axis=1) for tau in ([tau_d] if tau_d is not None else grid)}
    easiness = [tau_easy] if tau_easy is not None else [0.0, *(hits / count for hits in range(2, count + 1))]
    candidates = tuple(
        Candidate(tau, easy, float((hits >= _hits_needed(easy, count)).mean()))
        for easy in easiness
        for tau, hits in hits_N.items()
    )
    best = min(candidates, key=lambda candidate: _preference(candidate, target_share))
    return Calibration(
        tau_d=best.tau_d,
        tau_easy=best.tau_easy,
        easy_share=best.easy_share,
        target_share=target_share,
        on_target=_off_target(best, target_share) <= SHARE_TOLERANCE,
        num_predictions=count,
        hits_histogram=tuple(np.bincount(hits_N[best.tau_d], minlength=count + 1).tolist()),
        candidates=candidates,
    )


def paper_tau_d(data_tau_d: float) -> float:
    """tau_d of the training reward: the filter's + 0.15, rounded to the nearest 0.2 (RWML), never 0.

    Halves go up, which is what gives the paper's own values: 0.1 -> 0.2 (ALFWorld), 0.15 -> 0.4 (tau2).
    """
    steps = math.floor((data_tau_d + 0.15) / 0.2 + 0.5 + 1e-9)
    return round(0.2 * max(steps, 1), 1)


def _hits_needed(tau_easy: float, num_predictions: int) -> int:
    # A share such as 0.3 of 10 is 3 hits, whatever its last binary digit.
    return max(1, math.ceil(tau_easy * num_predictions - 1e-6))


def _off_target(candidate: Candidate, target_share: float) -> float:
    # Rounded, so that shares equally far above and below tie.
    return round(abs(candidate.easy_share - target_share), 9)


def _preference(candidate: Candidate, target_share: float) -> tuple[float, ...]:
    """Sort key, best first."""
    off, far = _off_target(candidate, target_share), round(abs(candidate.tau_d - PAPER_TAU_D), 9)
    if off <= SHARE_TOLERANCE:
        return 0, candidate.tau_easy, off, far, candidate.tau_d
    return 1, off, candidate.tau_easy, far, candidate.tau_d
