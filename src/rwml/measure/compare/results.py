"""What a comparison comes to: `compare.json`, from the run folders and examinations of all arms and seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import Json
from rwml.core.recipe.compare import ArmConfig, data_stages
from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.core.seeds import chosen_rows
from rwml.loading import load_world
from rwml.measure.compare.arm_evaluations import ArmEvaluations, evaluation_tau_d, peek_arm
from rwml.measure.compare.arm_measures import over_seeds
from rwml.measure.compare.costs import stage_costs
from rwml.measure.compare.paper_table import MODELS, SOURCE, beside
from rwml.measure.figures.arm_rows import ArmEvaluation, within_rows, won_rows
from rwml.measure.figures.bootstrap import CONFIDENCE
from rwml.measure.figures.contrasts import arm_figures, contrast, spread
from rwml.measure.figures.sentences import arm_sentence, verdict
from rwml.models.language_model import load_chat

SCHEMA_VERSION = 1
CURVES = {
    "train_wm": ("within_tau", "exact", "signal_share", "kl", "cross_entropy"),
    "train_policy": ("success", "steps_per_episode", "invalid_share", "signal_share", "kl"),
}
MEASURES = {
    "success": ("the share of games won", "episodes"),
    "within": ("the share of predictions within τ_d", "predictions"),
}


def figures(recipe: Recipe) -> Json:
    """All of compare.json. Every arm of the recipe is in it, those that were not examined with the reason by seed."""
    compare, tau_d = recipe.compare, evaluation_tau_d(recipe)
    sat: dict[str, list[ArmEvaluation]] = defaultdict(list)
    runs: dict[str, dict[int, Run]] = defaultdict(dict)
    missing: dict[str, dict[str, str]] = defaultdict(dict)
    changes: dict[str, dict[int, Json]] = defaultdict(dict)
    told: dict[str, dict[int, Json]] = defaultdict(dict)
    for seed in compare.seeds:
        exam = ArmEvaluations(recipe, seed, peek=True)
        for arm in compare.arms:
            found, reason = exam.evaluations(arm, run := peek_arm(recipe, arm, seed))
            for evaluation in found:
                sat[evaluation.arm].append(evaluation)
            if run and found:
                changes[arm.name][seed] = exam.weight_change(arm) or {}
                runs[arm.name][seed] = run
                told[arm.name][seed] = exam.measures(arm, run, take=False)
                if compare.measures and not told[arm.name][seed]:
                    missing[arm.name][str(seed)] = "examined, but compare.measures is not taken"
            else:
                missing[arm.name][str(seed)] = reason
    if not sat[compare.base]:
        raise RwmlError(
            f"the arm '{compare.base}' was not examined under any seed", "all others are compared with it", "run it"
        )
    world = load_world(recipe)
    measured = {
        name: arm_figures(found, tau_d, world.inefficient, recipe.evaluate.bootstrap_samples)
        for name, found in sat.items()
        if found
    }
    arms = {
        arm.name: _arm(recipe, arm, measured.get(arm.name), runs[arm.name], missing[arm.name]) for arm in compare.arms
    }
    for name, by_seed in changes.items():
        arms[name]["weight_change"] = weight_change(by_seed)
        base = told[compare.base] if name != compare.base else {}
        arms[name]["measures"] = over_seeds(told[name], base, recipe.measure.bootstrap_samples)
    return {
        "schema_version": SCHEMA_VERSION,
        "rwml": rwml.__version__,
        "name": recipe.name,
        "world": recipe.world.name,
        "model": recipe.model.path,
        "base": compare.base,
        "seeds": list(compare.seeds),
        "splits": list(recipe.evaluate.splits),
        "tau_d": tau_d,
        "confidence": CONFIDENCE,
        "bootstrap_samples": recipe.evaluate.bootstrap_samples,
        "compute_unit": compare.compute_unit,
        "paper": {"source": SOURCE, "model": MODELS.get(recipe.world.name, "")},
        "arms": arms,
        "baselines": {name: found for name, found in measured.items() if name not in arms},
        "contrasts": contrasts(recipe, sat),
        "curves": curves(runs),
        "examples": examples(recipe, sat),
        "recipe": recipe.model_dump(mode="json"),
    }  # fmt: skip


def _arm(
    recipe: Recipe, arm: ArmConfig, measured: Json | None, runs: Mapping[int, Run], missing: Mapping[str, str]
) -> Json:
    chat = load_chat(recipe.model.path, recipe.model.trust_remote_code)
    costs = {
        str(seed): stage_costs(run, (*data_stages(run.recipe, arm), *arm.stages) if arm.stages else (), chat)
        for seed, run in runs.items()
    }
    return {
        "title": arm.title,
        "group": arm.group,
        "stages": list(arm.stages),
        "set": arm.set,
        "compute": arm.compute,
        "paper": beside(arm.paper, recipe.world.name, recipe.world.options),
        "seeds": list(runs),
        "missing": dict(missing),
        "weight_change": {},
        "measures": {},
        "costs": costs,
        "cost": _mean_cost(list(costs.values())),
        **(measured or {"success": {}, "world_model": {}, "world_model_by_action": {}}),
    }


def weight_change(by_seed: Mapping[int, Json]) -> Json:
    """Share of the weights that differ from the base model's, over seeds, overall and by module; empty for the base."""
    there = {seed: found for seed, found in by_seed.items() if found}
    if not there:
        return {}

    def over(shares: Mapping[int, float | None]) -> Json:
        known = [share for share in shares.values() if share is not None]
        return {"mean": statistics.fmean(known) if known else None, **spread(shares)}

    modules = list(dict.fromkeys(module for found in there.values() for module in found["by_module"]))
    return {
        "all": over({seed: found["share"] for seed, found in there.items()}),
        "by_module": {
            name: over({seed: found["by_module"].get(name, {}).get("share") for seed, found in there.items()})
            for name in modules
        },
    }


