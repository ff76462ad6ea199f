"""What the report makes of `eval.json` and of the stages' counts: headline claims, tables, and every loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rwml.core.files import Json
from rwml.core.types import Transition
from rwml.measure.figures.sentences import baseline_sentence, baseline_verdict, sentence, verdict
from rwml.reports import formats

ROWS_SHOWN = 15
"""Number of rows that a table shows by name. The rest becomes one row: a world of many tools keeps a short page."""


class Row(NamedTuple):
    """One line of a table: the same group of rows before and after, and as each baseline answers it."""

    label: str
    before: Json
    after: Json
    baselines: tuple[Json, ...] = ()


def claims(figures: Json | None, method: str) -> list[Json]:
    """The two headline differences with their sentence, their arms' intervals and the top of their axis."""
    if figures is None:
        return []
    headlines = {
        "world_model": (
            "The world model", "WM SFT" if method == "sft" else "RWML", "within", "predictions",
            f"The share of predictions within τ_d = {figures['tau_d']:g} of the real next state",
        ),
        "success": ("The policy", "policy RL", "success", "episodes", "The share of games won"),
    }  # fmt: skip
    result: list[Json] = []
    for name, (title, training, measure, unit, subject) in headlines.items():
        difference = figures["summary"][name]
        beside = baselines_part(figures) if name == "world_model" else []
        claim: Json = {"title": title, "training": training, "difference": difference, "baselines": beside}
        if difference is None:
            measured = any(parts[name] for parts in figures["arms"].values())
            claim["reason"] = "untrained" if measured else "nothing to play"
            result.append(claim)
            continue
        arms = [figures["arms"][arm][name]["all"]["overall"][measure] for arm in figures["pairs"][name]]
        highest = max(
            *(arm["high"] or arm["mean"] or 0.0 for arm in arms), *(each["within"]["before"] or 0.0 for each in beside)
        )
        result.append(claim | {
            "arms": arms, "sentence": sentence(difference, subject, unit),
            "verdict": verdict(difference), "top": min(1.0, max(0.1, -(-highest * 10 // 1) / 10)),
        })  # fmt: skip
    return result


def baselines_part(figures: Json) -> list[Json]:
    """For each baseline: its figures with the world model's, and sentences that say which of the two is better."""
    result: list[Json] = []
    for name, beside in figures["baselines"].items():
        within, reward = beside["within"], beside["reward"]
        trained = beside["arm"] == figures["pairs"]["world_model"][1]
        contender = "The trained world model" if trained else "The untrained model"
        title = formats.ARM_NAMES.get(name, name)
        measured = [("the share within τ_d", within["all"])]
        if reward["all"] != within["all"]:
            measured.append(("the mean reward", reward["all"]))
        result.append({
            "name": title, "tells": formats.BASELINE_TELLS.get(name, ""), "within": within["all"], "trained": trained,
            "verdict": verdict(within["all"]), "short": baseline_verdict(within["all"]),
            "sentences": [
                (baseline_sentence(d, contender, f"“{title}”", subject), verdict(d))
                for subject, d in measured
            ],
            "kinds": [
                (formats.KIND_NAMES.get(kind, kind), d, verdict(d), baseline_verdict(d))
                for kind, d in reward["by_kind"].items() if len(reward["by_kind"]) > 1
            ],
        })  # fmt: skip
    return result


def world_model_part(figures: Json | None) -> Json | None:
    """Every arm and baseline side by side, and before and after by group; None if it was not evaluated."""
    pair = _pair(figures, "world_model")
    if figures is None or pair is None:
        return None
    named = {"Action": "by_verb", "Knowable from the history": "by_knowable", "Action admitted": "by_valid",
             "Kind of next state": "by_kind", "Evaluation seed": "by_seed"}  # fmt: skip
    measured = {arm: parts["world_model"] for arm, parts in figures["arms"].items() if parts["world_model"]}
    baselines = [name for name in figures["baselines"] if name in measured]
    groups = [group for parts in measured.values() for group in parts["all"]["by_kind"].values()]
    return {
        "tables": _tables(measured[pair[0]], measured[pair[1]], named, [measured[name] for name in baselines]),
        "same": pair[0] == pair[1],
        "pair": pair,
        "beside": {arm: parts["all"]["overall"] for arm, parts in measured.items()},
        "baseline_arms": baselines,
        "baselines": baselines_part(figures),
        # A reward that is 1 within tau_d and 0 elsewhere is the column before it.
        "graded": any(group["reward"]["mean"] != group["within"]["mean"] for group in groups),
    }


def success_part(figures: Json | None) -> Json | None:
    """All arms side by side, and success before and after by split and kind of task; None if nothing was played."""
    arms = {arm: parts["success"] for arm, parts in figures["arms"].items() if parts["success"]} if figures else {}
    if not arms:
        return None
    pair = _pair(figures, "success")
    named = {"Kind of task": "by_task_kind", "Evaluation seed": "by_seed"}
    tables = _tables(arms[pair[0]], arms[pair[1]], named) if pair else {}
    overall = {arm: parts["all"]["overall"] for arm, parts in arms.items()}
    return {"arms": overall, "tables": tables, "pair": pair, "calls": any(p["calls"] for p in overall.values())}


def losses(stages: Mapping[str, Json], rows: Sequence[Transition], figures: Json | None) -> list[tuple[str, str, Any]]:
    """Every count of every stage, as (stage, what, number)."""
    counts = [
        (formats.TITLES[name], what, value)
        for name, record in stages.items()
        for what, value in record["counts"].items()
        if isinstance(value, (int, float))
    ]
    counted = stages.get("filter", {}).get("counts", {})
    dropped = Counter(row.reason or "no reason given" for row in rows if not row.kept)
    counts += [("filter", f"dropped as {reason}", n) for reason, n in dropped.most_common() if reason not in counted]
    for arm, parts in (figures["arms"] if figures else {}).items():
        baseline = arm in figures["baselines"] if figures else False
        for measure in ("unparsed",) if baseline else ("unparsed", "truncated"):
            word = "unanswered" if baseline else measure
            if parts["world_model"]:
                group = parts["world_model"]["all"]["overall"]
                count = round((group[measure]["mean"] or 0.0) * group["n"])
                counts.append(("evaluate", f"{word} predictions, {formats.ARM_NAMES.get(arm, arm)}", count))
            if parts["success"]:
                count = parts["success"]["all"]["overall"][measure]
                counts.append(("evaluate", f"{measure} actions, {formats.ARM_NAMES.get(arm, arm)}", count))
    for name, difference in (figures["summary"] if figures else {}).items():
        if difference is not None:
            what = f"rows without a partner in the other arm ({name.replace('_', ' ')})"
            counts.append(("evaluate", what, difference["unpaired"]))
    order = list(formats.TITLES.values())
    return sorted(counts, key=lambda line: order.index(line[0]))


def _tables(
    before: Json, after: Json, named: Mapping[str, str], baselines: Sequence[Json] = ()
) -> dict[str, list[Row]]:
    """By split, then by each key of `named` (title -> key) over all splits; tables of one row are left out."""
    splits = [split for split in before if split in after and split != "all"]

    def of_split(label: str, split: str) -> Row:
        beside = tuple(parts[split]["overall"] for parts in baselines)
        return Row(label, before[split]["overall"], after[split]["overall"], beside)

    tables = {"Split": [of_split("all splits", "all"), *(of_split(split, split) for split in splits)]}
    for title, key in named.items():
        groups, others = before["all"][key], after["all"][key]
        shown = sorted((g for g in groups if g in others), key=lambda g: (-groups[g]["n"], len(g), g))
        if len(shown) > 1:
            rows = [Row(g, groups[g], others[g], tuple(parts["all"][key][g] for parts in baselines)) for g in shown]
            tables[title] = rows[:ROWS_SHOWN] + _pooled(rows[ROWS_SHOWN:])
    return tables


def _pooled(rows: Sequence[Row]) -> list[Row]:
    """Several rows as one, every row of data with the same weight. It has no intervals: those of means cannot be
    added."""
    if not rows:
        return []
    befores, afters, *baselines = zip(*((row.before, row.after, *row.baselines) for row in rows), strict=True)
    label = f"other ({len(rows)} more)"
    return [Row(label, _pool(befores), _pool(afters), tuple(_pool(groups) for groups in baselines))]


def _pool(groups: Sequence[Json]) -> Json:
    pooled: Json = {"n": sum(group["n"] for group in groups)}
    for name, measure in groups[0].items():
        if isinstance(measure, dict) and "mean" in measure:
            parts = [group[name] for group in groups if group[name]["mean"] is not None]
            count = sum(part["n"] for part in parts)
            mean = sum(part["mean"] * part["n"] for part in parts) / count if count else None
            pooled[name] = {"mean": mean, "low": None, "high": None, "n": count}
    return pooled


def _pair(figures: Json | None, name: str) -> tuple[str, str] | None:
    """The arms of a headline difference, or, with one of them missing, the other one twice; None without both."""
    if figures is None:
        return None
    measured = [arm for arm in figures["pairs"][name] if figures["arms"].get(arm, {}).get(name)]
    return (measured[0], measured[-1]) if measured else None
