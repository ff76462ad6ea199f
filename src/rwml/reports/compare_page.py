"""A comparison for people and for papers: compare.html, compare.md, compare.csv, compare.tex, compare.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rwml.core.files import atomic_file, write_json
from rwml.core.progress import duration
from rwml.measure.compare.measures import flat, imagination_table, retention_table
from rwml.measure.figures.sentences import NOTHING
from rwml.reports import formats
from rwml.reports.page import render_page
from rwml.reports.plots import SERIES, BandPanel, band_of, bands_svg, write_bands_png

Json = dict[str, Any]
NAMES = {"valid_seen": "seen", "valid_unseen": "unseen", "all": "AVG"}
CURVE_TITLES = {
    ("train_wm", "within_tau"): ("World model: answers within τ_d", True),
    ("train_wm", "exact"): ("World model: exact answers", True),
    ("train_wm", "signal_share"): ("World model: groups with signal", True),
    ("train_wm", "kl"): ("World model: KL to the start", False),
    ("train_wm", "cross_entropy"): ("World model: cross-entropy", False),
    ("train_policy", "success"): ("Policy: games won", True),
    ("train_policy", "steps_per_episode"): ("Policy: steps per episode", False),
    ("train_policy", "invalid_share"): ("Policy: invalid actions", True),
    ("train_policy", "signal_share"): ("Policy: groups with signal", True),
    ("train_policy", "kl"): ("Policy: KL to the start", False),
}
PICTURE = (("train_wm", "within_tau"), ("train_policy", "success"))
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
CAVEAT = (
    "Ours ± is the standard deviation over training seeds; brackets are 95% intervals over held-out tasks. "
    "The paper's numbers are of another model of another size on other games: they tell the order of the methods "
    "there, not what ours should reach."
)


def export(folder: Path, found: Json) -> Path:
    """Write every form of a comparison (`figures`) into its folder; returns the HTML page."""
    write_json(folder / "compare.json", found)
    panels = band_panels(found)
    drawn = [panel for key, panel in panels.items() if key in PICTURE]
    (folder / "compare.png").unlink(missing_ok=True)
    if drawn:
        write_bands_png(folder / "compare.png", drawn)
    texts = {
        "compare.md": markdown(found), "compare.csv": as_csv(found), "compare.tex": latex(found),
        "compare.html": render_page("compare.html.jinja", context(found, list(panels.values()))),
    }  # fmt: skip
    for name, text in texts.items():
        with atomic_file(folder / name) as handle:
            handle.write(text.encode())
    return folder / "compare.html"


def columns(found: Json) -> list[str]:
    """Splits in the order of the table: those of the recipe, then all of them pooled."""
    return [*found["splits"], "all"]


def split_name(split: str) -> str:
    """A split as the paper's table names it."""
    return NAMES.get(split, split)


def of(arm: Json, part: str, split: str, name: str) -> Json | None:
    """One measure of one arm, None where it was not measured."""
    found: Json | None = arm[part].get(split, {}).get(name)
    return found


def groups_of(found: Json) -> dict[str, dict[str, Json]]:
    """Arms that were examined under some seed, by group, in the order of the recipe."""
    result: dict[str, dict[str, Json]] = {}
    for name, arm in found["arms"].items():
        if arm["seeds"]:
            result.setdefault(arm["group"], {})[name] = arm
    return result


def paper_cell(arm: Json, split: str) -> str:
    """The paper's number beside ours."""
    value = arm["paper"].get(split)
    return NOTHING if value is None else f"{value:.1f}"


