"""Every verb on a recipe and a run folder of a stranger: nothing of theirs runs, and nothing is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import rwml
from fuzz_servers import MODES, RawServer, raw_server
from rwml.cli import app, main
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import parse_recipe, recipe_toml
from rwml.core.run import CHAIN
from rwml.core.run_folder.manifest import RUN, new_manifest, write_manifest

pytestmark = pytest.mark.slow  # seconds in all

MODULE = """
from pathlib import Path
Path(__file__).with_name("it_ran").touch()

from rwml.playing.policies import ActionsPolicy
from rwml.rewards import TextReward
from rwml.worlds.base import BaseWorld, Prompts
from rwml.core.types import Task

class World(BaseWorld):
    texts = Prompts("Act.", "Predict.", "{action}?")
    def tasks(self, split): return [Task("t", "world", split, "k")]
    def env(self): return Env()

class Env:
    admissible, success = ("wait",), False
    def reset(self, task, seed=0): return "A room."

class Reward(TextReward): ...
class Policy(ActionsPolicy): ...
"""
VERBS = ("run", *(stage.replace("_", "-") for stage in CHAIN if stage != "report"), "measure", "compare", "reward-lab")
CODE = [
    {"world": {"name": "strange:World"}},
    {"world": {"name": "os:system", "options": {"command": "touch it_ran"}}},
    {"world": {"name": "subprocess:Popen", "options": {"args": ["touch", "it_ran"]}}},
    {"train_wm": {"reward": "strange:Reward"}},
    {"train_wm": {"reward": {"tool": "strange:Reward"}}},
    {"evaluate": {"baselines": ["strange:Model"]}},
    {"model": {"sampler": "strange:Sampler"}},
    {"model": {"path": "strange_model", "trust_remote_code": True}},
    {"measure": {"held_out": [{"name": "strange:World"}]}},
]
ARMS = [{"name": "base"}, {"name": "arm", "stages": ["train_wm"], "set": {"train_wm.reward": "strange:Reward"}}]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a stranger's module in it, and one that would be found as an installed package."""
    (tmp_path / "strange.py").write_text(MODULE)
    (tmp_path / "lm_eval.py").write_text(MODULE)
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    points = "[rwml.worlds]\nalfworld = strange:World\n[rwml.rewards]\nembedding = strange:Reward\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    return tmp_path


