"""`rwml measure`: imagination, retention and weight change of a run's checkpoints -> measures.json, measures/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rwml
from rwml.core.config import Recipe, parse_recipe
from rwml.core.errors import RwmlError
from rwml.core.files import read_json, write_json
from rwml.core.manifest import Run
from rwml.core.progress import note, progress
from rwml.core.reward_choice import DEFAULT_REWARD, asks_judge
from rwml.engine.measuring import Measuring
from rwml.engine.retention import retention_change
from rwml.engine.setup import load_model, load_reward, training_tau_d
from rwml.engine.weight_change import MODULES, measure_weight_change
from rwml.models.hf import Mind

Json = dict[str, Any]

# arm: the stage that makes it, and where its checkpoint lies.
TRAINED = {"world_model": ("train_wm", "world_model"), "policy": ("train_policy", "policy")}
START = "model"
SCHEMA_VERSION = 1
_PLAN_ROWS = {
    "wins": "plans that win",
    "wins_if_all_is_admitted": "    if all were admitted",
    "executable": "plans without refusal",
}
# Settings outside of [measure] that its figures depend on, and the settings in it that each measure depends on.
_SECTIONS = ("seed", "world", "model", "embedding", "collect", "transitions")
_PLAYED = ("splits", "policies", "num_episodes", "leave_one_out")
_ASKED = ("temperature", "max_new_tokens", "bootstrap_samples")
_READS = {
    "rollouts": (*_PLAYED, *_ASKED, "depth"),
    "plans": (*_PLAYED, *_ASKED),
    "held_out": (*_ASKED, "held_out", "num_transitions"),
    "text": ("corpus", "bootstrap_samples"),
    "lm_eval": ("lm_eval", "lm_eval_limit"),
}


def run(folder: str | Path, overrides: tuple[str, ...] = ()) -> Json:
    """Measure every checkpoint of a run folder beside the model that it started from; returns measures.json.

    overrides: settings of the section [measure], `measure.key=value`. What was measured before under the same settings
    and of the same weights is not measured again. RwmlError for a folder without a run, and for other settings.
    """
    opened = Run.open(_recipe(Path(folder), overrides))
    recipe = opened.recipe
    tau_d = recipe.evaluate.tau_d or training_tau_d(opened)
    checkpoints: dict[str, Path | None] = {START: None}
    for arm, (stage, place) in TRAINED.items():
        if opened.is_done(stage):
            checkpoints[arm] = opened.folder / place / "final"
    reward = load_reward(_without_judge(opened), tau_d)
    measuring = Measuring(recipe, opened.folder / "measures" / _key(_settings(recipe, _PLAYED)), reward, tau_d)
    wanted = measuring.wanted()
    arms = {arm: _Parts(opened, arm, tau_d, measuring.passages) for arm in checkpoints}
    found: dict[str, Json] = {}
    with progress("measure", total=len(arms) * len(wanted), unit="measure") as bar:
        for arm, parts in arms.items():
            mind: Mind | None = None
            found[arm] = {}
            for name in wanted:
                done = parts.read(name)
                if done is None:
                    mind = mind or load_model(recipe.model, checkpoints[arm])
                    done = parts.write(name, measuring.measure(name, mind))
                found[arm][name] = done
                bar.advance()
    result = _result(recipe, tau_d, found, checkpoints)
    write_json(opened.folder / "measures.json", result)
    return result


def _recipe(folder: Path, overrides: tuple[str, ...]) -> Recipe:
    if not (folder / "recipe.json").is_file():
        raise RwmlError(
            f"'{folder}' is no run folder: it holds no recipe.json",
            "its checkpoints are measured as its recipe says",
            "give the folder that `rwml run` wrote",
        )
    recipe = parse_recipe(read_json(folder / "recipe.json"), str(folder / "recipe.json"))
    if recipe.folder.resolve() != folder.resolve():  # moved, or opened from elsewhere
        recipe = recipe.model_copy(update={"out": str(folder.resolve()).replace("{", "{{").replace("}", "}}")})
    for override in overrides:
        if not override.startswith("measure."):
            raise RwmlError(
                f"'{override}' is no setting of the section [measure]",
                "the run was made under its recipe, and other settings would not be those of its checkpoints",
                "give measure.key=value, or run the changed recipe first",
            )
    return recipe.overridden(overrides)


def _without_judge(run: Run) -> Run:
    """The run, with the embedding reward in the place of a judge's, who would be asked thousands of times."""
    if not asks_judge(run.recipe.train_wm.reward):
        return run
    note("measure: imagined next states are scored by the embedding reward, not by the judge")
    other = run.recipe.with_settings({"train_wm.reward": DEFAULT_REWARD})
    return Run(other, run.folder, {"stages": {}})


def _settings(recipe: Recipe, keys: tuple[str, ...]) -> Json:
    data = recipe.model_dump(mode="json")
    return {
        "rwml": rwml.__version__,
        "measure": {key: data["measure"][key] for key in keys},
        **{name: data[name] for name in _SECTIONS},
    }


def _key(value: Json) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


class _Parts:
    """What is measured of one arm already, under the same settings and of the same weights."""

    def __init__(self, run: Run, arm: str, tau_d: float, passages: list[str]) -> None:
        stage, place = TRAINED.get(arm, ("", ""))
        self.recipe, self.folder = run.recipe, run.folder / "measures" / arm
        reward = run.recipe.model_dump(mode="json")["train_wm"]["reward"]
        self.same: Json = {"weights": run.summary()[stage]["outputs"][place] if stage else ""}
        self.of_measure: Json = {"rollouts": {"tau_d": tau_d, "reward": reward}, "text": {"passages": passages}}

    def path(self, name: str) -> Path:
        """Where a measure lies; the name follows from all that it depends on."""
        settings = _settings(self.recipe, _READS[name]) | self.same | self.of_measure.get(name, {})
        return self.folder / f"{name}-{_key(settings)}.json"

    def read(self, name: str) -> Json | None:
        path = self.path(name)
        return dict(read_json(path)) if path.exists() else None

    def write(self, name: str, value: Json) -> Json:
        write_json(self.path(name), value)
        return dict(read_json(self.path(name)))


def _result(recipe: Recipe, tau_d: float, found: dict[str, Json], checkpoints: dict[str, Path | None]) -> Json:
    samples = recipe.measure.bootstrap_samples
    return {
        "schema_version": SCHEMA_VERSION,
        "tau_d": tau_d,
        "depth": recipe.measure.depth,
        "arms": {arm: _without_rows(figures) for arm, figures in found.items()},
        "retention": {arm: _retention(found[START], found[arm], samples) for arm in found if arm != START},
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
    """The figures in tables for a terminal; docs/measures.md says what each of them means."""
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
        yield f"{pair:36}" + "".join(f"{_percent(one and one['share']):>10}" for one in shares)
        yield f"{'':36}" + "".join(f"{_percent(one and one['share_bfloat16'], True):>10}" for one in shares)


def _row(label: str, values: dict[str, float | None]) -> str:
    cells = ("-" if value is None else f"{value:.3f}" for value in values.values())
    return f"{label:36}" + "".join(f"{cell:>14}" for cell in cells)


def _percent(share: float | None, brackets: bool = False) -> str:
    text = "-" if share is None else f"{share:.1%}"
    return f"({text})" if brackets else text