def main_table(found: Json, arms: Mapping[str, Json]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the paper's table: success by split in percent, ours and the paper's, and the world model."""
    splits = columns(found)
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


def measure_table(
    arms: Mapping[str, Json], measures: Sequence[tuple[str, str, str, str, str]]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of several measures (`QUALITY`, `ANSWERS`) of the arms that have the first one's part."""
    rows = [
        [arm["title"], *(formats.with_spread(of(arm, *where), kind) for _, *where, kind in measures)]
        for arm in arms.values()
        if arm[measures[0][1]]
    ]
    return ["arm", *(title for title, *_ in measures)], rows


def cost_table(found: Json) -> tuple[list[str], list[list[str]]]:
    """What each arm cost, per seed on average: stages that it shares with other arms count for each of them."""
    header = ["arm", "time", "tokens sampled", "tokens trained", "weights changed, %", "peak memory", "by stage"]
    rows = []
    for arm in found["arms"].values():
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


def not_shown(found: Json) -> list[str]:
    """Arms and seeds that the tables lack, by reason."""
    reasons: dict[str, list[str]] = {}
    for arm in found["arms"].values():
        for reason in dict.fromkeys(arm["missing"].values()):
            seeds = [seed for seed, why in arm["missing"].items() if why == reason]
            which = "" if len(seeds) == len(found["seeds"]) else f" (seed {', '.join(seeds)})"
            reasons.setdefault(reason, []).append(arm["title"] + which)
    return [f"{reason}: {'; '.join(arms)}" for reason, arms in reasons.items()]


def markdown(found: Json) -> str:
    """Tables and sentences in GitHub's Markdown."""
    lines = [f"# {found['name']}", "", facts(found), ""]
    for group, arms in groups_of(found).items():
        lines += [f"## Success in percent: {group}", "", *_pipes(*main_table(found, arms)), ""]
    lines += [CAVEAT + f" Paper: {found['paper']['source']}.", "", "## What the data support", ""]
    lines += [f"- {each['sentence']}" for each in found["contrasts"]]
    everything = _examined(found)
    shown = everything | {name: {"title": name, **arm} for name, arm in found["baselines"].items()}
    tables = {
        "Decisions": measure_table(everything, QUALITY),
        "World model": measure_table(shown, ANSWERS),
        "Imagination": imagination_table(everything),
        "Retention": retention_table(everything),
        "Cost per seed": cost_table(found),
    }
    for title, (header, rows) in tables.items():
        lines += ["", f"## {title}", "", *_pipes(header, rows)] if rows else []
    lines += [""]
    if not_shown(found):
        lines += ["## Not shown", "", *(f"- {line}" for line in not_shown(found)), ""]
    return "\n".join(lines)


def facts(found: Json) -> str:
    """What was compared, in one sentence."""
    arms = sum(bool(arm["seeds"]) for arm in found["arms"].values())
    return (
        f"{arms} arms, seeds {', '.join(map(str, found['seeds']))}; model {found['model']}, world {found['world']}, "
        f"threshold τ_d = {found['tau_d']:g}; rwml {found['rwml']}."
    )


def as_csv(found: Json) -> str:
    """One line for each arm, part, split and measure; shares as fractions, the paper's as printed (percent)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["arm", "title", "group", "part", "split", "measure", "mean", "sd", "low", "high", "n", "tasks", "seeds",
         "by_seed", "paper_percent"]
    )  # fmt: skip
    rows = [(name, arm) for name, arm in found["arms"].items()]
    rows += [
        (name, {"title": name, "group": "baseline", "paper": {}, **arm}) for name, arm in found["baselines"].items()
    ]
    for name, arm in rows:
        for part in ("success", "world_model", "world_model_by_action"):
            for split, measures in arm[part].items():
                for key, m in measures.items():
                    paper = arm["paper"].get(split) if key == "success" else None
                    seeds = " ".join(f"{s}:{_plain(v)}" for s, v in m["by_seed"].items())
                    writer.writerow([
                        name, arm["title"], arm["group"], part, split, key, *map(_plain, (m["mean"], m["sd"], m["low"],
                        m["high"])), m["n"], m["clusters"], len(m["by_seed"]), seeds, _plain(paper),
                    ])  # fmt: skip
        for part, of_what, key, m in flat(arm.get("measures", {})):
            seeds = " ".join(f"{s}:{_plain(v)}" for s, v in m["by_seed"].items())
            writer.writerow([
                name, arm["title"], arm["group"], part, of_what, key, _plain(m["mean"]), _plain(m["sd"]),
                "", "", "", "", len(m["by_seed"]), seeds, "",
            ])  # fmt: skip
    return buffer.getvalue()


def latex(found: Json) -> str:
    """The paper's table with booktabs, one tabular for each group of arms."""
    parts = [f"% {facts(found)}", "% needs \\usepackage{booktabs}"]
    for group, arms in groups_of(found).items():
        header, rows = main_table(found, arms)
        parts += [
            f"% {_tex(group)}", f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\toprule",
            " & ".join(map(_tex, header)) + " \\\\", "\\midrule",
            *(" & ".join(map(_tex, row)) + " \\\\" for row in rows), "\\bottomrule", "\\end{tabular}", "",
        ]  # fmt: skip
    return "\n".join(parts)


def context(found: Json, panels: Sequence[BandPanel]) -> Json:
    """All that the page shows."""
    everything = _examined(found)
    shown = everything | {name: {"title": name.replace("_", " "), **arm} for name, arm in found["baselines"].items()}
    titles = {name: arm["title"] for name, arm in shown.items()}
    return {
        "name": found["name"], "facts": facts(found), "caveat": CAVEAT, "paper": found["paper"],
        "groups": {group: main_table(found, arms) for group, arms in groups_of(found).items()},
        "contrasts": found["contrasts"], "titles": titles, "base": titles.get(found["base"], found["base"]),
        "quality": measure_table(everything, QUALITY),
        "answers": measure_table(shown, ANSWERS), "costs": cost_table(found),
        "imagination": imagination_table(everything), "retention": retention_table(everything),
        "curves": [
            (p.title, bands_svg(p), [(b.label, c % len(SERIES)) for b, c in zip(p.bands, p.colours, strict=True)])
            for p in panels
        ],
        "examples": found["examples"], "missing": not_shown(found), "unit": found["compute_unit"],
        "tau_d": found["tau_d"], "toml": formats.recipe_toml(found["recipe"]),
    }  # fmt: skip


def band_panels(found: Json) -> dict[tuple[str, str], BandPanel]:
    """The learning curves that move, one chart for each figure of training; a colour belongs to an arm."""
    number = {name: i for i, name in enumerate(found["arms"])}
    panels: dict[tuple[str, str], BandPanel] = {}
    for key, (title, share) in CURVE_TITLES.items():
        lines = [line for line in found["curves"] if (line["stage"], line["metric"]) == key]
        bands, colours = [], []
        for line in lines:
            seeds = [(each["steps"], each["values"]) for each in line["seeds"].values()]
            band = band_of(found["arms"][line["arm"]]["title"], seeds)
            if len(band.steps) > 1:
                bands.append(band)
                colours.append(number[line["arm"]])
        if len({value for band in bands for value in band.middle}) > 1:
            panels[key] = BandPanel(title, bands, colours, share)
    return panels


def _examined(found: Json) -> dict[str, Json]:
    return {name: arm for name, arm in found["arms"].items() if arm["seeds"]}


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
               "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "τ": r"$\tau$",
               "–": "--", "−": "$-$", "²": "$^2$"}  # fmt: skip
    return "".join(special.get(sign, sign) for sign in text).replace(r"$\tau$\_d", r"$\tau_d$")