def rwml_(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def written(folder: Path, data: dict[str, object]) -> tuple[Path, Path]:
    """The recipe as a file, and as a run folder of a stranger."""
    recipe = parse_recipe({"name": "r", "out": str(folder / "out"), **data})
    theirs = folder / "theirs"
    theirs.mkdir()
    write_manifest(theirs, new_manifest(RUN))
    dumped = recipe.model_dump(mode="json") | {"out": str(theirs)}
    (theirs / "recipe.json").write_text(json.dumps(dumped))
    (folder / "r.toml").write_text(recipe_toml({key: value for key, value in dumped.items() if key != "compare"}))
    return folder / "r.toml", theirs


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("data", CODE, ids=lambda data: json.dumps(data)[:60])
def test_no_verb_runs_code_that_the_user_has_not_allowed(here: Path, data: dict[str, object]) -> None:
    recipe, theirs = written(here, data)
    before = files(here)
    for verb in VERBS:
        for named in (recipe, theirs):
            if verb == "measure" and named == recipe:
                continue
            result = rwml_(verb, str(named))
            assert result.exit_code == 2, (verb, result.output)
            assert "this would run code that you have not allowed: " in result.stderr
            assert "--allow-code " in result.stderr
            assert "Traceback" not in result.stderr
    for call in (rwml.run, rwml.load_recipe):
        with pytest.raises(RwmlError, match="have not allowed"):
            call(theirs)
    assert files(here) == before
    assert "strange" not in sys.modules


def test_an_arm_of_a_comparison_needs_the_same_word(here: Path) -> None:
    _, theirs = written(here, {"compare": {"arms": ARMS}, "evaluate": {"tau_d": 0.2}})
    result = rwml_("compare", str(theirs))
    assert (result.exit_code, "train_wm.reward = 'strange:Reward'" in result.stderr) == (2, True)
    assert not (here / "it_ran").exists()


@pytest.mark.parametrize("key", ["collect.policy", "evaluate.collect_policy", "reward_lab.policy"])
def test_a_policy_needs_the_same_word(here: Path, key: str) -> None:
    recipe, _ = written(here, {"world": {"options": {"num_train": 1}}})
    verb = "reward-lab" if key.startswith("reward_lab") else "collect"
    result = rwml_(verb, str(recipe), f"{key}=strange:Policy")
    assert (result.exit_code, "not allowed: policy = 'strange:Policy'" in result.stderr) == (2, True)
    assert not (here / "it_ran").exists()


def test_a_report_and_a_summary_only_read(here: Path) -> None:
    _, theirs = written(here, CODE[0])
    assert rwml_("report", str(theirs)).exit_code == 0
    assert rwml_("summary", str(theirs)).exit_code in (1, 2)
    assert "r" in (theirs / "report.html").read_text()
    assert not (here / "it_ran").exists()


def test_the_folder_at_hand_brings_neither_modules_nor_entry_points(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rwml", "worlds", "--only", "alfworld", "-o", "num_train=2"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert "alfworld   train               2 tasks" in capsys.readouterr().out
    assert not (here / "it_ran").exists()


def test_the_users_word_lets_it_run(here: Path) -> None:
    result = rwml_("worlds", "check", "strange:World")
    assert "violations" in result.output
    assert (here / "it_ran").exists(), "named on the command line"


def test_words_in_python_are_arguments(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))
    _, theirs = written(here, {"world": {"name": "strange:World"}, "train_wm": {"reward": "strange:Reward"}})
    with pytest.raises(RwmlError, match=r"allowed: train_wm\.reward = 'strange:Reward'\n") as error:
        rwml.load_recipe(theirs, allow_code=["strange:World"])
    assert "allow_code=" in error.value.fix
    assert not (here / "it_ran").exists()
    assert rwml.load_recipe(theirs, allow_code=["strange:Reward"]).world.name == "strange:World"
    assert not (here / "it_ran").exists(), "it is only read"
    with pytest.raises(RwmlError, match="there is no stage 'nowhere'"):
        rwml.run(theirs, until="nowhere")
    assert rwml.make("strange:World").name == "world"


@pytest.mark.parametrize("address", ["http://me:hushhush@127.0.0.1/v1", "http://h/v1?api_key=hushhush#m"])
def test_a_key_in_the_address_of_a_model_is_not_shown(address: str) -> None:
    with pytest.raises(RwmlError, match="holds more than a server's address") as error:
        rwml.load_model(address)
    assert "hushhush" not in str(error.value)


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen"])
def test_no_word_makes_a_world_of_something_else(here: Path, name: str) -> None:
    recipe, _ = written(here, {"world": {"name": name, "options": {"args": ["touch", "it_ran"]}}})
    result = rwml_("run", str(recipe), "--allow-code", name)
    assert (result.exit_code, f"'{name}' is no world: " in result.stderr) == (2, True)
    result = rwml_("worlds", "check", name, "-o", 'args=["touch", "it_ran"]')
    assert (result.exit_code, f"'{name}' is no world: " in result.stderr) == (2, True)
    with pytest.raises(RwmlError, match="is no world"):
        rwml.make(name, command="touch it_ran")
    assert not (here / "it_ran").exists()


@pytest.fixture
def judged(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[RawServer, str], Path]:
    """`judged(server, variable)` is a stranger's recipe whose judge is that server, with that variable's value."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-hush-hush")

    def write(server: RawServer, variable: str) -> Path:
        judge = {"base_url": server.url, "model": "m", "api_key_env": variable}
        options = {"size": "tiny", "num_train": 1, "num_valid_seen": 1, "num_valid_unseen": 1}
        collect = {"policy": "expert", "rollouts_per_task": 1}
        data = {"world": {"options": options}, "judge": judge, "train_wm": {"reward": "judge"}, "collect": collect}
        return written(here, data)[0]

    return write


def test_no_verb_sends_a_key_that_the_user_has_not_allowed(
    here: Path, judged: Callable[[RawServer, str], Path]
) -> None:
    with raw_server(otherwise=MODES["503"]) as server:
        recipe = judged(server, "AWS_SECRET_ACCESS_KEY")
        before = files(here)
        for verb in VERBS:
            result = rwml_(verb, str(here / "theirs" if verb == "measure" else recipe))
            assert result.exit_code == 2
            assert "would send the value of the environment variable AWS_SECRET_ACCESS_KEY to" in result.stderr
            assert "--allow-key AWS_SECRET_ACCESS_KEY@127.0.0.1:" in result.stderr
        assert (server.heads, files(here)) == ([], before)


@pytest.mark.slow
def test_a_key_that_is_allowed_is_said_and_is_in_no_file(here: Path, judged: Callable[[RawServer, str], Path]) -> None:
    def repeats(connection: object) -> None:
        key = b"no such key: aws-hush-hush"
        connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(key), key))  # type: ignore[attr-defined]

    with raw_server(otherwise=type(MODES["503"])(repeats)) as server:
        host = server.url.removeprefix("http://").removesuffix("/v1")
        recipe = judged(server, "AWS_SECRET_ACCESS_KEY")
        result = rwml_("reward-lab", str(recipe), "--allow-key", f"AWS_SECRET_ACCESS_KEY@{host}")
        assert any(b"aws-hush-hush" in head for head in server.heads)
    assert f"m: requests go to http://{host}, with the key in AWS_SECRET_ACCESS_KEY\n" in result.stderr
    assert "no such key: [AWS_SECRET_ACCESS_KEY]" in result.stderr
    assert "hush" not in result.output
    for path in here.rglob("*"):
        assert not path.is_file() or b"aws-hush" not in path.read_bytes(), path


def test_a_recipe_that_holds_a_key_is_written_nowhere(here: Path) -> None:
    path = here / "r.toml"
    for line in ('judge.base_url = "http://me:hushhush@127.0.0.1/v1"', 'world.options.user_args.api_key = "hushhush"'):
        path.write_text(f'name = "r"\nout = "{here / "out"}"\n{line}\n')
        for verb in VERBS:
            result = rwml_(verb, str(path))
            assert (result.exit_code, "holds a key" in result.stderr) == (2, True)
            assert "hushhush" not in result.output
    assert not (here / "out").exists()
