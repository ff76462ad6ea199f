"""`train-policy` beside plain GRPO: own, expert and reflected episodes, two further losses, and nothing to play."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe, recipe_toml
from rwml.core.recipe.sections import TrainPolicyConfig
from rwml.core.records import Parts, read_records, write_records
from rwml.core.run import Run
from rwml.core.types import Episode, Step, StopReason, Task
from rwml.loading import load_world
from rwml.models.language_model import load_language_model
from rwml.playing.reflections import Reflection
from rwml.playing.rollout import play_built_in, seats_for
from rwml.stages import train_policy

pytestmark = pytest.mark.slow  # trains in stages

Mini = Callable[..., Recipe]
SFT = {"method": "sft", "start": "model", "steps": 3, "tasks_per_step": 2, "learning_rate": 1e-3}


def trained(recipe: Recipe) -> tuple[Run, dict[str, Any], list[dict[str, Any]]]:
    """The stage run on its own; the run, its counts and its metrics."""
    run = Run.open(recipe)
    train_policy.run(run)
    assert run.is_done("train_policy")
    from rwml.core.metric_names import unnamed

    assert unnamed(run.metrics.read()) == set()
    return run, dict(run.summary()["train_policy"]["counts"]), run.metrics.read()


def same_weights(left: Path, right: Path) -> bool:
    before, after = (load_language_model(path, device="cpu").model.state_dict() for path in (left, right))
    return all(torch.equal(before[name], after[name]) for name in before)


def test_own_successes(mini: Mini, model_folder: Path, tmp_path: Path) -> None:
    """Two solved tasks; a failed and a long episode are left out, a message that was cut off is not learnt."""
    recipe = mini(tmp_path / "run", train_policy=SFT | {"episodes": "own"}, model={"max_context_tokens": 1500})
    world = load_world(recipe)
    tasks = world.tasks("train")[:3]
    solved = [e for e in play_built_in(world, seats_for(tasks, 2, 0), "expert", 30) if e.success][:4]
    assert len(solved) == 4
    failed = play_built_in(world, seats_for(tasks[2:], 1, 0), "random", 2)
    cut = Step("", "<think>so", "Nothing happens.", parsed=False, valid=False, truncated=True)
    odd = Episode(
        "odd", solved[0].task, "model", 7, 0, solved[0].opening, (cut, *solved[0].steps), StopReason.SUCCESS, True
    )
    long = replace(solved[3], steps=solved[3].steps * 20)
    episodes = [*solved[:3], odd, *failed, long]
    Run.open(recipe)
    Parts(recipe.folder / "episodes").write(0, episodes, Episode)
    run, counts, rows = trained(recipe)
    assert counts == {
        "steps": 3,
        "episodes": 6,
        "demonstrations": 4,
        "tasks demonstrated": 2,
        "episodes without success, left out": 1,
        "episodes longer than model.max_context_tokens, left out": 1,
        "messages": sum(len(e.steps) for e in episodes[:4]),
        "messages cut off or unreadable, not learnt": 1,
    }
    assert [row["demonstrations"] for row in rows] == [4, 4, 4], "all episodes of both tasks in every step"
    assert [row["policy_tokens"] for row in rows] == [0, 0, 0]
    assert rows[0]["cross_entropy"] > rows[1]["cross_entropy"] > rows[2]["cross_entropy"]
    assert rows[0]["tokens"] < rows[0]["tokens_unshared"]
    assert len({row["ce_tokens"] for row in rows}) == 1
    assert not same_weights(model_folder, run.folder / "policy" / "final")


def test_expert_episodes(mini: Mini, tmp_path: Path) -> None:
    """Six tasks' worth of steps: as many tasks are played, once each; who fails within the limit is left out."""
    recipe = mini(tmp_path / "run", train_policy=SFT | {"episodes": "expert"}, world={"max_steps": 9})
    run, counts, rows = trained(recipe)
    played = Parts(run.folder / "policy" / "demonstrations").read(Episode, 1)
    won = [episode for episode in played if episode.success]
    assert len({e.task.id for e in played}) == len(played) == counts["episodes"] == 6
    assert all(e.task.split == "train" and len(e.steps) <= 9 for e in played)
    assert 0 < len(won) == counts["demonstrations"] == counts["tasks demonstrated"] < 6
    assert counts["episodes without success, left out"] == 6 - len(won)
    assert [row["demonstrations"] for row in rows] == [2, 2, 2]
    assert [row["step"] for row in rows] == [1, 2, 3]
    changed = mini(
        tmp_path / "run", train_policy=SFT | {"episodes": "expert"}, world={"max_steps": 9}, collect={"split": "x"}
    )
    assert Run.open(changed).is_done("train_policy"), "no episode of the run was read"


