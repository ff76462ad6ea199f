"""Tables of a comparison: header and rows of text, for the page, Markdown and LaTeX alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rwml.core.files import Json
from rwml.core.progress import duration
from rwml.measure.figures.sentences import NOTHING
from rwml.reports import formats

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""

NAMES = {"valid_seen": "seen", "valid_unseen": "unseen", "all": "AVG"}
# Columns: title, part, split, measure, kind of figure.
QUALITY = (
    ("invalid actions", "success", "all", "invalid", "percent"),
    ("inefficient actions", "success", "all", "inefficient", "percent"),
    ("invalid or inefficient", "success", "all", "invalid_or_inefficient", "percent"),
    ("steps to success", "success", "all", "steps_won", "decimal"),
    ("steps", "success", "all", "steps", "decimal"),
)
ANSWERS = (
    ("within τ_d", "world_model", "all", "within", "percent"),
    ("of admitted actions", "world_model_by_action", "admitted", "within", "percent"),
    ("of refused actions", "world_model_by_action", "refused", "within", "percent"),
    ("exact", "world_model", "all", "exact", "percent"),
    ("mean distance", "world_model", "all", "distance", "decimal"),
    ("unparsed", "world_model", "all", "unparsed", "percent"),
)


def columns(comparison: Json) -> list[str]:
    """Splits in the order of the table: those of the recipe, then all of them pooled."""
    return [*comparison["splits"], "all"]


def split_name(split: str) -> str:
    """A split as the paper's table names it."""
    return NAMES.get(split, split)


def of(arm: Json, part: str, split: str, name: str) -> Json | None:
    """One measure of one arm, None if it was not measured."""
    measure: Json | None = arm[part].get(split, {}).get(name)
    return measure


def groups_of(comparison: Json) -> dict[str, dict[str, Json]]:
    """Arms that were examined under some seed, by group, in the order of the recipe."""
    result: dict[str, dict[str, Json]] = {}
    for name, arm in comparison["arms"].items():
        if arm["seeds"]:
            result.setdefault(arm["group"], {})[name] = arm
    return result


def paper_cell(arm: Json, split: str) -> str:
    """The paper's number next to ours."""
    value = arm["paper"].get(split)
    return NOTHING if value is None else f"{value:.1f}"


def main_table(comparison: Json, arms: Mapping[str, Json]) -> Table:
    """Header and rows of the paper's table: success by split in percent, ours and the paper's, and the world model."""
    splits = columns(comparison)
    header = [
        "arm", "seeds", *(split_name(s) for s in splits), "AVG 95% interval", "within τ_d",
        *(f"paper {split_name(s)}" for s in splits),
    ]  # fmt: skip
    rows = []
    for arm in arms.values():
        whole = of(arm, "success", "all", "success")
        bounds = (
            f"{100 * whole['low']:.1f} to {100 * whole['high']:.1f}" if whole and whole["low"] is not None else NOTHING
        )
        rows.append([
            arm["title"], str(len(arm["seeds"])),
            *(formats.with_spread(of(arm, "success", s, "success")) for s in splits), bounds,
            formats.with_spread(of(arm, "world_model", "all", "within")), *(paper_cell(arm, s) for s in splits),
        ])  # fmt: skip
    return header, rows


def measure_table(arms: Mapping[str, Json], measures: Sequence[tuple[str, str, str, str, str]]) -> Table:
    """Header and rows of several measures (`QUALITY`, `ANSWERS`) of the arms that have the first one's part."""
    rows = [
        [arm["title"], *(formats.with_spread(of(arm, *where), kind) for _, *where, kind in measures)]
        for arm in arms.values()
        if arm[measures[0][1]]
    ]
    return ["arm", *(title for title, *_ in measures)], rows


