"""Imagination and retention of a comparison's arms: what `rwml measure` measures of one run, over seeds.

The schema of what comes out is in `docs/reference/compare.md`, what each figure means in `docs/reference/measure.md`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rwml.core.files import Json
from rwml.measure.figures.bootstrap import compare
from rwml.measure.figures.contrasts import mean_and_spread, spread

BySeed = Mapping[int, Json]

_DEPTH_FIGURES = ("exact", "within", "distance")
_PLAN_FIGURES = ("wins", "wins_if_all_is_admitted", "executable", "refused")
_CONFUSION = ("precision", "recall", "false_alarm", "gap")


def over_seeds(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    """What was measured of one arm: {seed: {measure: figures}} -> {measure: ...}, as means and spreads over seeds.

    base: the same of the base arm, which losses and accuracies are compared with, row by row. Empty for the base arm
    itself: no change. Seeds with nothing measured do not count; no seed, no figures.
    """
    measured, base = ({seed: each for seed, each in by_seed.items() if each} for by_seed in (measured, base))
    if not measured:
        return {}
    parts: dict[str, Callable[[BySeed, BySeed, int], Json]] = {
        "rollouts": _rollouts, "plans": _plans, "held_out": _held_out, "text": _text, "lm_eval": _lm_eval
    }  # fmt: skip
    return {
        name: fold(
            {seed: each[name] for seed, each in measured.items()},
            {seed: base[seed][name] for seed in measured if name in base.get(seed, {})},
            num_samples,
        )
        for name, fold in parts.items()
        if all(name in each for each in measured.values())
    }


def _rollouts(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    first = next(iter(measured.values()))
    depths = [d for d in first["by_depth"] if all(d in each["by_depth"] for each in measured.values())]

    def at(depth: str, *keys: str) -> Json:
        return mean_and_spread({seed: _in(each["by_depth"][depth], *keys, "mean") for seed, each in measured.items()})

    return {
        "depth": first["depth"],
        "steps_right": mean_and_spread({seed: each["steps_right"]["mean"] for seed, each in measured.items()}),
        "by_depth": {
            d: {name: at(d, name) for name in _DEPTH_FIGURES}
            | {"one_step": {name: at(d, "one_step", name) for name in _DEPTH_FIGURES}}
            for d in depths
        },
    }


def _plans(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    def of(figure: str, key: str) -> Json:
        cells = {seed: each["by_source"]["all"][figure] for seed, each in measured.items()}
        return mean_and_spread(
            {s: cell and (cell[key] if key == "gap" else cell[key]["mean"]) for s, cell in cells.items()}
        )

    return {figure: {key: of(figure, key) for key in _CONFUSION} for figure in _PLAN_FIGURES}


def _held_out(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    return {
        label: _losses({s: f[label] for s, f in measured.items()}, {s: f[label] for s, f in base.items()}, num_samples)
        for label in next(iter(measured.values()))
    }


def _text(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    bits = mean_and_spread({seed: each["bits_per_byte"] for seed, each in measured.items()})
    return _losses(measured, base, num_samples) | {"bits_per_byte": bits}


def _losses(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    """base: of those seeds of `measured` that have it."""
    names = [name for name in ("loss", "exact") if name in next(iter(measured.values()))]

    def keyed(figures: BySeed, name: str) -> dict[tuple[int, str], tuple[float, str]]:
        return {(s, key): (row[name], row["cluster"]) for s, f in figures.items() for key, row in f["rows"].items()}

    def change(name: str) -> Json:
        before, after = keyed(base, name), keyed(measured, name)
        gaps = {s: [after[key][0] - before[key][0] for key in before if key in after and key[0] == s] for s in base}
        by_seed = {seed: statistics.fmean(gap) if gap else None for seed, gap in gaps.items()}
        return compare(before, after, num_samples) | spread(by_seed)

    return {
        name: mean_and_spread({seed: each[name]["mean"] for seed, each in measured.items()})
        | ({"change": change(name)} if base else {})
        for name in names
    }


def _lm_eval(measured: BySeed, base: BySeed, num_samples: int) -> Json:
    first = next(iter(measured.values()))
    return {
        task: {
            name: mean_and_spread({s: each.get(task, {}).get(name) for s, each in measured.items()}) for name in figures
        }
        for task, figures in first.items()
    }


def _in(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value[key]
    return value


def flat(measures: Json) -> Iterator[tuple[str, str, str, Json]]:
    """(measure, which part of it, figure, {"mean", "sd", "by_seed"}) of everything in `over_seeds`."""
    for part, inner in measures.items():
        yield from _flat(part, [], inner)


def _flat(part: str, path: Sequence[str], value: Any) -> Iterator[tuple[str, str, str, Json]]:
    if not isinstance(value, dict):
        return
    if "by_seed" in value:
        yield part, " ".join(path[:-1]), path[-1], value
        return
    for key, inner in value.items():
        yield from _flat(part, [*path, key], inner)
