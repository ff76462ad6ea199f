"""A comparison for people and for papers: compare.html, compare.md, compare.csv, compare.tex, compare.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rwml.core.files import Json, atomic_file, write_json
from rwml.core.recipe.recipe import recipe_toml
from rwml.measure.compare.arm_measures import flat
from rwml.reports import escapes, formats
from rwml.reports.compare_tables import (
    ANSWERS,
    QUALITY,
    cost_table,
    groups_of,
    imagination_table,
    main_table,
    measure_table,
    retention_table,
)
from rwml.reports.page import render_page
from rwml.reports.plots import SERIES, BandPanel, band_of, bands_svg, write_bands_png

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
CAVEAT = (
    "Ours ± is the standard deviation over training seeds; brackets are 95% intervals over held-out tasks. "
    "The paper's numbers are of another model of another size on other games: they tell the order of the methods "
    "there, not what ours should reach."
)


def export(folder: Path, comparison: Json) -> Path:
    """Write every form of a comparison (`figures`) into its folder; returns the HTML page."""
    write_json(folder / "compare.json", comparison)
    panels = band_panels(comparison)
    drawn = [panel for key, panel in panels.items() if key in PICTURE]
    (folder / "compare.png").unlink(missing_ok=True)
    if drawn:
        write_bands_png(folder / "compare.png", drawn)
    texts = {
        "compare.md": markdown(comparison), "compare.csv": as_csv(comparison), "compare.tex": latex(comparison),
        "compare.html": render_page("compare.html.jinja", context(comparison, list(panels.values()))),
    }  # fmt: skip
    for name, text in texts.items():
        with atomic_file(folder / name) as handle:
            handle.write(text.encode())
    return folder / "compare.html"


def not_shown(comparison: Json) -> list[str]:
    """Arms and seeds that the tables lack, by reason."""
    reasons: dict[str, list[str]] = {}
    for arm in comparison["arms"].values():
        for reason in dict.fromkeys(arm["missing"].values()):
            seeds = [seed for seed, why in arm["missing"].items() if why == reason]
            which = "" if len(seeds) == len(comparison["seeds"]) else f" (seed {', '.join(seeds)})"
            reasons.setdefault(reason, []).append(arm["title"] + which)
    return [f"{reason}: {'; '.join(arms)}" for reason, arms in reasons.items()]


def markdown(comparison: Json) -> str:
    """Tables and sentences in GitHub's Markdown."""
    lines = [f"# {escapes.markdown(comparison['name'])}", "", escapes.markdown(facts(comparison)), ""]
    for group, arms in groups_of(comparison).items():
        table = formats.markdown_table(*main_table(comparison, arms))
        lines += [f"## Success in percent: {escapes.markdown(group)}", "", table, ""]
    source = escapes.markdown(comparison["paper"]["source"])
    lines += [f"{CAVEAT} Paper: {source}.", "", "## What the data support", ""]
    lines += [f"- {escapes.markdown(each['sentence'])}" for each in comparison["contrasts"]]
    everything = _examined(comparison)
    shown = everything | {name: {"title": name, **arm} for name, arm in comparison["baselines"].items()}
    tables = {
        "Decisions": measure_table(everything, QUALITY),
        "World model": measure_table(shown, ANSWERS),
        "Imagination": imagination_table(everything),
        "Retention": retention_table(everything),
        "Cost per seed": cost_table(comparison),
    }
    for title, (header, rows) in tables.items():
        lines += ["", f"## {title}", "", formats.markdown_table(header, rows)] if rows else []
    lines += [""]
    if not_shown(comparison):
        lines += ["## Not shown", "", *(f"- {escapes.markdown(line)}" for line in not_shown(comparison)), ""]
    return "\n".join(lines)


def facts(comparison: Json) -> str:
    """What was compared, in one sentence."""
    arms = sum(bool(arm["seeds"]) for arm in comparison["arms"].values())
    return (
        f"{arms} arms, seeds {', '.join(map(str, comparison['seeds']))}; model {comparison['model']}, "
        f"world {comparison['world']}, threshold τ_d = {comparison['tau_d']:g}; rwml {comparison['rwml']}."
    )


