"""Means with percentile-bootstrap intervals over clusters, and paired differences of two arms.

Rows of one task are not independent, so a sample draws tasks ("clusters"), never rows. Shape suffixes:
`_N` rows, `_C` clusters, `_M` measures, `_S` bootstrap samples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)

_CELLS = 4_000_000
"""Entries of one block of resampling weights; bounds the memory of a bootstrap to about 64 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95% interval. n: rows; clusters: independent units. `nan` if the rows say nothing."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    def as_json(self) -> dict[str, Any]:
        """As a dictionary, with None for nan."""
        return {
            "mean": _number(self.mean), "low": _number(self.low), "high": _number(self.high), "n": self.n,
            "clusters": self.clusters,
        }  # fmt: skip


def bootstrap_mean(
    values_N: ArrayLike, clusters_N: Sequence[Hashable], num_samples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over rows with the percentile-bootstrap interval over clusters.

    A sample draws C clusters with replacement, each with all of its rows. No rows: mean nan. Fewer than two
    clusters: low and high nan, for one unit says nothing about the spread between units.
    """
    values_NM = np.asarray(values_N, dtype=float).reshape(-1, 1)
    return column_intervals(values_NM, clusters_N, num_samples, seed)[0]


def paired_difference(
    before_N: ArrayLike,
    after_N: ArrayLike,
    clusters_N: Sequence[Hashable],
    num_samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of `after - before` and its interval; row i of both is the same task (or transition) and seed.

    Both arms keep the same clusters in every sample, so what makes a task hard cancels out.
    """
    before, after = np.asarray(before_N, dtype=float), np.asarray(after_N, dtype=float)
    assert before.shape == after.shape, "paired rows must be aligned"
    return bootstrap_mean(after - before, clusters_N, num_samples, seed)


def compare(
    before: Mapping[Key, tuple[float, str]],
    after: Mapping[Key, tuple[float, str]],
    num_samples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Before, after and the interval of the difference, over the keys that both arms have.

    Each mapping: what identifies a row in both arms -> (value, cluster). `unpaired` counts the rows that only
    one arm has; they enter neither mean.
    """
    keys = [key for key in before if key in after]
    before_N = np.array([before[key][0] for key in keys], dtype=float)
    after_N = np.array([after[key][0] for key in keys], dtype=float)
    clusters = [before[key][1] for key in keys]
    difference = paired_difference(before_N, after_N, clusters, num_samples, seed)
    return {
        "before": _number(before_N.mean() if keys else math.nan),
        "after": _number(after_N.mean() if keys else math.nan),
        "difference": _number(difference.mean),
        "interval": [_number(difference.low), _number(difference.high)],
        "n": len(keys),
        "clusters": difference.clusters,
        "unpaired": len(before) + len(after) - 2 * len(keys),
    }


def _resampled_means(
    sums_CM: NDArray[np.float64], counts_C: NDArray[np.float64], num_samples: int, seed: int
) -> NDArray[np.float64]:
    """Ratio of resampled sums to resampled counts, as means_SM; every cluster has at least one row."""
    num_clusters = len(counts_C)
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, num_samples, max(1, _CELLS // num_clusters)):
        size = min(num_samples - start, max(1, _CELLS // num_clusters))
        drawn = rng.integers(0, num_clusters, (size, num_clusters))
        drawn += np.arange(size)[:, None] * num_clusters
        weights_SC = np.bincount(drawn.ravel(), minlength=size * num_clusters).reshape(size, num_clusters)
        means.append((weights_SC @ sums_CM) / (weights_SC @ counts_C)[:, None])
    return np.concatenate(means)


def column_intervals(
    values_NM: NDArray[np.float64], clusters_N: Sequence[Hashable], num_samples: int, seed: int
) -> list[Interval]:
    """`bootstrap_mean` of every column of values_NM, all measured on the same samples."""
    num_rows, num_measures = values_NM.shape
    assert len(clusters_N) == num_rows, "one cluster per row"
    if num_rows == 0:
        return [Interval(math.nan, math.nan, math.nan, 0, 0)] * num_measures
    number: dict[Hashable, int] = {}
    index_N = np.array([number.setdefault(cluster, len(number)) for cluster in clusters_N])
    sums_CM = np.zeros((len(number), num_measures))
    np.add.at(sums_CM, index_N, values_NM)
    counts_C = np.bincount(index_N).astype(float)
    means_M = values_NM.mean(axis=0)
    low_M = high_M = np.full(num_measures, math.nan)
    if len(number) > 1:
        means_SM = _resampled_means(sums_CM, counts_C, num_samples, seed)
        tail = (1 - CONFIDENCE) / 2
        low_M, high_M = np.quantile(means_SM, [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(low), float(high), num_rows, len(number))
        for mean, low, high in zip(means_M, low_M, high_M, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