def cost_table(comparison: Json) -> Table:
    """What each arm cost, per seed on average: stages that it shares with other arms count for each of them."""
    header = ["arm", "time", "tokens sampled", "tokens trained", "weights changed, %", "peak memory", "by stage"]
    rows = []
    for arm in comparison["arms"].values():
        cost = arm["cost"]
        if not cost:
            continue
        stages = ", ".join(
            f"{stage.replace('_', '-')} {duration(each['seconds'])}"
            + (f" ({each['steps']:.0f} steps)" if each["steps"] else "")
            for stage, each in cost["by_stage"].items()
        )
        rows.append([
            arm["title"], duration(cost["seconds"]), f"{cost['sampled']:,.0f}", f"{cost['trained']:,.0f}",
            formats.with_spread(arm.get("weight_change", {}).get("all")), f"{cost['memory_mb'] / 1000:.1f} GB", stages,
        ])  # fmt: skip
    return header, rows


def imagination_table(arms: Mapping[str, Json]) -> Table:
    """Header and rows: how far imagination stays true, and whether it recognises good plans; empty without measures."""
    measured = {name: arm for name, arm in arms.items() if {"rollouts", "plans"} & set(arm["measures"])}
    if not measured:
        return [], []
    first = next((a["measures"]["rollouts"] for a in measured.values() if "rollouts" in a["measures"]), None)
    last = max(first["by_depth"], key=int) if first else ""
    header = ["arm"]
    if first:
        header += [f"steps right, of {first['depth']}", "step 1 within τ_d, %", f"step {last} within τ_d, %"]
        header += [f"step {last} from the real history, %"]
    header += ["plans without refusal: gap", "plans that win: gap", "if all is admitted: gap"]
    rows = []
    for arm in measured.values():
        rollouts, plans = (arm["measures"].get(name) for name in ("rollouts", "plans"))
        cells = [arm["title"]]
        if first:
            depth = rollouts["by_depth"] if rollouts else {}
            cells += [formats.with_spread(rollouts and rollouts["steps_right"], "decimal")]
            cells += [formats.with_spread(depth.get(d, {}).get("within")) for d in ("1", last)]
            cells += [formats.with_spread(depth.get(last, {}).get("one_step", {}).get("within"))]
        figures = ("executable", "wins", "wins_if_all_is_admitted")
        rows.append(cells + [formats.with_spread(plans and plans[figure]["gap"], "decimal") for figure in figures])
    return header, rows


def retention_table(arms: Mapping[str, Json]) -> Table:
    """Header and rows, one for each arm and text: loss and accuracy on what training did not show, each with its change
    from the base arm; empty for none."""
    retained = {
        (on, arm["title"]): figures for arm in arms.values() for on, figures in _retained(arm["measures"]).items()
    }
    texts = list(dict.fromkeys(on for on, _ in retained))
    names = list(dict.fromkeys(name for figures in retained.values() for name in figures))
    changed = {name for figures in retained.values() for name, figure in figures.items() if "change" in figure}
    header = ["arm", "on"]
    for name in names:
        header += [name.replace("_", " "), *["change ± over seeds (95% interval)"] * (name in changed)]
    rows = []
    for (on, title), figures in sorted(retained.items(), key=lambda item: texts.index(item[0][0])):
        cells = [title, on]
        for name in names:
            cells += [formats.with_spread(figures.get(name), "decimal")]
            cells += [_change(figures.get(name))] * (name in changed)
        rows.append(cells)
    return (header, rows) if rows else ([], [])


def _retained(measures: Json) -> dict[str, Json]:
    """{text: {figure: ...}} of every retention result."""
    kept = dict(measures.get("held_out", {}))
    if "text" in measures:
        kept["plain text"] = measures["text"]
    return kept | measures.get("lm_eval", {})


def _change(figure: Json | None) -> str:
    change = (figure or {}).get("change")
    if not change or change["interval"][0] is None:
        return NOTHING
    low, high = change["interval"]
    sd = "" if change["sd"] is None else f" ± {change['sd']:.2f}"
    return f"{change['difference']:+.2f}{sd} ({low:+.2f} to {high:+.2f})".replace("-", "−")
