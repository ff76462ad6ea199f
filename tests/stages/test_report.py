from __future__ import annotations

import difflib
import html
import random
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.records import Parts, read_json, read_records, write_json, write_records
from rwml.core.run import OUTPUTS, Run
from rwml.core.seeds import generator_for
from rwml.core.types import Episode, PredictedState, Step, StopReason, Task, Transition
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.measure.figures.evaluation import EvaluationPlan, evaluate_arms
from rwml.reports.run_examples import Evaluation
from rwml.stages import report
from rwml.world_models.baselines import BASELINES
from rwml.world_models.world_model import Materials, make_world_model
from rwml.worlds.by_name import get_world
from rwml.worlds.transitions import transitions_of

pytestmark = pytest.mark.slow  # makes the figures and the page of a whole run

SKILL = {"model": (0.25, "noisy:0.8"), "world_model": (0.6, "noisy:0.8"), "policy": (0.6, "noisy:0.1")}
DIFFICULT = '<script>alert("x")</script> & <b>bold</b>'


@dataclass(frozen=True)
class Size:
    train_tasks: int = 4
    tasks: int = 6
    transitions: int = 40
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 12


def recipe_of(folder: Path, size: Size, **sections: Any) -> Recipe:
    options = {"size": "small", "num_train": size.train_tasks, "num_valid_seen": size.tasks,
               "num_valid_unseen": size.tasks}  # fmt: skip
    return parse_recipe(
        {
            "name": folder.name,
            "out": str(folder),
            "world": {"options": options, "max_steps": 12},
            "evaluate": {"seeds": list(size.seeds), "bootstrap_samples": 300},
            "filter": {"num_predictions": 4},
        }
        | sections
    )


def play(world: Any, task: Task, policy: str, number: int, seed: int) -> Episode:
    """One episode of a built-in policy, whose words are given the form of a language model's."""
    env, built_in = world.env(), world.policy(policy, seed)
    opening = observation = env.reset(task)
    steps: list[Step] = []
    while len(steps) < 12 and not env.success:
        action = built_in.act(observation, env.admissible)
        result = env.step(action)
        text = f"<think>{built_in.thought()}</think><action>{action}</action>"
        observation = result.observation
        steps.append(Step(action, text, observation, "text", True, result.valid, False, result.reward))
    stop = StopReason.SUCCESS if env.success else StopReason.STEP_LIMIT
    name = f"{task.id}#{number}"
    return Episode(name, task, policy, number, seed, opening, tuple(steps), stop, env.success)


def predict(row: Transition, pool: list[Transition], skill: float, seed: int) -> PredictedState:
    """The truth with probability `skill`, else another row's next state; now and then something unreadable."""
    chance = random.Random(f"{row.id}/{seed}/{skill}")
    if chance.random() < 0.05:
        return PredictedState(row.id, "<think>hm", None, truncated=True, distance=2.0)
    same_verb = [other for other in pool if other.verb == row.verb]
    return score(row, row.next_state if chance.random() < skill else chance.choice(same_verb).next_state)


def score(row: Transition, answer: str | None) -> PredictedState:
    """A distance of letters replaces the embedding's."""
    if answer is None:
        return PredictedState(row.id, "", None, distance=2.0)
    distance = 1.0 - difflib.SequenceMatcher(None, answer, row.next_state, autojunk=False).ratio()
    return PredictedState(
        row.id, f"<next_state>{answer}</next_state>", answer, distance=distance, reward=float(distance < 0.2)
    )


def prepare(run: Run, size: Size) -> None:
    """Collect, transitions and filter, with a hand-made rule as the predictor."""
    world = get_world("alfworld", **run.recipe.world.options)
    with run.stage("collect", sections=["world"]) as stage:
        episodes = [play(world, task, "noisy:0.5", i, i) for i, task in enumerate(world.tasks("train"))]
        Parts(run.folder / "episodes").write(0, episodes, Episode)
        stage.counts |= {"episodes": len(episodes), "truncated answers": 7}
    with run.stage("transitions", sections=["world"]) as stage:
        rows = [row for episode in episodes for row in transitions_of(episode, world, "train")]
        write_records(run.folder / "transitions.parquet", rows, Transition)
        stage.counts["transitions"] = len(rows)
    with run.stage("filter", sections=["filter"]) as stage:
        marked = []
        for row in rows:
            rate = random.Random(row.id).randrange(5) / 4
            easy = rate >= 0.75
            marked.append(replace(row, pass_rate=rate, kept=not easy, reason="too easy" if easy else ""))
        write_records(run.folder / "filtered.parquet", marked, Transition)
        write_json(run.folder / "filter.json", {"tau_d": 0.125, "training_tau_d": 0.2, "enabled": True})
        stage.counts |= {"transitions": len(marked), "kept": sum(row.kept for row in marked)}


