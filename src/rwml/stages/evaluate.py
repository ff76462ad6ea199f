"""`rwml evaluate`: what model, world model, policy and baselines do on held-out tasks -> eval.json, evaluation/."""

from __future__ import annotations

from pathlib import Path

from rwml.core.files import write_json
from rwml.core.progress import progress
from rwml.core.recipe.reward_names import asks_judge
from rwml.core.records import read_records
from rwml.core.run import TRAINED, Run
from rwml.core.types import Transition
from rwml.loading import load_reward, load_world, training_tau_d
from rwml.measure.examiner import Examiner, ask_baselines, held_out
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.measure.figures.evaluation import EvaluationPlan, evaluate_arms
from rwml.world_models.baselines import BASELINES


def run(run: Run) -> None:
    """Ask and play the model and every arm that is trained, on the same held-out transitions, tasks and seeds.

    The baselines are asked as well, always. Where the world has no task to play, only the world models are measured.
    """
    recipe, config = run.recipe, run.recipe.evaluate
    # A checkpoint of a stage that is stale belongs to other settings.
    done = {arm: run.folder / folder / "final" for arm, (stage, folder) in TRAINED.items() if run.is_done(stage)}
    arms: dict[str, Path | None] = {"model": None, **done}
    reads = [run.folder / "transitions.parquet", *done.values()]
    if not (config.tau_d or recipe.train_wm.tau_d) and (run.folder / "filter.json").exists():
        reads.append(run.folder / "filter.json")
    if recipe.collect.episodes:
        reads.append(Path(recipe.collect.episodes).expanduser().resolve())
    scored_by = ["train_wm.reward", "train_wm.tau_d", *recipe.judge_settings]
    sections = ["world", "model", "embedding", "collect", "transitions", "evaluate", *scored_by]
    with run.stage("evaluate", reads=reads, sections=sections) as stage:
        tau_d = config.tau_d or training_tau_d(run)
        reward = load_reward(run, tau_d)
        folder = run.folder / "evaluation"
        items = held_out(recipe, folder)
        asked, played = (size * len(arms) * len(config.seeds) for size in items.sizes)
        answers: list[SeedPredictions] = []
        plays: list[SeedEpisodes] = []
        with progress("evaluate", total=asked + played, unit="item") as bar:
            for arm, path in arms.items():
                its_answers, its_plays = Examiner(recipe, arm, path, folder / arm, reward, bar).sit(items)
                answers += its_answers
                plays += its_plays
        training = read_records(run.folder / "transitions.parquet", Transition)
        guesses = ask_baselines(recipe, folder, training, items.transitions, reward)
        plan = EvaluationPlan(tau_d, BASELINES, num_samples=config.bootstrap_samples)
        figures = evaluate_arms(answers + guesses, plays, items.rows, load_world(recipe).inefficient, plan)
        write_json(run.folder / "eval.json", figures)
        stage.counts |= {"transitions asked": asked, "episodes played": played}
        stage.counts["too long to ask"] = items.long
        stage.counts["unparsed answers"] = sum(p.answer is None for a in answers for p in a.predictions)
        if asks_judge(recipe.train_wm.reward):
            row_of, given = {row.id: row for row in items.rows}, [p for a in answers for p in a.predictions]
            stage.counts["failed judgements"] = reward.failed_judgements(
                [p.answer for p in given], [row_of[p.transition] for p in given], [p.distance for p in given]
            )
        stage.counts["failed episodes"] = sum(bool(e.error) for p in plays for e in p.episodes)
