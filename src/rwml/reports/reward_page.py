"""The words and tables of `rwml reward-lab`: reward_lab.md, and what the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rwml.measure.reward_lab import PAID
from rwml.reports.escapes import markdown, one_line
from rwml.reports.formats import markdown_table

Figures = Mapping[str, Any]
"""Of reward_lab.json, or a part of it."""

PERCENTILES_SHOWN = ("p5", "p50", "p95")

_table = partial(markdown_table, aligned=True)


def outcome(figures: Figures, folder: object) -> str:
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


def page(figures: Figures) -> str:
    """The whole report as Markdown."""
    tau = f"{figures['tau_d']:g}"
    parts = [
        f"# Reward lab: {markdown(figures['name'])}",
        *_headline(figures),
        "![Distances by kind of pair, and the ROC](reward_lab.png)",
        "## Distances of the embedding",
        "The first kinds ought to be right, the others wrong. AUC: probability that a harmless rewording is nearer "
        "than such a pair; 0.5 tells nothing.",
        _distance_table(figures["rewards"]["embedding"]["kinds"]),
        "## Which tau_d lets what pass",
        "Share of the pairs with d < tau_d.",
        _pass_table(figures["thresholds"]["passes"], figures["tau_d"]),
        "The largest tau_d that lets at most a share of the wrong pairs pass, and the share of the harmless rewordings "
        "that pass at it.",
        _limit_table(figures["thresholds"]["false_positives"]),
        "## The paper's rule",
        "The data stage's tau_d makes the target share of the transitions easy; training's is that + 0.15, rounded to "
        "the nearest 0.2. A baseline that replaces the predictor guesses once.",
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
        "\n".join(f"* {markdown(name)}: `{_short(cheat['example'])}`" for name, cheat in figures["cheats"].items()),
        *_skipped(figures),
        f"Made in {figures['seconds']} s.",
    ]
    return "\n\n".join(parts) + "\n"


def _headline(figures: Figures) -> list[str]:
    return [
        f"World {markdown(figures['world'])}, embedding {markdown(figures['embedding'])}: "
        f"{figures['transitions']:,} transitions {figures['source']}, {figures['next_states']:,} different next "
        f"states (the most frequent one: "
        f"{figures['most_frequent']:.0%}). tau_d in force: {figures['tau_d']:g} ({figures['tau_source']}).",
        *_verdicts(figures),
    ]


def _verdicts(figures: Figures) -> list[str]:
    """One sentence on each of the two questions, about the embedding under the tau_d in force."""
    kinds = figures["rewards"]["embedding"]["kinds"]
    wrong = {name: kind["reward"] for name, kind in kinds.items() if not kind["right"] and kind["reward"] > PAID}
    paid = {}
    for name, cheat in figures["cheats"].items():
        (row,) = [r for r in cheat["rewards"] if r["name"] == "embedding" and r["at"] == figures["tau_d"]]
        if row["unearned"] is not None and row["unearned"] > PAID:
            paid[name] = row["unearned"]
    facts = [f"{name} {share:.0%}" for name, share in wrong.items()]
    cheats = [f"{name} {share:.0%}" for name, share in paid.items()]
    return [
        "Under the embedding reward at this tau_d, wrong facts earn: " + (", ".join(facts) or "next to nothing") + ". "
        "Cheats earn, where they are wrong: " + (", ".join(cheats) or "next to nothing") + ".",
    ]


def _distance_table(kinds: Figures) -> str:
    head = ["kind of pair", "pairs", "5%", "50%", "95%", "AUC"]
    return _table(head, [
        [name, f"{kind['n']:,}", *(f"{kind['percentiles'][p]:.3f}" for p in PERCENTILES_SHOWN),
         "right" if kind["right"] else _number(kind["auc"])]
        for name, kind in kinds.items()
    ])  # fmt: skip


def _pass_table(passes: Sequence[Figures], tau_d: float) -> str:
    head = ["kind of pair", *(f"{row['tau_d']:g}{'*' if row['tau_d'] == tau_d else ''}" for row in passes)]
    return _table(head, [[kind, *(_share(row["pass"][kind]) for row in passes)] for kind in passes[0]["pass"]])


def _limit_table(limits: Sequence[Figures]) -> str:
    shares = sorted({row["share"] for row in limits})
    kinds = list(dict.fromkeys(row["kind"] for row in limits))
    cells = {(row["kind"], row["share"]): f"{row['tau_d']:.3f} ({_share(row['right'])})" for row in limits}
    head = ["wrong pairs that pass", *(f"<= {share:.0%}" for share in shares)]
    return _table(head, [[kind, *(cells[kind, share] for share in shares)] for kind in kinds])


def _rule_table(rule: Figures) -> str:
    head = ["by", "data-stage tau_d", "easy", "on target", "training tau_d"]
    return _table(head, [
        [name, f"{row['data_tau_d']:g}", _share(row["easy_share"]), "yes" if row["on_target"] else "no",
         f"{row['training_tau_d']:g}"]
        for name, row in rule.items() if name != "target_share"
    ])  # fmt: skip


def _rewards_table(figures: Figures) -> str:
    rewards = figures["rewards"]
    kinds = list(rewards["embedding"]["kinds"])
    head = ["kind of pair", *(f"{name}*" if reward["has_tau"] else name for name, reward in rewards.items())]
    rows = [
        [kind, *(_number(reward["kinds"].get(kind, {}).get("reward")) for reward in rewards.values())] for kind in kinds
    ]
    return _table(head, [*rows, ["AUC, all wrong", *(_number(reward["auc"]) for reward in rewards.values())]])


def _auc_table(rewards: Figures) -> str:
    kinds = [kind for kind, reward in rewards["embedding"]["kinds"].items() if not reward["right"]]
    return _table(["kind of wrong pair", *rewards], [
        [kind, *(_number(reward["kinds"].get(kind, {}).get("auc")) for reward in rewards.values())] for kind in kinds
    ])  # fmt: skip


def _cheat_table(figures: Figures) -> str:
    """What each reward pays, under the tau_d in force if it has a threshold."""
    cheats = figures["cheats"]
    rows = []
    for name, cheat in cheats.items():
        shown = [row for row in cheat["rewards"] if row["at"] in (None, figures["tau_d"])]
        rows.append([name, _share(shown[0]["right"]), *(_number(row["unearned"]) for row in shown)])
    marks = {name: "*" if reward["has_tau"] else "" for name, reward in figures["rewards"].items()}
    return _table(["cheat", "right", *(name + mark for name, mark in marks.items())], rows)


def _threshold_table(figures: Figures, reward: str) -> str:
    """What one reward with a threshold pays under each tau_d, and above which one it pays."""
    cheats = {name: [r for r in cheat["rewards"] if r["name"] == reward] for name, cheat in figures["cheats"].items()}
    head = ["cheat", *(f"{row['at']:g}" for row in next(iter(cheats.values()))), "paid above"]
    return _table(head, [
        [name, *(_number(row["unearned"]) for row in rewards), _paid_above(rewards[0]["tau_d"])]
        for name, rewards in cheats.items()
    ])  # fmt: skip


def _by_threshold(figures: Figures) -> list[str]:
    parts = []
    for name, reward in figures["rewards"].items():
        if reward["has_tau"]:
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


def _skipped(figures: Figures) -> list[str]:
    """What is not in the tables, with its reason."""
    names, sentences = figures["skipped"], []
    if names:
        sentences.append(f"Not asked: {', '.join(names)} (the section [judge] names no server).")
    failed = sum(reward["failed"] for reward in figures["rewards"].values())
    failed += sum(row["failed"] for cheat in figures["cheats"].values() for row in cheat["rewards"])
    if failed:
        sentences.append(f"{failed:,} judgements failed; they count as reward 0.")
    if figures["truncated"]:
        sentences.append(
            f"{figures['truncated']:,} texts were longer than the embedding model reads: their ends do not count."
        )
    return sentences


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _short(text: str, most: int = 120) -> str:
    return one_line(text, most).replace("`", "'")