def train(run: Run, size: Size) -> None:
    """Curves of the shape that training gives."""
    for stage_name in ("train_wm", "train_policy"):
        chance = random.Random(stage_name)
        with run.stage(stage_name, sections=[stage_name]) as stage:
            for step in range(1, size.steps + 1):
                gain = step / size.steps
                share = min(1.0, max(0.0, 0.2 + 0.25 * gain + chance.gauss(0, 0.04)))
                row = {"stage": stage_name, "step": step, "signal_share": 0.5 - 0.2 * gain, "kl": 0.02 * gain,
                       "tokens": 1000, "tokens_unshared": 4000, "unparsed_share": 0.02 * chance.random()}  # fmt: skip
                if stage_name == "train_wm":
                    row |= {
                        "reward": share,
                        "within_tau": share,
                        "exact": 0.7 * share,
                        "mean_distance": 0.5 - 0.4 * share,
                    }
                else:
                    row |= {"success": share, "reward": 10 * share - 0.3, "invalid_share": 0.4 - 0.5 * share}
                run.metrics.append(row)
            (run.folder / OUTPUTS[stage_name][0]).mkdir()
            stage.counts["steps"] = size.steps


def evaluate(run: Run, size: Size, arms: tuple[str, ...] = tuple(SKILL)) -> None:
    """Predictions and episodes of every arm, and eval.json from the real measures."""
    world = get_world("alfworld", **run.recipe.world.options)
    answers, plays, transitions = [], [], []
    seen = run.folder / "transitions.parquet"
    training = read_records(seen, Transition) if seen.exists() else []
    with run.stage("evaluate", sections=["evaluate"]) as stage:
        for split in ("valid_seen", "valid_unseen"):
            tasks = world.tasks(split)
            played = [play(world, task, "noisy:0.5", i, i) for i, task in enumerate(tasks)]
            rows = [row for episode in played for row in transitions_of(episode, world, split)][: size.transitions]
            write_records(run.folder / "evaluation" / f"transitions-{split}.parquet", rows, Transition)
            transitions += rows
            for name in BASELINES:
                model = make_world_model(name, Materials(world, training))
                groups = model.predict([row.query for row in rows], 1, generator_for("baselines"))
                guesses = [score(row, state.next_state) for row, [state] in zip(rows, groups, strict=True)]
                answers += [SeedPredictions(name, split, seed, guesses) for seed in size.seeds]
            for arm in arms:
                skill, policy = SKILL[arm]
                for seed in size.seeds:
                    predictions = [predict(row, rows, skill, seed) for row in rows]
                    won = [play(world, task, policy, seed, 100 * seed + i) for i, task in enumerate(tasks)]
                    folder = run.folder / "evaluation" / arm
                    Parts(folder / f"predictions-{split}-{seed}").write(0, predictions, PredictedState)
                    Parts(folder / f"episodes-{split}-{seed}").write(0, won, Episode)
                    answers.append(SeedPredictions(arm, split, seed, predictions))
                    plays.append(SeedEpisodes(arm, split, seed, won))
        plan = EvaluationPlan(0.2, BASELINES, num_samples=300)
        figures = evaluate_arms(answers, plays, transitions, world.inefficient, plan)
        write_json(run.folder / "eval.json", figures)
        stage.counts["unparsed answers"] = sum(p.next_state is None for a in answers for p in a.predictions)


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    inline = r"</?(?:span|del|ins|code|strong|em|a)\b[^>]*>"
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(inline, "", body))).split())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run with every stage done, and its report."""
    size = Size()
    run = Run.open(recipe_of(tmp_path_factory.mktemp("runs") / "demo", size))
    prepare(run, size)
    train(run, size)
    evaluate(run, size)
    report.run(run)
    return run, (run.folder / "report.html").read_text()


def test_headline_has_the_figures_of_eval_json(whole: tuple[Run, str]) -> None:
    run, page = whole
    summary = read_json(run.folder / "eval.json")["summary"]
    seen = text_of(page)
    for name in ("world_model", "success"):
        difference = summary[name]
        assert difference["interval"][0] > 0, "the made-up arms differ by design"
        assert f"{100 * difference['before']:.1f}% → {100 * difference['after']:.1f}%" in seen
        low, high = difference["interval"]
        assert f"95% interval {100 * low:+.1f} to {100 * high:+.1f}" in seen
        assert f"over {difference['n']} held-out" in seen


def test_both_baselines_stand_beside_the_world_model(whole: tuple[Run, str]) -> None:
    run, page = whole
    figures, seen = read_json(run.folder / "eval.json"), text_of(page)
    for name, title in (("copy_last", "copy last"), ("most_frequent", "most frequent")):
        difference = figures["baselines"][name]["within"]["all"]
        assert difference["interval"][0] > 0, "the made-up world model knows 60% of the truths"
        before, after = (f"{100 * difference[key]:.1f}%" for key in ("before", "after"))
        low, high = difference["interval"]
        assert f"{title} {before} beaten, {100 * difference['difference']:+.1f} points" in seen
        assert (
            f"The trained world model beats “{title}”: the share within τ_d is {after} against {before}, over "
            f"{difference['n']} held-out predictions from {difference['clusters']} tasks"
        ) in seen
        assert f"95% interval {100 * low:+.1f} to {100 * high:+.1f}." in seen
        group = figures["arms"][name]["world_model"]["all"]["overall"]
        assert f"{title} {group['n']} {before} {100 * group['exact']['mean']:.1f}%" in seen
        lost = round(group["unparsed"]["mean"] * group["n"])
        assert f"unanswered predictions, {title} {lost}" in seen
    assert figures["arms"]["copy_last"]["world_model"]["all"]["overall"]["unparsed"]["mean"] > 0


def test_tables_show_every_verb_split_and_kind(whole: tuple[Run, str]) -> None:
    run, page = whole
    figures = read_json(run.folder / "eval.json")
    seen = text_of(page)
    before, after = (figures["arms"][arm]["world_model"]["all"]["by_verb"] for arm in ("model", "world_model"))
    assert len(before) > 2
    for verb in before:
        shares = [f"{100 * group[verb]['within']['mean']:.1f}%" for group in (before, after)]
        guesses = [figures["arms"][name]["world_model"]["all"]["by_verb"][verb]["within"]["mean"] for name in BASELINES]
        shares += [f"{100 * guess:.1f}%" for guess in guesses]
        assert f"{verb} {before[verb]['n']} {shares[0]} → {shares[1]} {shares[2]} {shares[3]}" in seen
    for kind, group in figures["arms"]["policy"]["success"]["all"]["by_task_kind"].items():
        assert re.search(rf"{kind} {group['n']} [\d.]+% → {100 * group['success']['mean']:.1f}%", seen)


def test_what_was_dropped_and_lost_is_counted(whole: tuple[Run, str]) -> None:
    run, page = whole
    rows = read_records(run.folder / "filtered.parquet", Transition)
    dropped = sum(not row.kept for row in rows)
    assert 0 < dropped < len(rows)
    seen = text_of(page)
    assert (
        f"Of {len(rows)} transitions, {len(rows) - dropped} were kept for training and {dropped} dropped as too easy"
        in seen
    )
    assert f"filter transitions {len(rows)}" in seen
    assert f"dropped as too easy {dropped}" in seen
    assert "truncated answers 7" in seen
    unparsed = run.summary()["evaluate"]["counts"]["unparsed answers"]
    assert unparsed > 0
    assert f"unparsed answers {unparsed}" in seen


def test_predictions_stand_beside_the_truth_with_differences_marked(whole: tuple[Run, str]) -> None:
    _, page = whole
    cards = re.findall(r'<article class="card">.*?</article>', page, flags=re.DOTALL)
    assert len(cards) == 20
    assert any("<del>" in card and "<ins>" in card for card in cards)
    truths = [re.search(r"<dt>truth</dt><dd>(.*?)</dd>", card, flags=re.DOTALL)[1] for card in cards]  # type: ignore[index]
    assert len(set(truths)) == len(truths)
    for card in cards:
        assert card.count("<dt>before</dt>") == card.count("<dt>after</dt>") == 1


def test_won_and_lost_episodes_are_shown(whole: tuple[Run, str]) -> None:
    run, page = whole
    seen = text_of(page)
    assert seen.count("the model after policy RL") >= 3
    episodes = Evaluation.of(run.folder / "evaluation", read_json(run.folder / "eval.json")).episodes["policy"]  # type: ignore[union-attr]
    shown = [e for e in episodes if " ".join(e.opening.split()) in seen]
    assert {e.success for e in shown} == {True, False}


def test_nothing_is_fetched_and_nothing_runs(whole: tuple[Run, str]) -> None:
    _, page = whole
    assert not re.search(r"https?:|//[a-z]", page)
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_curves_are_drawn_on_the_page_and_as_a_picture(whole: tuple[Run, str]) -> None:
    run, page = whole
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert "Reward" in titles
    assert "Groups with signal" in titles
    assert "Games won" in titles
    assert "Within τ_d" not in titles, "equal to the binary reward, so one picture is enough"
    assert "#0" not in "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)), "colours come from the page"
    assert (run.folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "4.0 times fewer tokens" in page


def test_the_recipe_on_the_page_reads_back_as_the_same_recipe(whole: tuple[Run, str]) -> None:
    run, page = whole
    shown = html.unescape(re.search(r"The recipe, resolved</summary><pre>(.*?)</pre>", page, flags=re.DOTALL)[1])  # type: ignore[index]
    assert parse_recipe(tomllib.loads(shown)) == run.recipe


def test_tiny_says_what_it_is(whole: tuple[Run, str], tmp_path: Path) -> None:
    assert "stand-in for a pretrained language model" in text_of(whole[1])
    other = Run.open(recipe_of(tmp_path / "other", Size(), model={"path": "some-org/some-model"}))
    report.run(other)
    assert "stand-in" not in (other.folder / "report.html").read_text()


def test_missing_stages_are_said_plainly(tmp_path: Path) -> None:
    run = Run.open(recipe_of(tmp_path / "empty", Size()))
    report.run(run)
    seen = text_of((run.folder / "report.html").read_text())
    for sentence in ("Nothing was evaluated yet", "The filter was not run", "no training step was logged",
                 "The world model was not evaluated", "No held-out game was played"):  # fmt: skip
        assert sentence.lower() in seen.lower()
    assert seen.count("Not run.") == 6
    assert not (run.folder / "report.png").exists()


def test_a_run_without_policy_training_keeps_its_other_headline(tmp_path: Path) -> None:
    size = Size(train_tasks=2, tasks=4, transitions=15, seeds=(3,))
    run = Run.open(recipe_of(tmp_path / "half", size))
    evaluate(run, size, ("model", "world_model"))
    report.run(run)
    seen = text_of((run.folder / "report.html").read_text())
    assert "one of the two arms was not evaluated, because policy RL was not run" in seen
    summary = read_json(run.folder / "eval.json")["summary"]
    assert summary["success"] is None
    assert f"→ {100 * summary['world_model']['after']:.1f}%" in seen


def test_texts_of_the_world_are_inert(tmp_path: Path) -> None:
    run = Run.open(recipe_of(tmp_path / "evil", Size()))
    task = Task("valid_seen/1", "alfworld", "valid_seen", DIFFICULT)
    step = Step(DIFFICULT, f"<think>{DIFFICULT}</think>", DIFFICULT)
    episode = Episode("e", task, "model", 0, 0, DIFFICULT, (step,), StopReason.ERROR, False, DIFFICULT)
    row = Transition("t", "e", task.id, "valid_seen", 0, DIFFICULT, (DIFFICULT,) * 2, DIFFICULT, DIFFICULT, "text",
                     DIFFICULT, True, True, 0.5, False, DIFFICULT)  # fmt: skip
    prediction = PredictedState("t", DIFFICULT, f"{DIFFICULT} <img src=x>", distance=0.5)
    write_records(run.folder / "filtered.parquet", [row], Transition)
    write_records(run.folder / "evaluation/transitions-valid_seen.parquet", [row], Transition)
    for arm in ("model", "world_model", "policy"):
        Parts(run.folder / "evaluation" / arm / "predictions-valid_seen-0").write(0, [prediction], PredictedState)
        Parts(run.folder / "evaluation" / arm / "episodes-valid_seen-0").write(0, [episode], Episode)
    arms = ("model", "world_model", "policy")
    answers = [SeedPredictions(arm, "valid_seen", 0, [prediction]) for arm in arms]
    plays = [SeedEpisodes(arm, "valid_seen", 0, [episode]) for arm in arms]
    figures = evaluate_arms(answers, plays, [row], lambda action: False, EvaluationPlan(0.2, num_samples=100))
    write_json(run.folder / "eval.json", figures)
    report.run(run)
    page = (run.folder / "report.html").read_text()
    assert not re.search(r"<script|<img|<b>bold", page)
    assert page.count("&lt;script&gt;") > 10
    assert "too few tasks for an interval, so no claim is made" in text_of(page)
