"""From the records of all arms to `eval.json`: every arm's tables, and the paired differences between arms.

Its schema is in `docs/reference/evaluate.md`, its measures are in `measure/figures/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rwml.core.files import Json
from rwml.core.types import PredictedState, Transition
from rwml.measure.figures.arm_rows import (
    ArmEvaluation,
    Rows,
    SeedEpisodes,
    SeedPredictions,
    answer_rows,
    by_split,
    differences,
    differences_by,
    within_rows,
    won_rows,
)
from rwml.measure.figures.bootstrap import CONFIDENCE, compare
from rwml.measure.figures.metrics import success_summary, within_gap, world_model_summary

SCHEMA_VERSION = 2
"""Of `eval.json`."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What `evaluate_arms` compares, and how.

    tau_d: in the unit of `PredictedState.distance`. The pairs name the arms (before, after) of the two headline
    differences. baselines: arms that the world model is compared with. seed: of the bootstrap.
    """

    tau_d: float
    baselines: tuple[str, ...] = ()
    world_model_pair: tuple[str, str] = ("model", "world_model")
    success_pair: tuple[str, str] = ("model", "policy")
    num_samples: int = 2000
    seed: int = 0


def evaluate_arms(
    answers: Sequence[SeedPredictions],
    plays: Sequence[SeedEpisodes],
    transitions: Sequence[Transition],
    inefficient: Callable[[str], bool],
    plan: EvaluationPlan,
) -> Json:
    """All of `eval.json` (its schema: `docs/reference/evaluate.md`).

    The headline differences are over all splits pooled; `summary` has None for a figure whose arms were not both
    measured. inefficient: the world's judgement on an admitted action (`World.inefficient`). If the second arm of
    `plan.world_model_pair` was not measured, the baselines are compared with the first one.
    """
    arms = {
        name: ArmEvaluation(
            name, 0, [a for a in answers if a.arm == name], [p for p in plays if p.arm == name], transitions
        )
        for name in dict.fromkeys([a.arm for a in answers] + [p.arm for p in plays])
    }
    within = {name: within_rows(_named(arms, name), plan.tau_d) for name in plan.world_model_pair}
    won = {name: won_rows(_named(arms, name)) for name in plan.success_pair}
    changes = {
        "world_model": _pair_differences(within, plan.world_model_pair, plan),
        "success": _pair_differences(won, plan.success_pair, plan),
    }
    summary = {name: of_split.get("all") for name, of_split in changes.items()}
    if summary["world_model"] is not None:
        summary["world_model"] = {**summary["world_model"], "tau_d": plan.tau_d}
    untrained, trained = plan.world_model_pair
    contender = trained if within[trained] else untrained
    return {
        "schema_version": SCHEMA_VERSION,
        "tau_d": plan.tau_d,
        "confidence": CONFIDENCE,
        "bootstrap_samples": plan.num_samples,
        "splits": list(dict.fromkeys([a.split for a in answers] + [p.split for p in plays])),
        "seeds": sorted({a.seed for a in answers} | {p.seed for p in plays}),
        "pairs": {"world_model": list(plan.world_model_pair), "success": list(plan.success_pair)},
        "summary": summary,
        "differences": changes,
        "baselines": {
            name: {"arm": contender, **_against_baseline(_named(arms, name), _named(arms, contender), plan)}
            for name in plan.baselines
        },
        "arms": {
            name: {"world_model": _answer_tables(arm, plan), "success": _episode_tables(arm, inefficient, plan)}
            for name, arm in arms.items()
        },
    }


def _named(arms: dict[str, ArmEvaluation], name: str) -> list[ArmEvaluation]:
    """The arm of that name; nothing if it was not evaluated."""
    return [arms[name]] if name in arms else []


def _answer_tables(arm: ArmEvaluation, plan: EvaluationPlan) -> Json:
    """{"all" | split: `world_model_summary`}."""
    tables: Json = {}
    for split, groups in by_split(arm.answers, lambda group: group.split).items():
        predictions = [prediction for group in groups for prediction in group.predictions]
        seeds = [group.seed for group in groups for _ in group.predictions]
        tables[split] = world_model_summary(
            arm.transitions, predictions, plan.tau_d, seeds=seeds, num_samples=plan.num_samples, seed=plan.seed
        )
    return tables


def _episode_tables(arm: ArmEvaluation, inefficient: Callable[[str], bool], plan: EvaluationPlan) -> Json:
    """{"all" | split: `success_summary`}."""
    tables: Json = {}
    for split, groups in by_split(arm.plays, lambda group: group.split).items():
        episodes = [episode for group in groups for episode in group.episodes]
        seeds = [group.seed for group in groups for _ in group.episodes]
        tables[split] = success_summary(
            episodes, inefficient, seeds=seeds, num_samples=plan.num_samples, seed=plan.seed
        )
    return tables


def _pair_differences(rows: dict[str, Rows], pair: tuple[str, str], plan: EvaluationPlan) -> Json:
    return differences(rows[pair[0]], rows[pair[1]], plan.num_samples, plan.seed)


def _against_baseline(
    baseline: Sequence[ArmEvaluation], contender: Sequence[ArmEvaluation], plan: EvaluationPlan
) -> Json:
    """A baseline (`before`) against a world model (`after`): `within` and `reward`, all rows and by split and kind."""
    kinds = {row.id: row.kind for arm in (*baseline, *contender) for row in arm.transitions}
    measures: dict[str, Callable[[PredictedState], float]] = {
        "within": lambda prediction: float(within_gap(prediction, plan.tau_d)),
        "reward": lambda prediction: prediction.reward,
    }
    result: Json = {}
    for name, measure in measures.items():
        before, after = answer_rows(baseline, measure), answer_rows(contender, measure)
        sampling = (plan.num_samples, plan.seed)
        result[name] = {
            "all": compare(before, after, *sampling),
            "by_split": differences_by(before, after, lambda key: key.split, *sampling),
            "by_kind": differences_by(before, after, lambda key: kinds[key.item], *sampling),
        }
    return result
