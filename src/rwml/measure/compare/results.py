"""What a comparison comes to: `compare.json`, folded from the results of all arms and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import Json
from rwml.core.recipe.recipe import Recipe
from rwml.core.seeds import chosen_rows
from rwml.loading import load_world
from rwml.measure.compare.arm_evaluations import ArmEvaluations, ArmResult, evaluation_tau_d
from rwml.measure.compare.arm_measures import over_seeds
from rwml.measure.compare.costs import stage_costs
from rwml.measure.compare.open_arms import paid_stages
from rwml.measure.compare.paper_table import MODELS, SOURCE, beside
from rwml.measure.figures.arm_rows import ArmEvaluation, Rows, grouped, within_rows, won_rows
from rwml.measure.figures.bootstrap import CONFIDENCE
from rwml.measure.figures.contrasts import arm_figures, contrast, mean_and_spread
from rwml.measure.figures.sentences import arm_sentence, verdict
from rwml.models.language_model import load_chat
from rwml.worlds.answers import inefficient_of

SCHEMA_VERSION = 1
CURVES = {
    "train_wm": ("within_tau", "exact", "signal_share", "kl", "cross_entropy"),
    "train_policy": ("success", "steps_per_episode", "invalid_share", "signal_share", "kl"),
}
CONTRASTED = {
    "success": ("the share of games won", "episodes"),
    "within": ("the share of predictions within τ_d", "predictions"),
}
"""measure: (its name in a sentence, its unit of comparison)."""

Evaluations = Mapping[str, Sequence[ArmEvaluation]]
"""arm or baseline: its evaluations, in the order of the seeds."""


def figures(recipe: Recipe) -> Json:
    """All of compare.json, from the folder of the comparison."""
    by_seed = [ArmEvaluations(recipe, seed) for seed in recipe.compare.seeds]
    return fold(recipe, [kept.result(arm) for kept in by_seed for arm in recipe.compare.arms])


def fold(recipe: Recipe, results: Sequence[ArmResult]) -> Json:
    """compare.json of the results of every arm under every seed; an arm that was not examined is in it with the reason.

    RwmlError if the base arm was examined under no seed.
    """
    compare, tau_d, samples = recipe.compare, evaluation_tau_d(recipe), recipe.evaluate.bootstrap_samples
    evaluations = grouped((each for result in results for each in result.evaluations), lambda each: each.arm)
    if compare.base not in evaluations:
        raise RwmlError(
            f"the arm '{compare.base}' was not examined under any seed", "all others are compared with it", "run it"
        )
    inefficient = inefficient_of(load_world(recipe))
    measured = {name: arm_figures(each, tau_d, inefficient, samples) for name, each in evaluations.items()}
    by_arm = grouped(results, lambda result: result.arm.name)
    arms = {
        name: _arm(recipe, its, [] if name == compare.base else by_arm[compare.base])
        | measured.get(name, {"success": {}, "world_model": {}, "world_model_by_action": {}})
        for name, its in by_arm.items()
    }
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
        "bootstrap_samples": samples,
        "compute_unit": compare.compute_unit,
        "paper": {"source": SOURCE, "model": MODELS.get(recipe.world.name, "")},
        "arms": arms,
        "baselines": {name: of_baseline for name, of_baseline in measured.items() if name not in arms},
        "contrasts": contrasts(recipe, evaluations),
        "curves": curves(results),
        "examples": examples(recipe, evaluations),
        "recipe": recipe.model_dump(mode="json"),
    }


def _arm(recipe: Recipe, results: Sequence[ArmResult], base: Sequence[ArmResult]) -> Json:
    """An arm without its tables. base: the results of the base arm; empty for the base arm itself."""
    arm = results[0].arm
    examined = [result for result in results if result.run]
    costs = _costs(recipe, examined)
    return {
        "title": arm.title,
        "group": arm.group,
        "stages": list(arm.stages),
        "set": arm.set,
        "compute": arm.compute,
        "paper": beside(arm.paper, recipe.world.name, recipe.world.options),
        "seeds": [result.seed for result in examined],
        "missing": {str(result.seed): result.missing for result in results if result.missing},
        "weight_change": weight_change({result.seed: result.weight_change for result in results}),
        "measures": over_seeds(_measures(results), _measures(base), recipe.measure.bootstrap_samples),
        "costs": costs,
        "cost": _mean_cost(list(costs.values())),
    }


def _measures(results: Sequence[ArmResult]) -> dict[int, Json]:
    return {result.seed: result.measures for result in results if result.measures}


def _costs(recipe: Recipe, examined: Sequence[ArmResult]) -> dict[str, dict[str, dict[str, float]]]:
    """{seed: {stage: cost}}."""
    chat = load_chat(recipe.model.path, trust_remote_code=recipe.model.trust_remote_code)
    return {
        str(result.seed): stage_costs(result.run, paid_stages(result.run.recipe, result.arm), chat)
        for result in examined
        if result.run
    }


def weight_change(by_seed: Mapping[int, Json]) -> Json:
    """Share of the weights that differ from the base model's, over seeds, overall and by module; empty for the base."""
    changes = {seed: change for seed, change in by_seed.items() if change}
    if not changes:
        return {}
    modules = dict.fromkeys(module for change in changes.values() for module in change["by_module"])
    return {
        "all": mean_and_spread({seed: change["share"] for seed, change in changes.items()}),
        "by_module": {
            name: mean_and_spread({s: change["by_module"].get(name, {}).get("share") for s, change in changes.items()})
            for name in modules
        },
    }


