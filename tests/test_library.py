"""The library door: its names are pinned, it loads nothing heavy, and what pages show works from a fresh install."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rwml
from chaos_world import Chaos
from rwml.world_models.engine import EngineWorldModel

ROOT = Path(__file__).parents[1]
NAMES = """
    BaseWorld Env Episode Episodes Plan PredictedState Prompts Query Recipe Run RwmlError Step StepResult Task Trainer
    Transition World WorldModel __version__ check_world evaluate language_policy load_model load_recipe make plan play
    rewards run transitions
"""


def test_the_public_names_are_pinned() -> None:
    assert sorted(rwml.__all__) == sorted(NAMES.split())
    assert all(getattr(rwml, name) is not None for name in rwml.__all__)
    assert dir(rwml) == rwml.__all__
    with pytest.raises(AttributeError, match="no attribute 'wurld'"):
        _ = rwml.wurld
    page = (ROOT / "docs/reference/python-api.md").read_text()
    assert all(name in page for name in rwml.__all__ if name != "__version__")


def test_importing_it_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "pyarrow", "pydantic", "numpy", "httpx")
    code = f"import rwml, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def alfworld() -> Any:
    return rwml.make("alfworld", split="train", size="tiny", num_train=8, num_valid_seen=2, num_valid_unseen=2)


def test_mistakes_name_what_would_work(alfworld: Any) -> None:
    with pytest.raises(rwml.RwmlError, match="no split 'trian'") as error:
        rwml.make("alfworld", split="trian")
    assert "did you mean 'train'" in error.value.fix
    with pytest.raises(rwml.RwmlError, match="names a server and no model"):
        rwml.load_model("http://localhost:8000/v1")
    wm = rwml.WorldModel(EngineWorldModel(alfworld), alfworld)
    with pytest.raises(rwml.RwmlError, match="history has 2 texts"):
        wm.predict(["opening", "look"], "look")
    with pytest.raises(rwml.RwmlError, match="has no weights here"):
        rwml.Trainer(wm)
    with pytest.raises(rwml.RwmlError, match="there is no world model 'enginee'"):
        rwml.WorldModel("enginee", alfworld)
    with pytest.raises(rwml.RwmlError, match="world's policy 'random' was asked to play in imagination"):
        wm.imagine(alfworld.tasks("train")[0], "random")
    for wrong in (5, [1], rwml.Trainer):
        with pytest.raises(rwml.RwmlError, match="is not a policy"):
            rwml.play(alfworld, alfworld.tasks("train")[:1], wrong)
    with pytest.raises(rwml.RwmlError, match="'most_frequent' needs transitions to count in"):
        rwml.WorldModel("most_frequent", alfworld)
    for number in (-1, float("nan"), float("inf")):
        with pytest.raises(rwml.RwmlError, match=f"temperature = {number}"):
            rwml.WorldModel("engine", alfworld, temperature=number)
    for steps in (0, -1):
        with pytest.raises(rwml.RwmlError, match=f"history_steps = {steps}"):
            rwml.WorldModel("engine", alfworld, history_steps=steps)
        with pytest.raises(rwml.RwmlError, match=f"history_steps = {steps}"):
            rwml.transitions([], alfworld, history_steps=steps)
    with pytest.raises(rwml.RwmlError, match="world is 'alfworld'"):
        rwml.WorldModel("engine", "alfworld")
    one = alfworld.tasks("train")[0]
    for tasks, message in (("train", "a task is 't'"), ([3], "a task is 3"), (one, "tasks is Task")):
        with pytest.raises(rwml.RwmlError, match=message):
            rwml.play(alfworld, tasks, "random")
    with pytest.raises(rwml.RwmlError, match="'cuda:9' cannot be used"):
        rwml.load_model("tiny", device="cuda:9")
    with pytest.raises(rwml.RwmlError, match="temperature = -1"):
        rwml.WorldModel("engine", alfworld, temperature=-1)
    foreign = rwml.Task("elsewhere/1", "elsewhere", "train", "none")
    with pytest.raises(rwml.RwmlError, match="no episode of task 'elsewhere/1' could be imagined"):
        rwml.plan(wm, foreign, policy=["look"])
    with pytest.raises(rwml.RwmlError, match="k = 0"):
        rwml.plan(wm, alfworld.tasks("train")[0], k=0, policy=["look"])
    with pytest.raises(rwml.RwmlError, match="'bogus' cannot be used"):
        rwml.load_model("tiny", device="bogus")
    assert rwml.load_recipe("quickstart", "seed=3").seed == 3
    with pytest.raises(rwml.RwmlError, match="proposes no actions"):
        rwml.plan(wm, alfworld.tasks("train")[0])
    with pytest.raises(rwml.RwmlError, match="which world"):
        rwml.transitions(list(rwml.play(alfworld, alfworld.tasks("train")[:1], "random", max_steps=2)))
    some = rwml.play(alfworld, alfworld.tasks("train")[:2], "random", max_steps=2)
    assert rwml.transitions(some[:1]) == rwml.transitions(some)[: len(some[0].steps)]
    server = rwml.load_model("http://localhost:1/v1#name")
    with pytest.raises(rwml.RwmlError, match="does not act yet"):
        rwml.play(alfworld, alfworld.tasks("train")[:1], server)


def test_with_the_real_engine_inside_imagination_is_play(alfworld: Any) -> None:
    tasks = alfworld.tasks("train")[:4]
    wm = rwml.WorldModel(EngineWorldModel(alfworld, tasks=tasks), alfworld)
    real = rwml.play(alfworld, tasks, "expert")
    rows = rwml.transitions(real)
    assert len(rows) == sum(len(episode.steps) for episode in real)
    won = [episode for episode in real if episode.success]
    assert won
    for episode in won:
        imagined = wm.imagine(episode.task, [step.action for step in episode.steps])
        assert [step.observation for step in imagined.steps] == [step.observation for step in episode.steps]
        assert imagined.success
    [state] = wm.predict([won[0].opening], "look")
    assert state.next_state is None
    assert state.reason.startswith("the world failed"), "without its task the engine cannot replay"
    [state] = rwml.WorldModel("engine", alfworld).predict([won[0].opening], won[0].steps[0].action, task=won[0].task)
    assert state.next_state == won[0].steps[0].observation
    figures = rwml.evaluate(wm, tasks[:2], reward="exact", max_steps=4)
    assert figures["world_model"]["overall"]["exact"]["mean"] == 1.0
    assert "success" not in figures


def test_a_plan_is_the_best_imagined_episode(alfworld: Any) -> None:
    tasks = alfworld.tasks("train")
    [won, *_] = [episode for episode in rwml.play(alfworld, tasks, "expert") if episode.success]
    wm = rwml.WorldModel(EngineWorldModel(alfworld, tasks=tasks), alfworld)
    actions = [step.action for step in won.steps]
    plan = rwml.plan(wm, won.task, k=3, policy=actions)
    assert (plan.actions, plan.wins, plan.candidates, plan.winning) == (tuple(actions), True, 3, 3)
    assert not rwml.plan(wm, won.task, k=2, policy=actions[:-1]).wins


def test_training_continues_where_it_was_and_refuses_another(alfworld: Any, tmp_path: Path) -> None:
    rows = rwml.transitions(rwml.play(alfworld, alfworld.tasks("train")[:2], "expert", max_steps=4))
    settings = {"group_size": 2, "batch_size": 2, "max_new_tokens": 16, "learning_rate": 1e-3}

    def weights(model: Any) -> Any:
        return next(model.model.parameters()).detach().clone()

    def trainer(seed: int = 0) -> tuple[Any, Any]:
        model = rwml.load_model("tiny", device="cpu")
        wm = rwml.WorldModel(model, alfworld)
        return model, rwml.Trainer(wm, "f1", folder=tmp_path / "run", seed=seed, **settings)

    model, first = trainer()
    start = weights(model)
    assert len(first.fit(rows, 2)) == 2
    once = weights(model)
    assert not once.equal(start)
    first.fit(rows, 1)
    twice = weights(model)
    assert not twice.equal(once), "another call trains further"
    again, second = trainer()
    second.fit(rows, 2)
    assert weights(again).equal(once), "the same call takes up what it had done"
    second.fit(rows, 1)
    assert weights(again).equal(twice)
    with pytest.raises(rwml.RwmlError, match="holds another training: seed differ"):
        trainer(seed=1)[1].fit(rows, 2)
    with pytest.raises(rwml.RwmlError, match="holds another training: steps, rows differ"):
        trainer()[1].fit(rows[1:], 3)
    changed = [replace(rows[0], next_state="Nothing."), *rows[1:]]
    with pytest.raises(rwml.RwmlError, match="holds another training: rows differ"):
        trainer()[1].fit(changed, 2)
    fresh, folder = rwml.load_model("tiny", device="cpu"), tmp_path / "reward"
    wm = rwml.WorldModel(fresh, alfworld, prompts="full")
    rwml.Trainer(wm, rwml.rewards.Embedding(tau_d=0.2), folder=folder, **settings).fit(rows, 1)
    with pytest.raises(rwml.RwmlError, match="holds another training: reward, questions"):
        wm = rwml.WorldModel(fresh, alfworld)
        rwml.Trainer(wm, rwml.rewards.Embedding(tau_d=0.9), folder=folder, **settings).fit(rows, 1)
    wm = rwml.WorldModel(again, alfworld)
    for wrong, message in (
        ({"epochs": 2}, "was given epochs"),
        ({"grup_size": 2}, "unknown key 'grup_size'"),
        ({"kl_weight": math.inf}, "kl_weight = inf is not a finite number"),
    ):
        with pytest.raises(rwml.RwmlError, match=message):
            rwml.Trainer(wm, **wrong)
    with pytest.raises(rwml.RwmlError, match="steps = 0"):
        rwml.Trainer(wm).fit(rows, 0)
    with pytest.raises(rwml.RwmlError, match=r"train_wm, step 1 of 2: .*weight has values from"):
        rwml.Trainer(wm, "f1", checkpoint_every=1, **settings | {"learning_rate": 1e25}).fit(rows, 2)


SMALLER = {
    "[:64]": "[:4]",
    "steps=50": "steps=2",
    'world.tasks("valid_unseen"))': 'world.tasks("valid_unseen")[:2], max_steps=4)',
}
"""What of the README's lines is made smaller, so that they take seconds: numbers alone."""

