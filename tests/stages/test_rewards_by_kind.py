"""A recipe's reward is the one that the filter, the training and the evaluation measure with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import Parts, read_records
from rwml.core.run import Run
from rwml.core.types import PredictedState, Transition
from rwml.rewards.text_rewards import RougeReward
from rwml.stages import evaluate
from rwml.stages.pipeline import run_all

pytestmark = pytest.mark.slow  # runs whole pipelines


def test_rouge_from_the_filter_to_the_evaluation(
    mini: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[np.ndarray] = []
    score = RougeReward.score

    def listen(self: RougeReward, *texts: Any) -> Any:
        result = score(self, *texts)
        scored.append(result[1])
        return result

    monkeypatch.setattr(RougeReward, "score", listen)
    run = Run.open(mini(tmp_path, train_wm={"reward": {"text": "rouge"}}))
    run_all(run, until="train_wm")
    evaluate.run(run)

    rows = {row.id: row for row in read_records(run.folder / "filtered.parquet", Transition)}
    guesses = Parts(run.folder / "predictor" / "predictions").read(PredictedState, 1)
    assert len(guesses) == sum(row.pass_rate >= 0 for row in rows.values()) * run.recipe.filter.num_predictions
    asked = read_records(next((run.folder / "evaluation").glob("transitions-*.parquet")), Transition)
    answers = Parts(next((run.folder / "evaluation" / "world_model").glob("predictions-*"))).read(PredictedState, 1)
    for known, predictions in ((rows, guesses), ({row.id: row for row in asked}, answers)):
        real = [known[one.transition].next_state for one in predictions]
        distances, rewards = score(RougeReward(), [one.next_state for one in predictions], real)
        assert [one.distance for one in predictions] == distances.tolist()
        assert len(set(distances.tolist())) > 1
    assert [one.reward for one in answers] == rewards.tolist()

    steps = [line["reward"] for line in run.metrics.read() if line["stage"] == "train_wm"]
    of_training = [rewards.mean() for rewards in scored[1 : 1 + len(steps)]]
    assert steps == pytest.approx(of_training, abs=1e-6)
    assert not (run.folder / "cache").exists() or not list((run.folder / "cache").iterdir())


def test_another_reward_makes_the_filter_run_again(mini: Callable[..., Recipe], tmp_path: Path) -> None:
    run = Run.open(mini(tmp_path))
    run_all(run, until="filter")
    assert run.is_done("filter")
    assert Run.open(mini(tmp_path, train_wm={"learning_rate": 1e-4})).is_done("filter")
    said: list[str] = []
    changed = Run.open(mini(tmp_path, train_wm={"reward": "exact"}), said.append)
    assert (changed.state("transitions"), changed.state("filter")) == ("done", "stale")
    assert "settings for filter" in said[0]


def _jury(messages: list[dict[str, str]]) -> str | int:
    """Half right where it tells of an opened thing, no judgement where it arrives somewhere, else wrong."""
    said = messages[-1]["content"].split("<prediction>\n")[1].split("\n</prediction>")[0]
    if "arrive" in said:
        return "It arrives."
    return '{"analysis": "", "score": %s}' % (0.5 if "see" in said else 0)


def _by_jury(answer: str | None, real: str) -> tuple[float, float, bool]:
    """Distance and reward under the jury, and whether the judgement failed."""
    if answer is None:
        return 2.0, 0.0, False
    if answer.split() == real.split():
        return 0.0, 1.0, False
    if "arrive" in answer:
        return 2.0, 0.0, True
    return (0.5, 0.5, False) if "see" in answer else (1.0, 0.0, False)


def test_a_judge_from_the_filter_to_the_evaluation(
    mini: Callable[..., Recipe], tmp_path: Path, chat_server: Any
) -> None:
    chat_server.answer = _jury
    judge = {"base_url": chat_server.url, "model": "jury"}
    run = Run.open(mini(tmp_path, train_wm={"reward": "judge_graded"}, judge=judge))
    run_all(run, until="train_wm")
    evaluate.run(run)

    rows = {row.id: row for row in read_records(run.folder / "filtered.parquet", Transition)}
    guesses = Parts(run.folder / "predictor" / "predictions").read(PredictedState, 1)
    asked = read_records(next((run.folder / "evaluation").glob("transitions-*.parquet")), Transition)
    answers = Parts(next((run.folder / "evaluation" / "world_model").glob("predictions-*"))).read(PredictedState, 1)
    for known, predictions in ((rows, guesses), ({row.id: row for row in asked}, answers)):
        judged = [_by_jury(one.next_state, known[one.transition].next_state) for one in predictions]
        assert [one.distance for one in predictions] == [distance for distance, _, _ in judged]
    assert [one.reward for one in answers] == [reward for _, reward, _ in judged]
    failed = [_by_jury(one.next_state, rows[one.transition].next_state)[2] for one in guesses]
    assert 0 < sum(failed) < len(failed)
    stages = run.summary()
    assert stages["filter"]["counts"]["failed judgements"] == sum(failed)
    of_evaluation = [
        path for arm in ("model", "world_model") for path in (run.folder / "evaluation" / arm).glob("predictions-*")
    ]
    every = [one for path in of_evaluation for one in Parts(path).read(PredictedState, 1)]
    counted = sum(one.next_state is not None and one.distance == 2 for one in every)
    assert stages["evaluate"]["counts"]["failed judgements"] == counted
    lines = [line for line in run.metrics.read() if line["stage"] == "train_wm"]
    assert all(0 <= line["judge_failed_share"] <= 1 - line["unparsed_share"] for line in lines)
    assert any(line["judge_failed_share"] for line in lines)

    # Another address is the same judge, and what it has judged is not asked again.
    chat_server.asked.clear()
    moved = mini(tmp_path, train_wm={"reward": "judge_graded"}, judge={**judge, "base_url": chat_server.url + "/"})
    run = Run.open(moved)
    assert run.is_done("train_wm")
    run.invalidate("filter")
    run_all(run, until="filter")
    assert chat_server.asked == []
    other = Run.open(mini(tmp_path, train_wm={"reward": "judge_graded"}, judge={**judge, "model": "another"}))
    assert other.state("filter") == "stale"


@pytest.mark.parametrize("name", ["fourth_reward:SameFirstWord", "first_word"])
def test_a_reward_from_elsewhere_trains(
    mini: Callable[..., Recipe], install: Callable[..., None], tmp_path: Path, name: str
) -> None:
    """One decorated class in one file, by its path and by an installed package's entry point: nothing else changes."""
    source = (
        "import numpy as np\n"
        "from rwml.rewards import TextReward, register\n"
        "@register('same_first_word')\n"
        "class SameFirstWord(TextReward):\n"
        "    def score(self, predicted, real):\n"
        "        first = [None if p is None else p.split()[:1] == r.split()[:1] for p, r in zip(predicted, real)]\n"
        "        gaps = np.array([2.0 if same is None else 1.0 - same for same in first], np.float32)\n"
        "        return gaps, np.maximum(0, 1 - gaps)\n"
    )
    install("fourth_reward", source, "[rwml.rewards]\nfirst_word = fourth_reward:SameFirstWord\n")
    if ":" in name:
        allow(code=[name])
    run = Run.open(mini(tmp_path / "run", train_wm={"reward": name, "max_steps": 2}))
    run_all(run, until="train_wm")
    lines = [line for line in run.metrics.read() if line["stage"] == "train_wm"]
    assert len(lines) == 2
    assert "judge_failed_share" not in lines[0]
    # Every distance is 0, 1 or 2, and a reward is 1 exactly where the distance is 0.
    for line in lines:
        wrong_share = 1 - line["reward"] - line["unparsed_share"]
        assert line["mean_distance"] == pytest.approx(wrong_share + 2 * line["unparsed_share"], abs=1e-6)
        assert line["within_tau"] == pytest.approx(line["reward"], abs=1e-6)
    assert any(line["reward"] > line["exact"] for line in lines)
    rows = {row.id: row for row in read_records(run.folder / "filtered.parquet", Transition)}
    for guess in Parts(run.folder / "predictor" / "predictions").read(PredictedState, 1):
        if guess.next_state is not None:
            same = guess.next_state.split()[:1] == rows[guess.transition].next_state.split()[:1]
            assert guess.distance == 1 - same
