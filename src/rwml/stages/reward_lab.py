"""`rwml reward-lab`: what the rewards can tell apart and what they pay for nothing, before any training.

Writes reward_lab.json, reward_lab.md and reward_lab.png into the recipe's folder. No stage reads these files, and the
stages stay as they are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.files import atomic_file, read_json, write_json
from rwml.core.progress import note
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import DEFAULT_REWARD, REWARDS, asks_judge, unset_judge_keys
from rwml.core.recipe.words_needed import check_words
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.run_folder.claim import claim
from rwml.core.seeds import generator_for, random_for, seed_of
from rwml.core.types import Transition
from rwml.exchange.episode_folder import imported_episodes
from rwml.loading import load_embedder, load_judge, load_policy, load_world
from rwml.measure.cheats import cheat_answers
from rwml.measure.reward_lab import (
    REWORDED,
    RIGHT_KINDS,
    WRONG_KINDS,
    AuditedReward,
    Pair,
    audit,
    by_kind,
    make_pairs,
    roc_curve,
    rule_figures,
    threshold_figures,
    together,
)
from rwml.models.embedding.embedder import Embedder
from rwml.playing.policies import play_seats
from rwml.playing.rollout import seats_for
from rwml.reports.plots import write_reward_png
from rwml.reports.reward_page import page
from rwml.rewards.rewards import KindReward
from rwml.world_models.baselines import BASELINES
from rwml.world_models.world_model import Materials, first_of_each, make_world_model
from rwml.worlds.answers import tasks_of
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

SCHEMA_VERSION = 1
OWN = "this recipe"
"""The column of a `train_wm.reward` that is a table by kind of next state."""

FALSE_POSITIVE_SHARES = (0.0, 0.01, 0.05, 0.1)


def run(recipe: Recipe) -> dict[str, Any]:
    """Measure, write the three files, and return the figures (docs/reference/reward-lab.md defines them). RwmlError if
    another process works in the folder."""
    check_words(recipe)
    began, config = time.monotonic(), recipe.reward_lab
    claim(recipe.folder)
    Run.peek(recipe).check("transitions.parquet", "filter.json")
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
    rewards, skipped = _audited(recipe, embedder)
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
        **audit(rewards, taus, tau_d, pairs, asked, cheat_answers(asked, rows)),
        "skipped": skipped,
        "truncated": embedder().stats.truncated,
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(recipe, figures, pairs, distances_N)
    return figures


def lab_rows(recipe: Recipe, world: World) -> tuple[list[Transition], str]:
    """The transitions to examine, and their source. They are the run's own if its settings equal the recipe's.
    Otherwise they come from imported episodes, or from episodes that `reward_lab.policy` plays now ("" = that of the
    section [collect] if it is not the model, else one of the world's). RwmlError if nobody plays, or the episodes give
    no transition.
    """
    config = recipe.reward_lab
    if Run.peek(recipe).is_done("transitions"):
        rows, source = read_records(recipe.folder / "transitions.parquet", Transition), "of the run"
    else:
        if recipe.collect.episodes:
            imported = imported_episodes(recipe.collect.episodes, recipe.collect.split)
            episodes = [episode for episode in imported if episode.task.world == world.name]
            source = "of imported episodes"
        else:
            policy, tasks = _policy(recipe, world), tasks_of(world, recipe.collect.split)[: config.num_tasks]
            seats = seats_for(tasks, 1, seed_of(recipe.seed, "reward_lab", "play"))
            generator = generator_for(recipe.seed, "reward_lab", "play", policy)
            episodes = play_seats(world, seats, load_policy(recipe, policy), generator)
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
    names = world.policies()
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
    """The paper's rule by predictor: the run's filter, if it ran under the present settings, and each baseline."""
    config = recipe.filter
    rule: dict[str, Any] = {"target_share": config.target_share}
    calibration = read_json(recipe.folder / "filter.json") if Run.peek(recipe).is_done("filter") else {}
    if "training_tau_d" in calibration:
        rule["filter"] = {
            "data_tau_d": calibration["tau_d"],
            "easy_share": calibration["easy_share"],
            "on_target": calibration["on_target"],
            "training_tau_d": calibration["training_tau_d"],
        }
    reward = KindReward("embedding", embedder, 1.0)
    queries, materials = [row.query for row in asked], Materials(world, rows)
    for name in BASELINES:
        states = first_of_each(make_world_model(name, materials).predict(queries, 1, generator_for("baselines")))
        distances_N, _ = reward.score([state.next_state for state in states], asked)
        rule[name] = rule_figures(distances_N, config)
    return rule


def _tau_in_force(recipe: Recipe, rule: Mapping[str, Any]) -> tuple[float, str]:
    if recipe.train_wm.tau_d is not None:
        return recipe.train_wm.tau_d, "train_wm.tau_d"
    for name, source in (("filter", "the rule, from filter.json"), ("most_frequent", "the rule, from most_frequent")):
        if name in rule:
            return float(rule[name]["training_tau_d"]), source
    raise AssertionError("the baselines are always there")


def _audited(recipe: Recipe, embedder: Callable[[], Embedder]) -> tuple[list[AuditedReward], list[str]]:
    """The rewards to audit, the recipe's own among them, and the names of those that no judge can be asked for."""
    names = sorted(REWARDS.names(), key=lambda name: (asks_judge(name), name != DEFAULT_REWARD))
    skipped = list(filter(asks_judge, names)) if unset_judge_keys(recipe.judge.base_url, recipe.judge.model) else []
    choices: dict[str, str | dict[str, str]] = {name: name for name in names if name not in skipped}
    own = recipe.train_wm.reward
    if not isinstance(own, str):
        choices[OWN] = own
    elif own not in names:  # module:Name
        choices[own] = own
    judge = cache(lambda: load_judge(recipe.judge, recipe.folder / "cache"))

    def audited(name: str, choice: str | dict[str, str]) -> AuditedReward:
        judged = recipe.reward_lab.num_judged if asks_judge(choice) else None
        return AuditedReward(name, lambda tau_d: KindReward(choice, embedder, tau_d, judge), judged)

    return [audited(name, choice) for name, choice in choices.items()], skipped


def _write(recipe: Recipe, figures: dict[str, Any], pairs: Sequence[Pair], distances_N: Any) -> None:
    folder, distances = recipe.folder, by_kind(pairs, distances_N)
    write_json(folder / "reward_lab.json", figures)
    right = together(distances, REWORDED)
    curves = {kind: roc_curve(right, distances[kind]) for kind in WRONG_KINDS if len(right) and kind in distances}
    points = {kind: values.tolist() for kind, values in distances.items()}
    write_reward_png(folder / "reward_lab.png", points, RIGHT_KINDS, figures["tau_d"], curves)
    with atomic_file(folder / "reward_lab.md") as handle:
        handle.write(page(figures).encode())