def test_what_cannot_be_learnt_from_leaves_the_starting_weights(
    mini: Mini, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expert who never gets there in one step."""
    recipe = mini(tmp_path / "run", train_policy=SFT | {"episodes": "expert"}, world={"max_steps": 1})
    run, counts, rows = trained(recipe)
    assert (counts["steps"], counts["episodes"], counts["episodes without success, left out"]) == (0, 6, 6)
    assert rows == []
    assert same_weights(model_folder, run.folder / "policy" / "final")
    assert capsys.readouterr().err.count("there is no episode to learn from: 6 found") == 1


def logs_recipe(folder: Path, lm: Path, **policy: Any) -> Recipe:
    model = {"path": str(lm), "device": "cpu", "prompts": "brief"}
    return parse_recipe({"name": "logs", "out": str(folder), "world": {"name": "chat"}, "model": model,
                         "train_policy": {"start": "model", "steps": 2, "tasks_per_step": 1} | policy})  # fmt: skip


def test_a_world_of_logs_has_nothing_to_play(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, counts, rows = trained(logs_recipe(tmp_path / "run", model_folder))
    assert (counts, rows) == ({"steps": 0}, [])
    assert same_weights(model_folder, run.folder / "policy" / "final")
    assert capsys.readouterr().err.count("the world chat has no tasks to play in the split 'train'") == 1


def test_successes_in_logs_can_be_learnt(model_folder: Path, tmp_path: Path) -> None:
    recipe = logs_recipe(tmp_path / "run", model_folder, method="sft")
    call = '{"name": "sky", "arguments": {"town": "Ulm"}}'
    steps = (Step(call, call, '{"sky": "blue"}', "tool"), Step("Blue.", "Blue.", "Thanks.", "user"))
    task = Task("chat/a", "chat", "train", "chat")
    episode = Episode("a#0", task, "agent", 0, 0, "User: How is it?", steps, StopReason.SUCCESS, True)
    Run.open(recipe)
    Parts(recipe.folder / "episodes").write(0, [episode], Episode)
    _, counts, rows = trained(recipe)
    assert (counts["demonstrations"], counts["messages"], counts["steps"]) == (1, 2, 2)
    chat = load_language_model(model_folder, device="cpu").chat
    learnt = len(chat.text(f"<tool_call>\n{call}\n</tool_call>")) + len(chat.text("Blue.")) + 2
    assert [row["ce_tokens"] for row in rows] == [learnt, learnt]


def test_observations_and_transitions_beside_the_policy_loss(mini: Mini, tmp_path: Path) -> None:
    further = {"start": "model", "steps": 4, "observation_weight": 0.5, "transition_every": 2}
    plain, more = mini(tmp_path / "plain", train_policy={"start": "model", "steps": 4}), mini(
        tmp_path / "more", train_policy=further
    )  # fmt: skip
    rows, others = trained(plain)[2], trained(more)[2]
    assert [row["ce_tokens"] for row in rows] == [0] * 4
    assert others[0]["success"] == rows[0]["success"], "the first rollouts are the same"
    assert all(row["ce_tokens"] > 0 for row in others)
    assert others[0]["tokens"] >= rows[0]["tokens"]
    assert others[0]["policy_tokens"] == rows[0]["policy_tokens"]
    assert others[0]["loss"] == pytest.approx(rows[0]["loss"] + 0.5 * others[0]["cross_entropy"], abs=1e-4)
    with_update = ["transition_loss" in row for row in others]
    assert with_update == ["transitions" in row for row in others] == [False, True, False, True]
    for row in others[1::2]:
        readable = 36 * row["steps_per_episode"] / 3 * (1 - row["unparsed_share"])
        assert row["transitions"] == pytest.approx(readable)
        assert row["transitions_too_long"] == 0
        assert row["transition_policy_tokens"] == 0
        assert row["transition_ce_tokens"] >= row["transitions"]


@pytest.mark.parametrize("key", ["observation_weight", "transition_every"])
def test_losses_on_rollouts_need_rollouts(mini: Mini, tmp_path: Path, key: str) -> None:
    with pytest.raises(RwmlError, match=f"train_policy.{key} is 2"):
        mini(tmp_path, train_policy=SFT | {key: 2})


def test_reflections_need_a_writer(mini: Mini, tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match=r"judge\.base_url or judge\.model is not set"):
        mini(tmp_path, train_policy=SFT | {"episodes": "reflections"})


def write(recipe: Recipe) -> str:
    path = recipe.folder.with_suffix(".toml")
    path.write_text(recipe_toml(recipe.model_dump(mode="json")))
    return str(path)


def data(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted((folder / "policy").rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.timeout(300)
def test_killed_while_reflections_are_written(mini: Mini, tmp_path: Path, chat_server) -> None:  # type: ignore[no-untyped-def]
    """The same files as undisturbed, from one process killed between two parts and one in training, and no question of
    a part that was done is asked again."""

    def answer(messages: list[dict[str, str]]) -> str | int:
        number = zlib.crc32(messages[0]["content"].encode())
        return 400 if number % 5 == 0 else f"I think {number % 97}."

    chat_server.answer = answer
    policy = SFT | {"episodes": "reflections", "alternatives": 1, "checkpoint_every": 1}
    judge = {"base_url": chat_server.url, "model": "w"}
    whole, killed = (
        mini(
            tmp_path / name,
            train_policy=policy,
            judge=judge,
            world={"max_steps": 12},
            model={"max_context_tokens": 900},
        )
        for name in ("whole", "killed")
    )
    kills = [("policy", 0.2), ("metrics", 0.4)]
    script = Path(__file__).with_name("killer.py")
    command = [sys.executable, str(script), write(whole), write(killed), json.dumps(kills), "train_policy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["statuses"] == [0, -9, -9, 0], (result, done.stderr[-3000:])
    assert data(killed.folder) == data(whole.folder)

    counts = Run.open(whole).summary()["train_policy"]["counts"]
    assert Run.open(killed).summary()["train_policy"]["counts"] == counts
    parts = whole.folder / "policy" / "reflections"
    found = [r for path in sorted(parts.iterdir()) for r in read_records(path, Reflection)]
    assert len(list(parts.iterdir())) == 3
    failed = [r for r in found if r.error]
    assert 0 < len(failed) == counts["reflections failed, HTTP 400"] < len(found)
    assert counts["reflections"] == len(found) - len(failed)
    assert counts["messages"] == len(found)
    asked = Counter(request["messages"][0]["content"] for request in chat_server.asked)
    assert len(asked) == len(found)
    again = sum(number > 2 for number in asked.values())
    assert again <= len(read_records(parts / "00001.parquet", Reflection)), "at most the part that it was at"


def test_records_of_reflections_are_read_back(tmp_path: Path) -> None:
    rows = [Reflection("e#0", 3, "It is near.", "", 2, 120, 9), Reflection("e#0", 4, "", "HTTP 503: busy", 2, 0, 0)]
    write_records(tmp_path / "r.parquet", rows, Reflection)
    assert read_records(tmp_path / "r.parquet", Reflection) == rows
    assert [row.failure for row in rows] == ["", "HTTP 503"]


def test_returns_by_hand() -> None:
    config = TrainPolicyConfig(reward_success=10.0, reward_invalid=-0.1)
    steps = tuple(Step("a", "a", "o", valid=valid) for valid in (True, False, False))
    episode = Episode("e", Task("t", "w", "train", "k"), "model", 0, 0, "o", steps, StopReason.SUCCESS, True)
    assert train_policy.episode_return(episode, config) == pytest.approx(9.8)
    lost = replace(episode, success=False, stop=StopReason.STEP_LIMIT)
    assert train_policy.episode_return(lost, config) == pytest.approx(-0.2)


def test_tasks_come_up_equally_often() -> None:
    tasks = [Task(str(n), "w", "train", "k") for n in range(5)]
    config = TrainPolicyConfig(steps=5, tasks_per_step=3)
    order = train_policy._task_order(tasks, config, seed=2)
    assert Counter(task.id for task in order) == {str(n): 3 for n in range(5)}
    assert [sorted(t.id for t in order[i : i + 5]) for i in (0, 5, 10)] == [list("01234")] * 3
    assert order == train_policy._task_order(tasks, config, seed=2)
    assert order != train_policy._task_order(tasks, config, seed=3)
