"""`rwml reward`: what the rewards can tell apart and what they pay for nothing, before any training.

Writes reward_lab.json, reward_lab.md and reward_lab.png into the recipe's folder. It is no link of the chain: nothing
reads its files, and it leaves the stages as they are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from rwml.core.errors import RwmlError
from rwml.core.files import atomic_file, read_json, write_json
from rwml.core.progress import note, progress
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import JUDGE_REWARDS, REWARD_NAMES, asks_judge
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.seeds import random_for, seed_of
from rwml.core.types import Transition
from rwml.exchange.episode_folder import imported_episodes
from rwml.loading import load_embedder, load_world
from rwml.measure.reward_lab import (
    REWORDED,
    RIGHT_KINDS,
    WRONG_KINDS,
    Pair,
    by_kind,
    cheat_figures,
    make_pairs,
    pair_figures,
    roc_curve,
    rule_figures,
    threshold_figures,
    together,
)
from rwml.models.embedding.embedder import Embedder
from rwml.play.rollout import play_actor, seats_for
from rwml.reports.plots import write_reward_png
from rwml.reports.reward_page import page
from rwml.rewards.judge import Judge
from rwml.rewards.rewards import KindReward
from rwml.train.drift import cheat_answers
from rwml.world_models.baselines import baseline_answers
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

SCHEMA_VERSION = 1
OWN = "this recipe"
"""The column of `train_wm.reward` where it is a table by kind of next state."""

FALSE_POSITIVE_SHARES = (0.0, 0.01, 0.05, 0.1)


def run(recipe: Recipe) -> dict[str, Any]:
    """Measure, write the three files, and return the figures (docs/reward-lab.md defines them)."""
    began, config = time.monotonic(), recipe.reward_lab
    world = load_world(recipe)
    rows, source = lab_rows(recipe, world)
    embedder = cache(lambda: load_embedder(recipe.embedding, recipe.folder / "cache"))
    asked = random_for(recipe.seed, "reward_lab", "questions").sample(rows, min(config.num_transitions, len(rows)))
    pairs = make_pairs(rows, config.num_states, recipe.seed)
    note(f"reward: {len(rows):,} transitions {source}; {len(pairs):,} pairs, {len(asked):,} questions")

    distances_N, _ = KindReward("embedding", embedder, 1.0).score([p.predicted for p in pairs], [p.row for p in pairs])
    distances = by_kind(pairs, distances_N)
    rule = _rule(recipe, world, rows, asked, embedder)
    tau_d, tau_source = _tau_in_force(recipe, rule)
    taus = sorted({*config.tau_d, tau_d})
    figures: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "world": world.name,
        "embedding": recipe.embedding.path,
        "reward": recipe.train_wm.reward,
        "source": source,
        "transitions": len(rows),
        "next_states": len({row.next_state for row in rows}),
        "questions": len(asked),
        "most_frequent": Counter(row.next_state for row in rows).most_common(1)[0][1] / len(rows),
        "tau_d": tau_d,
        "tau_source": tau_source,
        "rule": rule,
        "thresholds": threshold_figures(distances, taus, FALSE_POSITIVE_SHARES),
        **_of_rewards(recipe, embedder, taus, tau_d, pairs, asked, cheat_answers(asked, rows)),
        "truncated": embedder().stats.truncated,
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(recipe, figures, pairs, distances_N)
    return figures


def lab_rows(recipe: Recipe, world: World) -> tuple[list[Transition], str]:
    """The transitions to look at, and where they are from: the run's own where they were made under the settings that
    the recipe has now, imported episodes, or episodes that a built-in policy plays now.

    RwmlError where the world has no policy to play with, or the episodes give no transition.
    """
    config = recipe.reward_lab
    if Run.peek(recipe).is_done("transitions"):
        rows, source = read_records(recipe.folder / "transitions.parquet", Transition), "of the run"
    else:
        if recipe.collect.episodes:
            found = imported_episodes(recipe.collect.episodes, recipe.collect.split)
            episodes = [episode for episode in found if episode.task.world == world.name]
            source = "of imported episodes"
        else:
            policy = _policy(recipe, world)
            tasks = world.tasks(recipe.collect.split)[: config.num_tasks]
            episodes = play_actor(
                world, seats_for(tasks, 1, seed_of(recipe.seed, "reward_lab", "play")), policy, recipe.world.max_steps
            )
            source = f"played by '{policy}'"
        steps = recipe.transitions.history_steps
        rows = [row for episode in episodes for row in transitions_of(episode, world, "train", steps)]
    if not rows:
        raise RwmlError(
            f"there are no transitions {source} of the world {world.name}, split '{recipe.collect.split}'",
            "rewards are tried on real next states",
            "collect some (`rwml run RECIPE --until transitions`), or set reward_lab.policy or collect.episodes",
        )
    return rows, source


def _policy(recipe: Recipe, world: World) -> str:
    chosen = recipe.reward_lab.policy or ("" if recipe.collect.policy == "model" else recipe.collect.policy)
    names = world.actors()
    if not chosen and not names:
        raise RwmlError(
            f"the world {world.name} has no built-in policy, and the run in '{recipe.folder}' has no transitions yet",
            "rewards are tried on real next states",
            "run `rwml run RECIPE --until transitions` first, or set collect.episodes to imported ones",
        )
    return chosen or ("noisy" if "noisy" in names else names[0])


def _rule(
    recipe: Recipe,
    world: World,
    rows: Sequence[Transition],
    asked: Sequence[Transition],
    embedder: Callable[[], Embedder],
) -> dict[str, Any]:
    """The paper's rule: by the run's filter where it has run under the settings that the recipe has now, and by each
    baseline in the place of its predictor."""
    config = recipe.filter
    rule: dict[str, Any] = {"target_share": config.target_share}
    found = read_json(recipe.folder / "filter.json") if Run.peek(recipe).is_done("filter") else {}
    if "training_tau_d" in found:
        rule["filter"] = {
            "data_tau_d": found["tau_d"],
            "easy_share": found["easy_share"],
            "on_target": found["on_target"],
            "training_tau_d": found["training_tau_d"],
        }
    reward = KindReward("embedding", embedder, 1.0)
    for name, answers in baseline_answers(world, rows, asked).items():
        distances_N, _ = reward.score(answers, asked)
        rule[name] = rule_figures(distances_N, config.target_share, config.tau_d, config.tau_easy)
    return rule


def _tau_in_force(recipe: Recipe, rule: Mapping[str, Any]) -> tuple[float, str]:
    if recipe.train_wm.tau_d is not None:
        return recipe.train_wm.tau_d, "train_wm.tau_d"
    for name, source in (("filter", "the rule, from filter.json"), ("most_frequent", "the rule, from most_frequent")):
        if name in rule:
            return float(rule[name]["training_tau_d"]), source
    raise AssertionError("the baselines are always there")


def _of_rewards(
    recipe: Recipe,
    embedder: Callable[[], Embedder],
    taus: Sequence[float],
    tau_d: float,
    pairs: Sequence[Pair],
    asked: Sequence[Transition],
    cheats: Mapping[str, Sequence[str | None]],
) -> dict[str, Any]:
    """What every reward makes of the pairs (at `tau_d`) and pays each cheat (at each of `taus`, where it has one)."""
    of_pairs: dict[str, Any] = {}
    of_cheats: dict[str, Any] = {
        name: {"example": next((a for a in answers if a), ""), "rewards": []} for name, answers in cheats.items()
    }
    skipped = [name for name in JUDGE_REWARDS if not (recipe.judge.base_url and recipe.judge.model)]
    choices: dict[str, str | dict[str, str]] = {name: name for name in REWARD_NAMES if name not in skipped}
    if not isinstance(recipe.train_wm.reward, str):
        choices[OWN] = recipe.train_wm.reward
    judge = cache(lambda: Judge(recipe.judge, recipe.folder / "cache"))
    with progress("reward: audit", total=len(choices), unit="reward") as bar:
        for name, choice in choices.items():
            judged = asks_judge(choice)
            most = recipe.reward_lab.num_judged if judged else len(asked)
            few = _first_of_each_kind(pairs, most) if judged else pairs
            at = {tau: KindReward(choice, embedder, tau, judge) for tau in (*taus, tau_d)}
            has_tau = not judged and _depends_on_tau(choice, embedder, few)
            of_pairs[name] = pair_figures(at[tau_d], few) | {"has_tau": has_tau}
            for tau in taus if has_tau else [tau_d]:
                for cheat, answers in cheats.items():
                    paid = cheat_figures(at[tau], answers[:most], asked[:most])
                    of_cheats[cheat]["rewards"].append({"name": name, "at": tau if has_tau else None} | paid)
            bar.advance(1)
    return {"rewards": of_pairs, "cheats": of_cheats, "skipped": skipped}


def _depends_on_tau(choice: str | Mapping[str, str], embedder: Callable[[], Embedder], pairs: Sequence[Pair]) -> bool:
    """Whether a threshold has a part in the reward: whether the strictest one and the loosest one differ."""
    predicted, rows = [pair.predicted for pair in pairs], [pair.row for pair in pairs]
    strict, loose = (KindReward(choice, embedder, tau).score(predicted, rows)[1] for tau in (1e-9, 2.0))
    return not np.array_equal(strict, loose)


def _first_of_each_kind(pairs: Sequence[Pair], number: int) -> list[Pair]:
    seen: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        seen[pair.kind] += 1
        if seen[pair.kind] <= number:
            chosen.append(pair)
    return chosen


def _write(recipe: Recipe, figures: dict[str, Any], pairs: Sequence[Pair], distances_N: Any) -> None:
    folder, distances = recipe.folder, by_kind(pairs, distances_N)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "reward_lab.json", figures)
    right = together(distances, REWORDED)
    curves = {kind: roc_curve(right, distances[kind]) for kind in WRONG_KINDS if len(right) and kind in distances}
    points = {kind: values.tolist() for kind, values in distances.items()}
    write_reward_png(folder / "reward_lab.png", points, RIGHT_KINDS, figures["tau_d"], curves)
    with atomic_file(folder / "reward_lab.md") as handle:
        handle.write(page(figures).encode())