def _mean_cost(costs: Sequence[Mapping[str, Mapping[str, float]]]) -> Json:
    """Means over seeds of the sums over stages (memory: the largest), and the same by stage; empty for no cost."""
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


def contrasts(recipe: Recipe, evaluations: Evaluations) -> list[Json]:
    """Every arm against the base arm and against those it names: paired differences, a verdict and a sentence each."""
    compare, tau_d = recipe.compare, evaluation_tau_d(recipe)
    titles = {arm.name: arm.title for arm in compare.arms}
    rows: dict[str, dict[str, Rows]] = {
        name: {"success": won_rows(evaluations.get(name, ())), "within": within_rows(evaluations.get(name, ()), tau_d)}
        for name in titles
    }
    result: list[Json] = []
    for arm in compare.arms:
        for other in dict.fromkeys(name for name in (compare.base, *arm.against) if name != arm.name):
            for measure, (subject, unit) in CONTRASTED.items():
                before, after = rows[other][measure], rows[arm.name][measure]
                splits = contrast(before, after, recipe.evaluate.bootstrap_samples)
                if splits:
                    whole = splits["all"]
                    result.append({
                        "arm": arm.name, "against": other, "measure": measure, "splits": splits,
                        "verdict": verdict(whole),
                        "sentence": arm_sentence(whole, titles[arm.name], titles[other], subject, unit),
                    })  # fmt: skip
    return result


def curves(results: Sequence[ArmResult]) -> list[Json]:
    """One line of a figure of training: {"stage", "metric", "arm", "seeds": {seed: {"steps", "values"}}}.

    A stage that several arms share (the same outputs under the same seeds) is drawn for the first of them.
    """
    lines: list[Json] = []
    drawn: list[tuple[str, dict[int, Json]]] = []
    for name, its in grouped((result for result in results if result.run), lambda result: result.arm.name).items():
        for stage, metrics in CURVES.items():
            runs = {result.seed: result.run for result in its if result.run and result.run.is_done(stage)}
            outputs = stage, {seed: run.summary()[stage]["outputs"] for seed, run in runs.items()}
            if outputs in drawn:
                continue
            drawn.append(outputs)
            logs = {seed: [r for r in run.metrics.read() if r.get("stage") == stage] for seed, run in runs.items()}
            for metric in metrics:
                seeds = {str(seed): _line(log, metric) for seed, log in logs.items() if _line(log, metric)["steps"]}
                if seeds:
                    lines.append({"stage": stage, "metric": metric, "arm": name, "seeds": seeds})
    return lines


def _line(log: Sequence[Json], metric: str) -> Json:
    """The steps that logged a metric, and their values."""
    rows = [row for row in log if row.get(metric) is not None]
    return {"steps": [row["step"] for row in rows], "values": [row[metric] for row in rows]}


def examples(recipe: Recipe, evaluations: Evaluations) -> list[Json]:
    """Held-out questions of the first seed with every arm's answer; the order of hashed ids picks them."""
    base = evaluations[recipe.compare.base][0]
    first = recipe.evaluate.seeds[0]
    answers = {
        name: {p.transition: p for group in each.answers if group.seed == first for p in group.predictions}
        for name, its in evaluations.items()
        for each in its
        if each.seed == base.seed
    }
    rows = [row for row in base.transitions if all(row.id in by_id for by_id in answers.values())]
    return [
        {
            "action": row.action,
            "truth": row.next_state,
            "answers": {
                arm: {"answer": by_id[row.id].next_state, "distance": by_id[row.id].distance}
                for arm, by_id in answers.items()
            },
        }
        for row in chosen_rows(rows, recipe.compare.num_examples)
    ]
