"""`rwml report`: one self-contained page about a run, from the files of its folder -> report.html, report.png."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rwml.core.manifest import CHAIN, Run
from rwml.core.metrics import same_text
from rwml.core.prompts import THINK
from rwml.core.store import atomic_file, read_json, read_records
from rwml.core.types import Episode, Prediction, Transition
from rwml.stages import wording
from rwml.stages.plots import Panel, curve_svg, histogram_svg, write_png

T = TypeVar("T")
Json = dict[str, Any]

INPUTS = ("eval.json", "filtered.parquet", "filter.json", "metrics.jsonl", "evaluation")
TITLES = {
    "collect": "collect", "transitions": "transitions", "filter": "filter", "train_wm": "train-wm",
    "train_policy": "train-policy", "evaluate": "evaluate",
}  # fmt: skip
ARM_NAMES = {"model": "before any training", "world_model": "after world-model training", "policy": "after policy RL"}
EPISODES_EACH = 2
PICTURE = ("Reward", "Loss", "Games won", "Groups with signal", "KL to the start")
"""Panels that report.png shows; the page has them all."""


def run(run: Run) -> None:
    """Write report.html, and report.png when there are curves. Parts whose stage was not run are said to be missing."""
    reads = [name for name in INPUTS if (run.folder / name).exists()]
    with run.stage("report", reads=reads, sections=["report"]) as stage:
        panels = curves(run)
        drawn = [panel for group in panels.values() for panel in group if panel.title.split(": ")[1] in PICTURE]
        page = render(context(run, panels)).encode()
        (run.folder / "report.png").unlink(missing_ok=True)
        if drawn:
            write_png(run.folder / "report.png", drawn)
        with atomic_file(run.folder / "report.html") as handle:
            handle.write(page)
        stage.counts["bytes"] = len(page)


def render(page: Json) -> str:
    """The page as HTML; every text is escaped but the drawings."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "points", "decimal", "number", "duration"):
        environment.filters[name] = getattr(wording, name)
    return environment.get_template("report.html.jinja").render(page)


def context(run: Run, panels: Mapping[str, Sequence[Panel]]) -> Json:
    """All that the template shows."""
    recipe = run.recipe
    stages = {name: record for name, record in run.summary().items() if name in TITLES}
    figures = _read_figures(run.folder / "eval.json")
    rows = _read(run.folder / "filtered.parquet", Transition)
    held_out = Evaluation.of(run.folder / "evaluation", figures)
    return {
        "recipe": recipe,
        "tiny": recipe.model.path == "tiny",
        "claims": claims(figures, recipe.train_wm.method),
        "facts": facts(run, stages),
        "stages": [_stage_box(name, stages.get(name)) for name in TITLES],
        "filter": filter_part(run, rows),
        "curves": {
            name: [(panel.title, curve_svg(panel)) for panel in group] for name, group in panels.items() if group
        },
        "world_model": world_model_part(figures),
        "success": success_part(figures),
        "arm_names": ARM_NAMES,
        "losses": losses(stages, rows, figures),
        "examples": examples(held_out, run.recipe.report.num_examples),
        "tau_d": figures["tau_d"] if figures else None,
        "episodes": episode_examples(held_out),
        "toml": wording.recipe_toml(recipe.model_dump(mode="json")),
        "versions": _versions(stages),
    }


