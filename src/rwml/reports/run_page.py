"""One self-contained page about a run, from the files of its folder."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rwml.core.errors import RwmlError
from rwml.core.files import Json, damaged
from rwml.core.progress import duration
from rwml.core.recipe.recipe import TrainPolicyConfig, recipe_toml
from rwml.core.records import read_json, read_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.measure.figures.evaluation import SCHEMA_VERSION
from rwml.measure.figures.sentences import NOTHING
from rwml.reports import formats
from rwml.reports.page import render_page
from rwml.reports.plots import Panel, curve_svg, histogram_svg
from rwml.reports.run_examples import Evaluation, episode_examples, examples
from rwml.reports.run_tables import claims, losses, success_part, world_model_part

T = TypeVar("T")


def render(page: Json) -> str:
    """The page as HTML; every text is escaped but the drawings."""
    return render_page("report.html.jinja", page)


def context(run: Run, panels: Mapping[str, Sequence[Panel]]) -> Json:
    """All that the template shows."""
    recipe = run.recipe
    stages = {name: record for name, record in run.summary().items() if name in formats.TITLES}
    figures = _read_figures(run.folder / "eval.json")
    rows = _read(run.folder / "filtered.parquet", Transition)
    held_out = Evaluation.of(run.folder / "evaluation", figures)
    return {
        "recipe": recipe,
        "tiny": recipe.model.path == "tiny",
        "claims": claims(figures, recipe.train_wm.method),
        "facts": facts(run, stages),
        "stages": [_stage_box(name, stages.get(name)) for name in formats.TITLES],
        "filter": filter_part(run, rows),
        "curves": {
            name: [(panel.title, curve_svg(panel)) for panel in group] for name, group in panels.items() if group
        },
        "world_model": world_model_part(figures),
        "success": success_part(figures),
        "evaluated": figures is not None,
        "arm_names": formats.ARM_NAMES,
        "losses": losses(stages, rows, figures),
        "examples": examples(held_out, run.recipe.report.num_examples),
        "tau_d": figures["tau_d"] if figures else None,
        "episodes": episode_examples(held_out),
        "toml": recipe_toml(recipe.model_dump(mode="json")),
        "versions": _versions(stages),
    }


def facts(run: Run, stages: Mapping[str, Json]) -> list[tuple[str, str]]:
    """What was run, as (name, value)."""
    recipe = run.recipe
    seconds = sum(record["seconds"] for record in stages.values())
    peak = max((record["peak_rss_mb"] for record in stages.values()), default=0)
    shared = [row for row in run.metrics.read() if row.get("tokens") and row.get("tokens_unshared")]
    result = [
        ("model", recipe.model.path),
        ("world", recipe.world.name),
        ("embedding", recipe.embedding.path),
        ("training", f"{recipe.train_wm.method}, then {_policy_training(recipe.train_policy)}"),
        ("seeds", f"{recipe.seed} (run), {', '.join(map(str, recipe.evaluate.seeds))} (evaluation)"),
        ("time", duration(seconds)),
        ("peak memory", f"{peak / 1000:.1f} GB" if peak else NOTHING),
        ("report written on", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
    ]
    if shared:
        ratio = sum(row["tokens_unshared"] for row in shared) / sum(row["tokens"] for row in shared)
        result.append(("trees", f"{ratio:.1f} times fewer tokens read than as separate sequences"))
    return result


def _policy_training(config: TrainPolicyConfig) -> str:
    taught = {"own": "own successes", "expert": "expert episodes", "reflections": "expert episodes with reflections"}
    method = "policy RL" if config.method == "grpo" else f"SFT on {taught[config.episodes]}"
    return f"{method} from {config.start.replace('_', ' ')}"


def curves(run: Run) -> dict[str, list[Panel]]:
    """Panels of the two training stages, from metrics.jsonl. A figure that was not logged or is constant gets no
    panel."""
    low = run.recipe.train_wm.low_signal_share
    warning = ((low, f"warning below {low:.0%}"),) if low else ()
    rows = run.metrics.read()
    wanted = {
        "train_wm": (
            ("reward", "Reward", True, ()),
            ("within_tau", "Within τ_d", True, ()),
            ("exact", "Exact match", True, ()),
            ("signal_share", "Groups with signal", True, warning),
            ("mean_distance", "Mean sim-to-real gap", False, ()),
            ("kl", "KL to the start", False, ()),
            ("unparsed_share", "Unparsed answers", True, ()),
            ("loss", "Loss", False, ()),
        ),
        "train_policy": (
            ("success", "Games won", True, ()),
            ("reward", "Return", False, ()),
            ("signal_share", "Groups with signal", True, ()),
            ("steps_per_episode", "Steps per episode", False, ()),
            ("invalid_share", "Invalid actions", True, ()),
            ("kl", "KL to the start", False, ()),
            ("cross_entropy", "Cross-entropy", False, ()),
        ),
    }
    titles = {"train_wm": "World model", "train_policy": "Policy"}
    result: dict[str, list[Panel]] = {}
    for stage, columns in wanted.items():
        mine = [row for row in rows if row.get("stage") == stage]
        seen: list[list[float]] = []
        result[stage] = []
        for key, title, share, levels in columns:
            pairs = [(row["step"], float(row[key])) for row in mine if row.get(key) is not None]
            values = [value for _, value in pairs]
            # The binary reward is the share within tau_d: one picture of it is enough.
            if len(set(values)) < 2 or values in seen or (key == "loss" and seen):
                continue
            seen.append(values)
            steps = [step for step, _ in pairs]
            result[stage].append(Panel(f"{titles[stage]}: {title}", steps, values, levels, share=share))
    return result


def filter_part(run: Run, rows: Sequence[Transition]) -> Json | None:
    """Kept and dropped rows with reasons, the pass-rate histogram, and the thresholds; None if it was not run."""
    if not (run.folder / "filtered.parquet").is_file():
        return None
    chosen = _read_json(run.folder / "filter.json") or {}
    judged = [row.pass_rate for row in rows if row.pass_rate >= 0]
    samples = run.recipe.filter.num_predictions
    hits = Counter(round(rate * samples) for rate in judged)
    counts = {f"{hit}/{samples}": hits[hit] for hit in range(samples + 1)}
    dropped = Counter(row.reason or "no reason given" for row in rows if not row.kept)
    easy = {f"{round(r.pass_rate * samples)}/{samples}" for r in rows if r.pass_rate >= 0 and not r.kept}
    drawing = "Pass rates of the judged transitions"
    return {
        "rows": len(rows),
        "kept": sum(row.kept for row in rows),
        "judged": len(judged),
        "knowable": sum(row.knowable for row in rows),
        "dropped": dict(dropped.most_common()),
        "chosen": {key: value for key, value in chosen.items() if isinstance(value, (int, float, str))},
        "svg": histogram_svg(counts, easy, drawing, f"hits in {samples} predictions") if judged else "",
    }


def _stage_box(name: str, record: Json | None) -> Json:
    counts = {k: v for k, v in (record or {}).get("counts", {}).items() if isinstance(v, (int, float))}
    return {
        "title": formats.TITLES[name],
        "state": (record or {}).get("state", "not run"),
        "seconds": (record or {}).get("seconds", 0.0),
        "error": (record or {}).get("error", ""),
        "counts": list(counts.items())[:3],
    }


def _versions(stages: Mapping[str, Json]) -> list[tuple[str, str]]:
    versions: dict[str, str] = {}
    for record in stages.values():
        versions |= {name: str(version) for name, version in record.get("versions", {}).items()}
    return sorted(versions.items())


def _read(path: Path, cls: type[T]) -> list[T]:
    return read_records(path, cls) if path.is_file() else []


def _read_figures(path: Path) -> Json | None:
    figures = _read_json(path)
    if figures is not None:
        if figures.get("schema_version") != SCHEMA_VERSION:
            raise RwmlError(
                f"'{path}' has schema {figures.get('schema_version')}, this rwml reads {SCHEMA_VERSION}",
                "its figures may mean something else, or be missing",
                "run `rwml evaluate` again",
            )
        order = [*formats.ARM_NAMES, *figures["arms"]]
        figures["arms"] = dict(sorted(figures["arms"].items(), key=lambda arm: order.index(arm[0])))
    return figures


def _read_json(path: Path) -> Json | None:
    found = read_json(path) if path.is_file() else None
    if found is not None and not isinstance(found, dict):
        raise damaged(path, "it is not a JSON object", "run the stage that writes it again")
    return found
