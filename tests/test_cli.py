"""The command line, as a person uses it: in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import load_recipe
from rwml.core.records import write_json
from rwml.core.run import Run
from rwml.core.run_folder.manifest import RUN, new_manifest, write_manifest
from rwml.stages import VERBS
from rwml.stages.pipeline import folder_named, recipe_named, run_all, summary_line
from rwml.stages.worlds import find_task, parse_options, play
from rwml.worlds.by_name import get_world

RECIPE = 'name = "r"\nout = "{out}"\n'
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "pydantic", "matplotlib")


def _rwml(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rwml.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=text, check=False, timeout=120)


def _recipe(folder: Path, extra: str = "") -> Path:
    path = folder / "r.toml"
    path.write_text(RECIPE.format(out=folder / "run") + extra)
    return path


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom rwml.cli import main\nsys.argv = ['rwml', '--help']\n"
        f"try:\n    main()\nfinally:\n    print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    for verb in ("run", "compare", "worlds", "summary", "tiny", *(verb.name for verb in VERBS)):
        assert f" {verb} " in done.stdout


def test_waiting_threads_sleep() -> None:
    script = "import os, rwml.cli; print(os.environ['OMP_WAIT_POLICY'])"
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=clean)
    assert done.stdout == "passive\n"


@pytest.mark.slow
def test_a_users_mistake_is_a_message_and_exit_code_2(tmp_path: Path) -> None:
    done = _rwml("collect", str(_recipe(tmp_path, "[collect]\nrollout_per_task = 2\n")))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].endswith("unknown key 'collect.rollout_per_task'")
    assert "what to do: did you mean 'rollouts_per_task'?" in done.stderr
    assert "Traceback" not in done.stderr
    debug = _rwml("collect", str(tmp_path / "r.toml"), "--debug")
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "quickstat"], "did you mean 'quickstart'?"),
        (["run", "RECIPE", "train_wm.epoch=1"], "did you mean 'epochs'?"),
        (["run", "RECIPE", "--until", "train"], "did you mean 'train-wm'?"),
        (["run", "RECIPE", "--force", "colect"], "did you mean 'collect'?"),
        (["transitions", "RECIPE"], "run the stage that writes it first"),
        (["worlds", "play", "alfwrld"], "did you mean 'alfworld'?"),
        (["worlds", "-o", "size=tiny"], "add --only WORLD"),
        (["worlds", "play", "alfworld", "--split", "validseen"], "did you mean 'valid_seen'?"),
        (["worlds", "play", "alfworld", "--option", "size"], "write e.g. source=official"),
        (["summary", "no/where"], "run the stage that writes it first"),
        (["summary", "quickstat"], "did you mean 'quickstart'?"),
    ],
)
def test_bad_input_says_what_to_do(tmp_path: Path, arguments: list[str], expected: str) -> None:
    path = str(_recipe(tmp_path))
    done = _rwml(*(path if argument == "RECIPE" else argument for argument in arguments))
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_interrupt_says_how_to_continue() -> None:
    command = [sys.executable, "-m", "rwml.cli", "worlds", "play", "alfworld"]
    pipe = subprocess.PIPE
    # A shell starts background jobs with interrupts ignored, and they would ignore this one too.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    game = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    signal.signal(signal.SIGINT, usual)
    assert game.stdout is not None
    while not game.stdout.readline().startswith("You are in the middle of a room"):
        assert game.poll() is None
    game.send_signal(signal.SIGINT)
    _, errors = game.communicate(timeout=60)
    assert game.returncode == 130
    assert errors.strip() == "stopped; the same command continues from here: rwml worlds play alfworld"


@pytest.mark.slow
def test_worlds_lists_all_and_says_whose_data_are_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAU2_DATA_DIR", "/nowhere")
    listed = _rwml("worlds")
    assert listed.returncode == 0
    assert "alfworld   train" in listed.stdout
    assert "tau2       -                   0 tasks   /nowhere has no folder tau2/domains" in listed.stdout


@pytest.mark.slow
def test_worlds_lists_splits_tasks_and_kinds() -> None:
    done = _rwml(
        "worlds", "--only", "alfworld", "-o", "num_train=6", "-o", "num_valid_seen=2", "-o", "num_valid_unseen=1"
    )
    assert done.returncode == 0
    rows = [line.split()[:4] for line in done.stdout.splitlines()]
    assert rows == [
        ["alfworld", "train", "6", "tasks"],
        ["alfworld", "valid_seen", "2", "tasks"],
        ["alfworld", "valid_unseen", "1", "tasks"],
    ]
    assert "pick_and_place_simple" in done.stdout


@pytest.mark.slow
def test_a_game_is_played_by_hand() -> None:
    done = _rwml("worlds", "play", "alfworld", "--task", "1", text="?\nlook\nfly away\nquit\nlook\n")
    assert done.returncode == 0
    assert "Your task is to:" in done.stdout
    assert "\ninventory\n" in done.stdout
    assert "Nothing happens.  (not admissible)" in done.stdout


def test_playing_what_the_expert_plays_solves_the_task() -> None:
    world = get_world("alfworld", num_train=3)
    task = find_task(world, "train", "2")
    assert find_task(world, "train", task.id) == task == world.tasks("train")[2]
    policy, shown = world.policy("expert", 0), []
    env = world.env()
    observation = env.reset(task)
    actions = []
    while not env.success:
        actions.append(policy.act(observation, env.admissible))
        observation = env.step(actions[-1]).observation
    typed = iter(["?", "", *actions])
    assert play(world, task, lambda _: next(typed), shown.append) is True
    assert shown[-1] == f"Solved after {len(actions)} steps."
    with pytest.raises(RwmlError, match="has no task '9'"):
        find_task(world, "train", "9")


def test_options_are_read_as_toml_or_text() -> None:
    assert parse_options(["a=3", "b=true", "c=some text", 'd="3"']) == {"a": 3, "b": True, "c": "some text", "d": "3"}


@pytest.mark.slow
def test_the_last_line_of_the_quickstart(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    summary = {
        "world_model": {"before": 0.2312, "after": 0.4149, "interval": [0.0501, 0.3099]},
        "success": {"before": 0.125, "after": 0.25, "interval": [-0.004, 0.2203]},
    }
    write_json(run_folder / "eval.json", {"summary": summary})
    stages = {name: {"seconds": seconds} for name, seconds in (("collect", 500.0), ("report", 64.0))}
    write_json(run_folder / "manifest.json", {"format": 1, "rwml": "0.1.0", "stages": stages})
    done = _rwml("summary", str(run_folder), "--label", "quickstart")
    assert done.stdout == (
        "quickstart: world_model 0.23 -> 0.41 [0.05, 0.31]; success 0.12 -> 0.25 [0.00, 0.22]; 9.4 min; "
        f"{run_folder}\n"
    )
    (run_folder / "report.html").touch()
    assert _rwml("summary", str(run_folder)).stdout.endswith(f"; {run_folder}/report.html\n")


@pytest.mark.slow
def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = _recipe(tmp_path)
    write_json(tmp_path / "run" / "manifest.json", {"format": 1, "rwml": "99.0", "stages": {}})
    for verb in ("collect", "run"):
        done = _rwml(verb, str(path))
        assert done.returncode == 2
        assert "was written by a newer rwml (99.0" in done.stderr


def test_run_skips_what_is_done_and_stops_where_until_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(load_recipe(_recipe(tmp_path)))
    with run.stage("collect"):
        (run.folder / "episodes").mkdir()
    run_all(run, until="collect")
    assert capsys.readouterr().err == "[1/7] collect: done already\n"
    with pytest.raises(RwmlError, match=r"00000\.parquet"):
        run_all(run, until="transitions")
    assert capsys.readouterr().err == "[1/7] collect: done already\n[2/7] transitions\n"
    assert run.state("transitions") == "failed"


@pytest.mark.slow
def test_a_run_folder_is_as_good_as_its_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, "[collect]\nnum_tasks = 7\n"))
    write_json(recipe.folder / "recipe.json", recipe.model_dump(mode="json"))
    write_manifest(recipe.folder, new_manifest(RUN))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    renewed = recipe_named(str(moved), ("collect.split=valid_seen",))
    assert (renewed.collect.num_tasks, renewed.collect.split, renewed.folder) == (7, "valid_seen", moved.resolve())
    assert folder_named(str(moved)) == moved
    assert folder_named(str(tmp_path / "r.toml")) == tmp_path / "run"
    assert folder_named("quickstart") == Path("runs/quickstart")
    done = _rwml("transitions", str(moved))
    assert done.returncode == 2
    assert f"'{moved.resolve()}/episodes' does not exist" in done.stderr


@pytest.mark.slow
def test_the_old_name_of_a_verb_says_the_new_one(tmp_path: Path) -> None:
    assert "reward-lab" in _rwml("--help").stdout
    assert " reward " not in _rwml("--help").stdout
    done = _rwml("reward", str(tmp_path / "r.toml"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "note: `rwml reward` is called `rwml reward-lab` now"
    assert "no recipe at" in done.stderr


def test_escapes_from_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text('{"messages": [{"role": "\\u001b]0;x\\u0007", "content": "a"}]}')
    shown = _rwml("import", str(log), "--out", str(tmp_path / "out"))
    assert shown.returncode == 2
    assert "a message has no known role (1)" in shown.stderr
    assert "\x1b" not in shown.stderr + shown.stdout
    named = _rwml("run", "\x1b[31mnowhere.toml")
    assert named.returncode == 2
    assert "\\x1b[31mnowhere.toml" in named.stderr
    assert "\x1b" not in named.stderr


@pytest.mark.parametrize("figures", [[], {}, {"summary": 3}, {"summary": {"world_model": {}}}, {"summary": None}])
def test_a_summary_of_another_shape_is_named(tmp_path: Path, figures: object) -> None:
    write_json(tmp_path / "run" / "eval.json", figures)
    with pytest.raises(RwmlError, match=r"eval\.json' is damaged: it holds no summary of an evaluation"):
        summary_line(tmp_path / "run", "x")


def test_a_name_that_is_too_long_for_a_path_is_refused() -> None:
    for find in (recipe_named, folder_named):
        with pytest.raises(RwmlError, match="cannot be a path: File name too long"):
            find("x" * 300)
