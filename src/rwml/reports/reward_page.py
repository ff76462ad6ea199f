"""The words and tables of `rwml reward`: reward_lab.md, and what the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rwml.measure.reward_lab import PAID

Json = Mapping[str, Any]

PERCENTILES_SHOWN = ("p5", "p50", "p95")


def outcome(figures: Json, folder: object) -> str:
    """What the terminal shows: the two tables that decide, and where the rest is."""
    parts = [
        *_headline(figures),
        f"Mean reward by kind of pair (* under tau_d = {figures['tau_d']:g})",
        _rewards_table(figures),
        "Mean reward of a cheat's wrong answers; `right`: how often it happens to be right",
        _cheat_table(figures),
        *_skipped(figures),
        f"{folder}/reward_lab.md, reward_lab.json and reward_lab.png",
    ]
    return "\n\n".join(parts)


def page(figures: Json) -> str:
    """The whole report as Markdown."""
    tau = f"{figures['tau_d']:g}"
    parts = [
        f"# Reward lab: {figures['name']}",
        *_headline(figures),
        "![Distances by kind of pair, and the ROC](reward_lab.png)",
        "## Distances of the embedding",
        "The first kinds ought to be right, the others wrong. AUC: probability that a harmless rewording is nearer "
        "than such a pair; 0.5 tells nothing.",
        _distance_table(figures["rewards"]["embedding"]["kinds"]),
        "## Which tau_d lets what pass",
        "Share of the pairs with d < tau_d.",
        _pass_table(figures["thresholds"]["passes"], figures["tau_d"]),
        "The largest tau_d at which no more than a share of the wrong pairs pass, and how many of the harmless "
        "rewordings pass there.",
        _limit_table(figures["thresholds"]["false_positives"]),
        "## The paper's rule",
        "The data stage's tau_d makes the target share of the transitions easy; training's is that + 0.15, rounded to "
        "the nearest 0.2. A baseline in the place of the predictor guesses once.",
        _rule_table(figures["rule"]),
        f"## What each reward says (tau_d = {tau})",
        "Mean reward by kind of pair; `all wrong` is the AUC against all wrong pairs together.",
        _rewards_table(figures),
        "AUC by kind of wrong pair, from each reward's own distance.",
        _auc_table(figures["rewards"]),
        "## What each reward pays for nothing",
        "Mean reward of the answers that are wrong, and how often the cheat happens to be right (`right`). "
        f"* under tau_d = {tau}.",
        _cheat_table(figures),
        *_by_threshold(figures),
        "The answers:",
        "\n".join(f"* {name}: `{_short(cheat['example'])}`" for name, cheat in figures["cheats"].items()),
        *_skipped(figures),
        f"Made in {figures['seconds']} s.",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, so that it reads on a terminal too."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    shown = [
        "| "
        + " | ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in lines
    ]
    rule = (
        "|"
        + "|".join("-" * (width + 2) if column == 0 else "-" * (width + 1) + ":" for column, width in enumerate(widths))
        + "|"
    )
    return "\n".join([shown[0], rule, *shown[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _headline(figures: Json) -> list[str]:
    return [
        f"World {figures['world']}, embedding {figures['embedding']}: {figures['transitions']:,} transitions "
        f"{figures['source']}, {figures['next_states']:,} different next states (the most frequent one: "
        f"{figures['most_frequent']:.0%}). tau_d in force: {figures['tau_d']:g} ({figures['tau_source']}).",
        *_verdicts(figures),
    ]


def _verdicts(figures: Json) -> list[str]:
    """One sentence on each of the two questions, about the embedding under the tau_d in force."""
    kinds = figures["rewards"]["embedding"]["kinds"]
    wrong = {name: kind["reward"] for name, kind in kinds.items() if not kind["right"] and kind["reward"] > PAID}
    paid = {}
    for name, cheat in figures["cheats"].items():
        (row,) = [r for r in cheat["rewards"] if r["name"] == "embedding" and r["at"] == figures["tau_d"]]
        if row["unearned"] is not None and row["unearned"] > PAID:
            paid[name] = row["unearned"]
    said = [f"{name} {share:.0%}" for name, share in wrong.items()]
    cheats = [f"{name} {share:.0%}" for name, share in paid.items()]
    return [
        "Under the embedding reward at this tau_d, wrong facts earn: " + (", ".join(said) or "next to nothing") + ". "
        "Cheats earn, where they are wrong: " + (", ".join(cheats) or "next to nothing") + ".",
    ]


def _distance_table(kinds: Json) -> str:
    head = ["kind of pair", "pairs", "5%", "50%", "95%", "AUC"]
    return table(head, [
        [name, f"{kind['n']:,}", *(f"{kind['percentiles'][p]:.3f}" for p in PERCENTILES_SHOWN),
         "right" if kind["right"] else _number(kind["auc"])]
        for name, kind in kinds.items()
    ])  # fmt: skip


def _pass_table(passes: Sequence[Json], tau_d: float) -> str:
    head = ["kind of pair", *(f"{row['tau_d']:g}{'*' if row['tau_d'] == tau_d else ''}" for row in passes)]
    return table(head, [[kind, *(_share(row["pass"][kind]) for row in passes)] for kind in passes[0]["pass"]])


def _limit_table(limits: Sequence[Json]) -> str:
    shares = sorted({row["share"] for row in limits})
    kinds = list(dict.fromkeys(row["kind"] for row in limits))
    found = {(row["kind"], row["share"]): f"{row['tau_d']:.3f} ({_share(row['right'])})" for row in limits}
    head = ["wrong pairs that pass", *(f"<= {share:.0%}" for share in shares)]
    return table(head, [[kind, *(found[kind, share] for share in shares)] for kind in kinds])


def _rule_table(rule: Json) -> str:
    head = ["by", "data-stage tau_d", "easy", "on target", "training tau_d"]
    return table(head, [
        [name, f"{row['data_tau_d']:g}", _share(row["easy_share"]), "yes" if row["on_target"] else "no",
         f"{row['training_tau_d']:g}"]
        for name, row in rule.items() if name != "target_share"
    ])  # fmt: skip


def _rewards_table(figures: Json) -> str:
    rewards = figures["rewards"]
    kinds = list(rewards["embedding"]["kinds"])
    head = ["kind of pair", *(f"{name}*" if found["has_tau"] else name for name, found in rewards.items())]
    rows = [
        [
            kind,
            *(_number(found["kinds"][kind]["reward"]) if kind in found["kinds"] else "" for found in rewards.values()),
        ]
        for kind in kinds
    ]
    return table(head, [*rows, ["AUC, all wrong", *(_number(found["auc"]) for found in rewards.values())]])


def _auc_table(rewards: Json) -> str:
    kinds = [kind for kind, found in rewards["embedding"]["kinds"].items() if not found["right"]]
    return table(["kind of wrong pair", *rewards], [
        [kind, *(_number(found["kinds"].get(kind, {}).get("auc")) for found in rewards.values())] for kind in kinds
    ])  # fmt: skip


def _cheat_table(figures: Json) -> str:
    """What each reward pays, under the tau_d in force where it has one."""
    cheats = figures["cheats"]
    rows = []
    for name, cheat in cheats.items():
        shown = [row for row in cheat["rewards"] if row["at"] in (None, figures["tau_d"])]
        rows.append([name, _share(shown[0]["right"]), *(_number(row["unearned"]) for row in shown)])
    marks = {name: "*" if found["has_tau"] else "" for name, found in figures["rewards"].items()}
    return table(["cheat", "right", *(name + mark for name, mark in marks.items())], rows)


def _threshold_table(figures: Json, reward: str) -> str:
    """What one reward with a threshold pays under each tau_d, and from where on it pays."""
    cheats = {name: [r for r in cheat["rewards"] if r["name"] == reward] for name, cheat in figures["cheats"].items()}
    head = ["cheat", *(f"{row['at']:g}" for row in next(iter(cheats.values()))), "paid above"]
    return table(head, [
        [name, *(_number(row["unearned"]) for row in found), _paid_above(found[0]["tau_d"])]
        for name, found in cheats.items()
    ])  # fmt: skip


def _by_threshold(figures: Json) -> list[str]:
    parts = []
    for name, found in figures["rewards"].items():
        if found["has_tau"]:
            parts += [
                f"The reward `{name}` by tau_d. Above the tau_d of the last column, more than {PAID:.0%} of the "
                "cheat's wrong answers are within it.",
                _threshold_table(figures, name),
            ]
    return parts


def _paid_above(tau_d: float | None) -> str:
    if tau_d is None:
        return "never wrong"
    return "never" if tau_d >= 2 else f"{tau_d:.2f}"


def _skipped(figures: Json) -> list[str]:
    """What is not in the tables, with its reason."""
    names, said = figures["skipped"], []
    if names:
        said.append(f"Not asked: {', '.join(names)} (the section [judge] names no server).")
    failed = sum(found["failed"] for found in figures["rewards"].values())
    failed += sum(row["failed"] for cheat in figures["cheats"].values() for row in cheat["rewards"])
    if failed:
        said.append(f"{failed:,} judgements failed; they count as reward 0.")
    if figures["truncated"]:
        said.append(
            f"{figures['truncated']:,} texts were longer than the embedding model reads: their ends do not count."
        )
    return said


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _short(text: str, most: int = 120) -> str:
    line = " ".join(text.split()).replace("`", "'")
    return line if len(line) <= most else line[: most - 3] + "..."