def as_csv(comparison: Json) -> str:
    """One line for each arm, part, split and measure; shares as fractions, the paper's as printed (percent)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["arm", "title", "group", "part", "split", "measure", "mean", "sd", "low", "high", "n", "tasks", "seeds",
         "by_seed", "paper_percent"]
    )  # fmt: skip
    rows = [(name, arm) for name, arm in comparison["arms"].items()]
    rows += [
        (name, {"title": name, "group": "baseline", "paper": {}, **arm})
        for name, arm in comparison["baselines"].items()
    ]
    for name, arm in rows:
        for part in ("success", "world_model", "world_model_by_action"):
            for split, measures in arm[part].items():
                for key, m in measures.items():
                    paper = arm["paper"].get(split) if key == "success" else None
                    seeds = " ".join(f"{s}:{_plain(v)}" for s, v in m["by_seed"].items())
                    writer.writerow([
                        *map(escapes.csv_cell, (name, arm["title"], arm["group"], part, split, key)),
                        *map(_plain, (m["mean"], m["sd"], m["low"], m["high"])), m["n"], m["clusters"],
                        len(m["by_seed"]), seeds, _plain(paper),
                    ])  # fmt: skip
        for part, of_what, key, m in flat(arm.get("measures", {})):
            seeds = " ".join(f"{s}:{_plain(v)}" for s, v in m["by_seed"].items())
            writer.writerow([
                *map(escapes.csv_cell, (name, arm["title"], arm["group"], part, of_what, key)),
                _plain(m["mean"]), _plain(m["sd"]), "", "", "", "", len(m["by_seed"]), seeds, "",
            ])  # fmt: skip
    return buffer.getvalue()


def latex(comparison: Json) -> str:
    """The paper's table with booktabs, one tabular for each group of arms."""
    parts = [f"% {escapes.latex(facts(comparison))}", "% needs \\usepackage{booktabs}"]
    for group, arms in groups_of(comparison).items():
        header, rows = main_table(comparison, arms)
        parts += [
            f"% {escapes.latex(group)}", f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\toprule",
            " & ".join(map(escapes.latex, header)) + " \\\\", "\\midrule",
            *(" & ".join(map(escapes.latex, row)) + " \\\\" for row in rows), "\\bottomrule", "\\end{tabular}", "",
        ]  # fmt: skip
    return "\n".join(parts)


def context(comparison: Json, panels: Sequence[BandPanel]) -> Json:
    """All that the page shows."""
    everything = _examined(comparison)
    shown = everything | {
        name: {"title": name.replace("_", " "), **arm} for name, arm in comparison["baselines"].items()
    }
    titles = {name: arm["title"] for name, arm in shown.items()}
    return {
        "name": comparison["name"], "facts": facts(comparison), "caveat": CAVEAT, "paper": comparison["paper"],
        "groups": {group: main_table(comparison, arms) for group, arms in groups_of(comparison).items()},
        "contrasts": comparison["contrasts"], "titles": titles,
        "base": titles.get(comparison["base"], comparison["base"]),
        "quality": measure_table(everything, QUALITY),
        "answers": measure_table(shown, ANSWERS), "costs": cost_table(comparison),
        "imagination": imagination_table(everything), "retention": retention_table(everything),
        "curves": [
            (p.title, bands_svg(p), [(b.label, c % len(SERIES)) for b, c in zip(p.bands, p.colours, strict=True)])
            for p in panels
        ],
        "examples": comparison["examples"], "missing": not_shown(comparison), "unit": comparison["compute_unit"],
        "tau_d": comparison["tau_d"], "toml": recipe_toml(comparison["recipe"]),
    }  # fmt: skip


def band_panels(comparison: Json) -> dict[tuple[str, str], BandPanel]:
    """The learning curves that move, one chart for each figure of training; a colour belongs to an arm."""
    number = {name: i for i, name in enumerate(comparison["arms"])}
    panels: dict[tuple[str, str], BandPanel] = {}
    for key, (title, share) in CURVE_TITLES.items():
        lines = [line for line in comparison["curves"] if (line["stage"], line["metric"]) == key]
        bands, colours = [], []
        for line in lines:
            seeds = [(each["steps"], each["values"]) for each in line["seeds"].values()]
            band = band_of(comparison["arms"][line["arm"]]["title"], seeds)
            if len(band.steps) > 1:
                bands.append(band)
                colours.append(number[line["arm"]])
        if len({value for band in bands for value in band.middle}) > 1:
            panels[key] = BandPanel(title, bands, colours, share=share)
    return panels


def _examined(comparison: Json) -> dict[str, Json]:
    return {name: arm for name, arm in comparison["arms"].items() if arm["seeds"]}


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