def claims(figures: Json | None, method: str) -> list[Json]:
    """The two headline differences with their sentence, their arms' intervals and the top of their axis."""
    if figures is None:
        return []
    told = {
        "world_model": (
            "The world model", "WM SFT" if method == "sft" else "RWML", "within", "predictions",
            f"The share of predictions within τ_d = {figures['tau_d']:g} of the real next state",
        ),
        "success": ("The policy", "policy RL", "success", "episodes", "The share of games won"),
    }  # fmt: skip
    result: list[Json] = []
    for name, (title, training, measure, unit, subject) in told.items():
        difference = figures["summary"][name]
        if difference is None:
            result.append({"title": title, "difference": None, "training": training})
            continue
        arms = [figures["arms"][arm][name]["all"]["overall"][measure] for arm in figures["pairs"][name]]
        highest = max(arm["high"] or arm["mean"] or 0.0 for arm in arms)
        result.append({
            "title": title, "training": training, "difference": difference, "arms": arms,
            "sentence": wording.sentence(difference, subject, unit), "verdict": wording.verdict(difference),
            "top": min(1.0, max(0.1, -(-highest * 10 // 1) / 10)),
        })  # fmt: skip
    return result


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
        ("training", f"{recipe.train_wm.method}, then policy RL from {recipe.train_policy.start.replace('_', ' ')}"),
        ("seeds", f"{recipe.seed} (run), {', '.join(map(str, recipe.evaluate.seeds))} (evaluation)"),
        ("time", wording.duration(seconds)),
        ("peak memory", f"{peak / 1000:.1f} GB" if peak else wording.NOTHING),
        ("report written on", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
    ]
    if shared:
        ratio = sum(row["tokens_unshared"] for row in shared) / sum(row["tokens"] for row in shared)
        result.append(("trees", f"{ratio:.1f} times fewer tokens read than as separate sequences"))
    return result


def curves(run: Run) -> dict[str, list[Panel]]:
    """Panels of the two training stages, from metrics.jsonl; a figure that was not logged, or never moves, has none."""
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
            result[stage].append(Panel(f"{titles[stage]}: {title}", steps, values, share, levels))
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


def world_model_part(figures: Json | None) -> Json | None:
    """Tables of the world model: rows of (label, before, after) groups; None if it was not evaluated."""
    pair = _pair(figures, "world_model")
    if figures is None or pair is None:
        return None
    before, after = (figures["arms"][arm]["world_model"] for arm in pair)
    named = {"Action": "by_verb", "Knowable from the history": "by_knowable", "Action admitted": "by_valid",
             "Kind of next state": "by_kind", "Evaluation seed": "by_seed"}  # fmt: skip
    return {"tables": _tables(before, after, named), "same": pair[0] == pair[1], "pair": pair}


def success_part(figures: Json | None) -> Json | None:
    """All arms side by side, and success before and after by split and kind of task; None if nothing was played."""
    arms = {arm: parts["success"] for arm, parts in figures["arms"].items() if parts["success"]} if figures else {}
    if not arms:
        return None
    pair = _pair(figures, "success")
    named = {"Kind of task": "by_task_kind", "Evaluation seed": "by_seed"}
    tables = _tables(arms[pair[0]], arms[pair[1]], named) if pair else {}
    return {"arms": {arm: parts["all"]["overall"] for arm, parts in arms.items()}, "tables": tables, "pair": pair}


def _tables(before: Json, after: Json, named: Mapping[str, str]) -> dict[str, list[tuple[str, Json, Json]]]:
    """By split, then by each key of `named` (title -> key) over all splits; tables of one row are left out."""
    splits = [split for split in before if split in after and split != "all"]
    whole = ("all splits", before["all"]["overall"], after["all"]["overall"])
    tables = {"Split": [whole, *((split, before[split]["overall"], after[split]["overall"]) for split in splits)]}
    for title, key in named.items():
        groups, others = before["all"][key], after["all"][key]
        shown = sorted((g for g in groups if g in others), key=lambda g: (-groups[g]["n"], len(g), g))
        if len(shown) > 1:
            tables[title] = [(label, groups[label], others[label]) for label in shown]
    return tables


def losses(stages: Mapping[str, Json], rows: Sequence[Transition], figures: Json | None) -> list[tuple[str, str, Any]]:
    """Every count of every stage, as (stage, what, number): nothing vanishes (design.md, house rule 8)."""
    told = [
        (TITLES[name], what, value)
        for name, record in stages.items()
        for what, value in record["counts"].items()
        if isinstance(value, (int, float))
    ]
    counted = stages.get("filter", {}).get("counts", {})
    dropped = Counter(row.reason or "no reason given" for row in rows if not row.kept)
    told += [("filter", f"dropped as {reason}", n) for reason, n in dropped.most_common() if reason not in counted]
    for arm, parts in (figures["arms"] if figures else {}).items():
        for measure in ("unparsed", "truncated"):
            if parts["world_model"]:
                group = parts["world_model"]["all"]["overall"]
                count = round((group[measure]["mean"] or 0.0) * group["n"])
                told.append(("evaluate", f"{measure} predictions, {ARM_NAMES.get(arm, arm)}", count))
            if parts["success"]:
                count = parts["success"]["all"]["overall"][measure]
                told.append(("evaluate", f"{measure} actions, {ARM_NAMES.get(arm, arm)}", count))
    for name, difference in (figures["summary"] if figures else {}).items():
        if difference is not None:
            what = f"rows without a partner in the other arm ({name.replace('_', ' ')})"
            told.append(("evaluate", what, difference["unpaired"]))
    order = list(TITLES.values())
    return sorted(told, key=lambda line: order.index(line[0]))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Records under evaluation/, first seed only. predictions, episodes: arm -> records; pairs: names of arms."""

    transitions: dict[str, Transition]
    predictions: dict[str, dict[str, Prediction]]
    episodes: dict[str, list[Episode]]
    pairs: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, folder: Path, figures: Json | None) -> Evaluation | None:
        """None where nothing was evaluated."""
        if figures is None or not folder.is_dir():
            return None
        seed = min(figures["seeds"], default=0)
        rows = [row for path in sorted(folder.glob("transitions-*.parquet")) for row in _read(path, Transition)]
        arms = [arm for arm in figures["arms"] if (folder / arm).is_dir()]
        return cls(
            {row.id: row for row in rows},
            {a: {p.transition: p for p in _parts(folder / a, "predictions", seed, Prediction)} for a in arms},
            {a: _parts(folder / a, "episodes", seed, Episode) for a in arms},
            figures["pairs"],
        )


def examples(held_out: Evaluation | None, count: int) -> list[Json]:
    """Predictions of both arms beside the truth. The order of hashed ids picks them, and no truth comes twice."""
    if held_out is None:
        return []
    answers = [held_out.predictions.get(arm, {}) for arm in held_out.pairs["world_model"]]
    shared = sorted((i for i in held_out.transitions if all(i in told for told in answers)), key=_lot)
    chosen: list[Transition] = []
    truths: set[str] = set()
    for row in (held_out.transitions[i] for i in shared):
        if len(chosen) < count and row.next_state not in truths:
            chosen.append(row)
            truths.add(row.next_state)
    result = []
    for row in chosen:
        given = [(label, told[row.id]) for label, told in zip(("before", "after"), answers, strict=True)]
        result.append({"row": row, "answers": [(label, p, *_against(p, row)) for label, p in given]})
    return result


def _against(prediction: Prediction, row: Transition) -> tuple[bool, list[tuple[str, str]]]:
    """Whether the answer is exact, and its differences from the truth."""
    answer = prediction.answer or ""
    return same_text(answer, row.next_state), wording.word_difference(answer, row.next_state)


def episode_examples(held_out: Evaluation | None) -> list[Json]:
    """Won and lost episodes of the arm after training, picked by the order of hashed ids."""
    if held_out is None:
        return []
    arm = next((a for a in (held_out.pairs["success"][1], *held_out.episodes) if held_out.episodes.get(a)), None)
    if arm is None:
        return []
    played = sorted(held_out.episodes[arm], key=lambda episode: _lot(episode.id))
    won = [episode for episode in played if episode.success][:EPISODES_EACH]
    lost = [episode for episode in played if not episode.success][:EPISODES_EACH]
    return [
        {"episode": e, "arm": ARM_NAMES.get(arm, arm), "thoughts": [_thought(step.text) for step in e.steps]}
        for e in won + lost
    ]


def _stage_box(name: str, record: Json | None) -> Json:
    counts = {k: v for k, v in (record or {}).get("counts", {}).items() if isinstance(v, (int, float))}
    return {
        "title": TITLES[name],
        "state": (record or {}).get("state", "not run"),
        "seconds": (record or {}).get("seconds", 0.0),
        "error": (record or {}).get("error", ""),
        "counts": list(counts.items())[:3],
    }


def _versions(stages: Mapping[str, Json]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for record in stages.values():
        found |= {name: str(version) for name, version in record.get("versions", {}).items()}
    return sorted(found.items())


def _pair(figures: Json | None, name: str) -> tuple[str, str] | None:
    """The arms of a headline difference, or, with one of them missing, the other one twice; None without both."""
    if figures is None:
        return None
    there = [arm for arm in figures["pairs"][name] if figures["arms"].get(arm, {}).get(name)]
    return (there[0], there[-1]) if there else None


def _read(path: Path, cls: type[T]) -> list[T]:
    return read_records(path, cls) if path.is_file() else []


def _read_figures(path: Path) -> Json | None:
    figures = _read_json(path)
    if figures is not None:
        order = [*ARM_NAMES, *figures["arms"]]
        figures["arms"] = dict(sorted(figures["arms"].items(), key=lambda arm: order.index(arm[0])))
    return figures


def _read_json(path: Path) -> Json | None:
    return dict(read_json(path)) if path.is_file() else None


def _parts(folder: Path, kind: str, seed: int, cls: type[T]) -> list[T]:
    paths = [path for part in sorted(folder.glob(f"{kind}-*-{seed}")) for path in sorted(part.glob("*.parquet"))]
    return [record for path in paths for record in read_records(path, cls)]


def _lot(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _thought(text: str) -> str:
    found = THINK.search(text)
    return found[0].removeprefix("<think>").removesuffix("</think>").strip() if found else ""


assert set(TITLES) == set(CHAIN) - {"report"}
