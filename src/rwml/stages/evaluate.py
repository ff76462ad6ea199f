"""`rwml evaluate`: what model, world model, policy and baselines do on held-out tasks -> eval.json, evaluation/."""

from __future__ import annotations

import math
from pathlib import Path

from rwml.core.files import write_json
from rwml.core.progress import progress
from rwml.core.recipe.reward_names import asks_judge
from rwml.core.records import read_records
from rwml.core.run import TRAINED, Run
from rwml.core.types import Transition
from rwml.loading import baselines_of, load_reward, training_tau_d
from rwml.measure.compare.setups import exam_setup, examinee_of
from rwml.measure.examiner import Examiner, baseline_predictions, held_out
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.measure.figures.evaluation import EvaluationPlan, evaluate_arms
from rwml.playing.failures import count_failures, failures, say_failures
from rwml.rewards.rewards import LONG
from rwml.worlds.answers import inefficient_of


def run(run: Run) -> None:
    """Ask and play the model and every arm that is trained, on the same held-out transitions, tasks and seeds.

    The baselines are asked as well, always. Where the world has no task to play, only the world models are measured.
    """
    recipe = run.recipe
    # A checkpoint of a stage that is stale belongs to other settings.
    done = {arm: run.folder / folder / "final" for arm, (stage, folder) in TRAINED.items() if run.is_done(stage)}
    arms: dict[str, Path | None] = {"model": None, **done}
    reads = [run.folder / "transitions.parquet", *done.values()]
    if not (recipe.evaluate.tau_d or recipe.train_wm.tau_d) and (run.folder / "filter.json").exists():
        reads.append(run.folder / "filter.json")
    if recipe.collect.episodes:
        reads.append(Path(recipe.collect.episodes).expanduser().resolve())
    scored_by = ["train_wm.reward", "train_wm.tau_d", *recipe.judge_settings]
    sections = ["world", "model", "embedding", "collect", "transitions", "evaluate", *scored_by]
    with run.stage("evaluate", reads=reads, sections=sections) as stage:
        recipe, config = stage.recipe, stage.recipe.evaluate
        tau_d = config.tau_d or training_tau_d(stage)
        reward = load_reward(stage, tau_d)
        folder = run.folder / "evaluation"
        setup = exam_setup(recipe)
        items = held_out(setup, folder)
        asked, played = (size * len(arms) * len(config.seeds) for size in items.sizes)
        training = read_records(run.folder / "transitions.parquet", Transition)
        answers: list[SeedPredictions] = []
        plays: list[SeedEpisodes] = []
        guessed = items.sizes[0] * len(config.baselines) * len(config.seeds)
        with progress("evaluate", total=asked + played + guessed, unit="item") as bar:
            examiner = Examiner(setup, items, reward, bar)
            for arm, path in arms.items():
                its_answers, its_plays = examiner.examine(examinee_of(recipe, arm, path), folder / arm)
                answers += its_answers
                plays += its_plays
            guesses = baseline_predictions(examiner, baselines_of(recipe, training), folder)
        plan = EvaluationPlan(tau_d, config.baselines, num_samples=config.bootstrap_samples)
        figures = evaluate_arms(answers + guesses, plays, items.rows, inefficient_of(setup.world), plan)
        write_json(run.folder / "eval.json", figures)
        stage.counts |= {"transitions asked": asked, "episodes played": played}
        stage.counts["too long to ask"] = items.long
        stage.counts[LONG] = reward.num_long(items.rows)
        stage.counts["unparsed answers"] = sum(p.next_state is None for a in answers for p in a.predictions)
        if asks_judge(recipe.train_wm.reward):
            row_of, given = {row.id: row for row in items.rows}, [p for a in answers for p in a.predictions]
            stage.counts["failed judgements"] = reward.failed_judgements(
                [p.next_state for p in given], [row_of[p.transition] for p in given], [p.distance for p in given]
            )
        reasons = failures([episode for play in plays for episode in play.episodes])
        stage.counts["failed episodes"] = reasons.total()
        count_failures(stage.counts, reasons)
        say_failures("evaluate", reasons, sum(len(play.episodes) for play in plays))
        without = [e for p in plays for e in p.episodes if not math.isfinite(sum(step.reward for step in e.steps))]
        if without:
            stage.counts["episodes whose return is NaN or infinite"] = len(without)
