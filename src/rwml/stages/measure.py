"""`rwml measure`: imagination, retention and weight change of a run's checkpoints -> measures.json, measures/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.files import Json, sweep, write_json
from rwml.core.progress import progress
from rwml.core.recipe.recipe import Recipe, recipe_of_run
from rwml.core.recipe.words_needed import check_words
from rwml.core.run import TRAINED, Run
from rwml.core.run_folder.claim import claim
from rwml.loading import load_measuring_reward, training_tau_d
from rwml.measure.compare.setups import measure_setup
from rwml.measure.retention import retention_change
from rwml.measure.suite import KeptMeasures, MeasureContext
from rwml.measure.weight_change import MODULES, measure_weight_change

START = "model"
SCHEMA_VERSION = 1
_PLAN_ROWS = {
    "wins": "plans that win",
    "wins_if_all_is_admitted": "    if all were admitted",
    "executable": "plans without refusal",
}


def run(folder: str | Path, overrides: tuple[str, ...] = ()) -> Json:
    """Measure every checkpoint of a run folder and the model that it started from; returns measures.json.

    overrides: settings of the section [measure], `measure.key=value`. A measure of the same weights under the same
    settings is not repeated. The run itself does not change, nor does its recipe.json. Raises RwmlError if the folder
    holds no run, if another process works in it, and if an override names another section.
    """
    recipe = _recipe(Path(folder), overrides)
    check_words(recipe)
    claim(recipe.folder)
    sweep(recipe.folder / "measures")
    opened = Run.peek(recipe)
    opened.check("filter.json", *(place for stage, place in TRAINED.values() if opened.is_done(stage)))
    tau_d = recipe.evaluate.tau_d or training_tau_d(opened)
    checkpoints: dict[str, Path | None] = {START: None}
    for arm, (stage, place) in TRAINED.items():
        if opened.is_done(stage):
            checkpoints[arm] = opened.folder / place / "final"
    reward = load_measuring_reward(opened, tau_d)
    context = MeasureContext(measure_setup(recipe), opened.folder / "measures", reward)
    wanted = context.wanted()
    measured: dict[str, Json] = {arm: {} for arm in checkpoints}
    with progress("measure", total=len(measured) * len(wanted), unit="measure") as bar:
        for arm, path in checkpoints.items():
            stage, place = TRAINED.get(arm, ("", ""))
            kept = KeptMeasures(context, path, opened.summary()[stage]["outputs"][place] if stage else "", arm)
            for name in wanted:
                measured[arm][name] = kept.measure(name)
                bar.advance()
    result = _result(recipe, tau_d, measured, checkpoints)
    write_json(opened.folder / "measures.json", result)
    return result


def _recipe(folder: Path, overrides: tuple[str, ...]) -> Recipe:
    recipe = recipe_of_run(folder)
    for override in overrides:
        if not override.startswith("measure."):
            raise RwmlError(
                f"'{override}' is not a setting of the section [measure]",
                "the run was made under its recipe, and other settings would not be those of its checkpoints",
                "give measure.key=value, or run the changed recipe first",
            )
    return recipe.overridden(overrides)


def _result(recipe: Recipe, tau_d: float, measured: dict[str, Json], checkpoints: dict[str, Path | None]) -> Json:
    samples = recipe.measure.bootstrap_samples
    return {
        "schema_version": SCHEMA_VERSION,
        "tau_d": tau_d,
        "depth": recipe.measure.depth,
        "arms": {arm: _without_rows(figures) for arm, figures in measured.items()},
        "retention": {arm: _retention(measured[START], measured[arm], samples) for arm in measured if arm != START},
        "weight_change": {name: measure_weight_change(*pair) for name, pair in _pairs(recipe, checkpoints).items()},
    }


def _pairs(recipe: Recipe, checkpoints: dict[str, Path | None]) -> dict[str, tuple[str | Path, Path]]:
    """{arm: (weights before, weights after)}: from the start; a policy also from the world model that it grew from."""
    pairs: dict[str, tuple[str | Path, Path]] = {
        arm: (recipe.model.path, path) for arm, path in checkpoints.items() if path is not None
    }
    grown = recipe.train_policy.start == "world_model" and checkpoints.get("world_model")
    if grown and "policy" in pairs:
        pairs["policy, from world_model"] = (grown, pairs["policy"][1])
    return pairs


def _retention(before: Json, after: Json, num_samples: int) -> Json:
    worlds = {
        label: retention_change(rows, after["held_out"][label], num_samples)
        for label, rows in before["held_out"].items()
    }
    return {"held_out": worlds, "text": retention_change(before["text"], after["text"], num_samples)}


def _without_rows(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_rows(inner) for key, inner in value.items() if key != "rows"}
    return value


def outcome(result: Json) -> str:
    """The figures in tables for a terminal; docs/reference/measure.md says what each of them means."""
    return "\n".join(_lines(result))


def _lines(result: Json) -> Iterator[str]:
    arms: Json = result["arms"]
    yield f"{'':36}" + "".join(f"{arm:>14}" for arm in arms)
    for depth in next(iter(arms.values()))["rollouts"]["by_depth"]:
        at = {arm: figures["rollouts"]["by_depth"].get(depth) for arm, figures in arms.items()}
        yield _row(f"imagined, step {depth}: exact", {a: f and f["exact"]["mean"] for a, f in at.items()})
        if depth != "1":
            yield _row("    from the real history", {a: f and f["one_step"]["exact"]["mean"] for a, f in at.items()})
    of = {arm: figures["plans"]["by_source"]["all"] for arm, figures in arms.items()}
    for name, label in _PLAN_ROWS.items():
        for key in ("precision", "recall", "false_alarm") if any(cells[name] for cells in of.values()) else ():
            yield _row(f"{label}: {key}", {arm: cells[name][key]["mean"] for arm, cells in of.items()})
    for world in next(iter(arms.values()))["held_out"]:
        for name in ("loss", "exact"):
            yield _row(f"{world}: {name}", {a: f["held_out"][world][name]["mean"] for a, f in arms.items()})
    yield _row("plain text: loss", {arm: figures["text"]["loss"]["mean"] for arm, figures in arms.items()})
    for task in next(iter(arms.values())).get("lm_eval", {}):
        for name in next(iter(arms.values()))["lm_eval"][task]:
            yield _row(f"{task}: {name}", {a: f["lm_eval"][task].get(name) for a, f in arms.items()})
    if result["weight_change"]:
        yield ""
        yield f"{'changed weights (bfloat16)':36}" + "".join(f"{name:>10}" for name in ("all", *MODULES))
    for pair, change in result["weight_change"].items():
        shares = [change, *(change["by_module"].get(module) for module in MODULES)]
        yield f"{pair:36}" + "".join(f"{_percent(share and share['share']):>10}" for share in shares)
        yield f"{'':36}" + "".join(
            f"{_percent(share and share['share_bfloat16'], brackets=True):>10}" for share in shares
        )


def _row(label: str, values: dict[str, float | None]) -> str:
    cells = ("-" if value is None else f"{value:.3f}" for value in values.values())
    return f"{label:36}" + "".join(f"{cell:>14}" for cell in cells)


def _percent(share: float | None, *, brackets: bool = False) -> str:
    text = "-" if share is None else f"{share:.1%}"
    return f"({text})" if brackets else text