def _mean_cost(costs: Sequence[Mapping[str, Mapping[str, float]]]) -> Json:
    """Means over seeds of the sums over stages (memory: the largest), and the same by stage; empty for none."""
    stages = list(dict.fromkeys(stage for cost in costs for stage in cost))
    by_stage = {
        stage: {
            key: statistics.fmean(cost[stage][key] for cost in costs if stage in cost)
            for key in ("seconds", "sampled", "trained", "steps", "memory_mb")
        }
        for stage in stages
    }
    if not by_stage:
        return {}
    summed = {key: sum(cost[key] for cost in by_stage.values()) for key in ("seconds", "sampled", "trained")}
    summed["tokens"] = summed["sampled"] + summed["trained"]
    return {**summed, "memory_mb": max(cost["memory_mb"] for cost in by_stage.values()), "by_stage": by_stage}


def contrasts(recipe: Recipe, sat: Mapping[str, Sequence[ArmEvaluation]]) -> list[Json]:
    """Every arm against the base arm and against those it names: paired differences, a verdict and a sentence each."""
    compare, samples = recipe.compare, recipe.evaluate.bootstrap_samples
    tau_d = evaluation_tau_d(recipe)
    titles = {arm.name: arm.title for arm in compare.arms}
    result: list[Json] = []
    for arm in compare.arms:
        others = dict.fromkeys(name for name in (compare.base, *arm.against) if name != arm.name)
        for other in others:
            for measure in MEASURES:
                before, after = (
                    won_rows(sat[name]) if measure == "success" else within_rows(sat[name], tau_d)
                    for name in (other, arm.name)
                )
                splits = contrast(before, after, samples)
                if splits:
                    whole = splits["all"]
                    said = arm_sentence(whole, titles[arm.name], titles[other], *MEASURES[measure])
                    result.append({
                        "arm": arm.name, "against": other, "measure": measure, "splits": splits,
                        "verdict": verdict(whole), "sentence": said,
                    })  # fmt: skip
    return result


def curves(runs: Mapping[str, Mapping[int, Run]]) -> list[Json]:
    """One line of a figure of training: {"stage", "metric", "arm", "seeds": {seed: {"steps", "values"}}}.

    A stage that several arms share (the same outputs under the same seeds) is drawn for the first of them.
    """
    lines: list[Json] = []
    seen: list[tuple[str, dict[int, Any]]] = []
    for arm, by_seed in runs.items():
        for stage, metrics in CURVES.items():
            there_is = {seed: run for seed, run in by_seed.items() if run.is_done(stage)}
            made = stage, {seed: run.summary()[stage]["outputs"] for seed, run in there_is.items()}
            if made in seen:
                continue
            seen.append(made)
            rows = {
                seed: [row for row in run.metrics.read() if row.get("stage") == stage] for seed, run in there_is.items()
            }
            for metric in metrics:
                there = {
                    seed: [(r["step"], r[metric]) for r in mine if r.get(metric) is not None]
                    for seed, mine in rows.items()
                }
                line = {
                    str(s): {"steps": [a for a, _ in xy], "values": [b for _, b in xy]} for s, xy in there.items() if xy
                }
                if line:
                    lines.append({"stage": stage, "metric": metric, "arm": arm, "seeds": line})
    return lines


def examples(recipe: Recipe, sat: Mapping[str, Sequence[ArmEvaluation]]) -> list[Json]:
    """Held-out questions of the first seed with every arm's answer; the order of hashed ids picks them."""
    first: dict[str, Json] = {}
    base = sat[recipe.compare.base][0]
    for arm, found in sat.items():
        mine = next((evaluation for evaluation in found if evaluation.seed == base.seed), None)
        if mine is not None:
            seeds = recipe.evaluate.seeds
            first[arm] = {
                p.transition: p for group in mine.answers if group.seed == seeds[0] for p in group.predictions
            }
    rows = [row for row in base.transitions if all(row.id in told for told in first.values())]
    return [
        {
            "action": row.action,
            "truth": row.next_state,
            "answers": {
                arm: {"answer": told[row.id].answer, "distance": told[row.id].distance} for arm, told in first.items()
            },
        }
        for row in chosen_rows(rows, recipe.compare.num_examples)
    ]