MORE = """
task = world.tasks("valid_unseen")[0]
opening = world.env().reset(task)
assert len(wm.predict([opening], "look", n=4)) == 4
assert len(wm.imagine(task, ["look", "inventory"]).steps) <= 2
assert wm.as_env().reset(task) == opening
assert rwml.plan(wm, task, k=2, max_steps=3).candidates == 2
done = rwml.run("quickstart", "collect.num_tasks=2", "collect.rollouts_per_task=1", until="transitions")
assert done.is_done("transitions")
print(rwml.__file__)
"""
"""The rest of what design and API page show of the door."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_lines_of_readme_run_from_a_fresh_install_in_an_empty_folder(tmp_path: Path) -> None:
    """`pip install .` into an environment of its own, with the libraries of this one, away from our sources."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    libraries = sysconfig.get_paths()["purelib"]
    (site / "libraries.pth").write_text(f"{libraries}\n")  # behind our own package, which is the fresh one
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--force-reinstall"]
    run([*pip, "--no-build-isolation", "--no-index", "--target", str(site), str(ROOT)], ROOT)
    text = (ROOT / "README.md").read_text()
    code = next(part for part in text.split("```python\n")[1:] if "rwml.make(" in part).split("```")[0]
    for line, smaller in SMALLER.items():
        assert line in code
        code = code.replace(line, smaller)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "lines.py").write_text(code + MORE)
    assert str(site) in run([str(python), "lines.py"], empty)


def run(command: list[str], folder: Path) -> str:
    """The output of a command that has to end well."""
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_play_and_transitions_of_a_world_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    world: Any = Chaos(0.05, 30, seed=2)
    episodes = rwml.play(world, world.tasks("train"), "expert", rollouts=2)
    failed = sum(bool(episode.error) for episode in episodes)
    assert (len(episodes), 0 < failed < 60) == (60, True)
    steps = sum(1 for episode in episodes for step in episode.steps if step.observation)
    rows = rwml.transitions(episodes)
    assert 0 < len(rows) < steps
    assert f"transitions: {steps - len(rows)} of {steps} steps failed: " in capsys.readouterr().err
    world.odds = 1.0
    with pytest.raises(rwml.RwmlError, match="all 30 episodes failed"):
        rwml.evaluate(rwml.WorldModel("engine", world), world.tasks("train"))
