"""`rwml reward` on a small recipe: its figures are those of the parts, and it leaves the run as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rwml.cli import app
from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import JUDGE_REWARDS
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.loading import load_embedder, load_world
from rwml.measure.edits import HARMLESS
from rwml.reports.reward_page import outcome
from rwml.rewards.rewards import KindReward
from rwml.stages import reward_lab as reward
from rwml.stages.pipeline import run_all
from rwml.train.drift import DriftWatch, cheat_share
from rwml.world_models.baselines import MostFrequent

WITHOUT_JUDGE = ("embedding", "continuous", "named", "exact", "rouge", "f1")

pytestmark = pytest.mark.slow  # runs whole pipelines

SMALL: dict[str, Any] = {"num_tasks": 8, "num_transitions": 24, "num_states": 12, "tau_d": [0.1, 0.4]}


OWN: dict[str, dict[str, Any]] = {"reward_lab": SMALL, "train_wm": {"tau_d": None}}


@pytest.fixture(scope="module")
def filtered(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose run is done up to and with the filter, which chose tau_d."""
    recipe = mini(tmp_path_factory.mktemp("filtered"), **OWN)
    run_all(Run.open(recipe), until="filter")
    return recipe


@pytest.fixture(scope="module")
def lab(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict[str, Any]]:
    """A recipe of which nothing has run, and what the lab found."""
    recipe = mini(tmp_path_factory.mktemp("lab"), reward_lab=SMALL, train_wm={"tau_d": 0.2}, world={"max_steps": 8})
    return recipe, reward.run(recipe)


def test_files_and_source(lab: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, figures = lab
    assert {path.name for path in recipe.folder.iterdir()} == {
        "reward_lab.json", "reward_lab.md", "reward_lab.png", "cache", "manifest.json", ".lock",
    }  # fmt: skip
    assert json.loads((recipe.folder / "reward_lab.json").read_text()) == json.loads(json.dumps(figures))
    assert figures["source"] == "played by 'noisy'"
    assert (figures["tau_d"], figures["tau_source"]) == (0.2, "train_wm.tau_d")
    assert [row["tau_d"] for row in figures["thresholds"]["passes"]] == [0.1, 0.2, 0.4]
    assert figures["skipped"] == list(JUDGE_REWARDS)
    assert list(figures["rewards"]) == list(WITHOUT_JUDGE)
    with_tau = {name for name, found in figures["rewards"].items() if found["has_tau"]}
    assert with_tau == {"embedding", "named"}
    page = (recipe.folder / "reward_lab.md").read_text()
    shown = outcome(figures, recipe.folder)
    for words in ("embedding", "will describe", "same action elsewhere", "Not asked: judge, judge_graded"):
        assert words in page
        assert words in shown


def test_the_transitions_come_from_the_policy_that_collects(
    mini: Callable[..., Recipe], tmp_path: Path, install: Callable[..., None]
) -> None:
    lines = (
        "from rwml.playing.policies import ActionsPolicy",
        "class Looks(ActionsPolicy):",
        "    def __init__(self, materials):",
        "        super().__init__(('look',))",
    )
    install("lab_player", "\n".join(lines))
    allow(code=["lab_player:Looks"])
    recipe = mini(tmp_path / "run", reward_lab=SMALL, collect={"policy": "lab_player:Looks"})
    rows, of = reward.lab_rows(recipe, load_world(recipe))
    assert (of, {row.action for row in rows}) == ("played by 'lab_player:Looks'", {"look"})


def test_pairs_pass_more_often_with_a_larger_threshold(lab: tuple[Recipe, dict[str, Any]]) -> None:
    passes = [row["pass"] for row in lab[1]["thresholds"]["passes"]]
    kinds = lab[1]["rewards"]["embedding"]["kinds"]
    assert set(kinds) == set(passes[0])
    for kind, found in kinds.items():
        shares = [row[kind] for row in passes]
        assert shares == sorted(shares)
        assert found["reward"] == pytest.approx(passes[1][kind])
        assert found["right"] == (kind in HARMLESS)
        assert sum(found["histogram"]) == found["n"]
    assert (kinds["white space"]["percentiles"]["p100"], kinds["white space"]["reward"]) == (0.0, 1.0)
    for found in lab[1]["rewards"].values():
        assert found["kinds"]["white space"]["reward"] == 1.0


def test_a_cheat_earns_what_the_reward_says(lab: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, figures = lab
    rows, _ = reward.lab_rows(recipe, load_world(recipe))
    assert len(rows) == figures["transitions"]
    # The questions are drawn from these rows; asked all of them, the shares agree roughly, and the extremes exactly.
    cheats = {name: {(r["name"], r["at"]): r for r in found["rewards"]} for name, found in figures["cheats"].items()}
    for found in cheats["empty"].values():
        assert (found["right"], found["reward"], found["unearned"]) == (0.0, 0.0, 0.0)
    for name, found in cheats.items():
        taus = [found["embedding", tau]["unearned"] for tau in (0.1, 0.2, 0.4)]
        assert taus == sorted(taus), name
        assert found["exact", None]["unearned"] == 0.0
        assert found["exact", None]["reward"] == pytest.approx(found["exact", None]["right"])
        assert found["named", 0.4]["reward"] <= found["embedding", 0.4]["reward"]
        assert found["continuous", None]["unearned"] >= 0.0
    assert cheats["will describe"]["embedding", 0.4]["unearned"] > 0.2 > cheats["generic"]["embedding", 0.4]["unearned"]
    most = MostFrequent(rows)
    right = np.mean([same_text(most.next_state(row.query), row.next_state) for row in rows])
    assert cheats["most frequent of the verb"]["exact", None]["right"] == pytest.approx(right, abs=0.25)


def test_the_answers_are_scored_like_any_other(lab: tuple[Recipe, dict[str, Any]], mini: Callable[..., Recipe]) -> None:
    recipe, _ = lab
    everything = recipe.model_copy(
        update={"reward_lab": recipe.reward_lab.model_copy(update={"num_transitions": 10**6, "num_states": 2})}
    )
    figures = reward.run(everything)
    rows, _ = reward.lab_rows(recipe, load_world(recipe))
    assert figures["questions"] == len(rows)
    embedder = load_embedder(recipe.embedding, recipe.folder / "cache")
    score = KindReward("embedding", lambda: embedder, 0.4).score
    answers = [row.history[-1] if row.history else row.opening for row in rows]
    _, rewards_N = score(answers, rows)
    wrong = [not same_text(answer, row.next_state) for answer, row in zip(answers, rows, strict=True)]
    (found,) = [
        row
        for row in figures["cheats"]["copied observation"]["rewards"]
        if (row["name"], row["at"]) == ("embedding", 0.4)
    ]
    assert found["reward"] == pytest.approx(float(rewards_N.mean()))
    assert found["unearned"] == pytest.approx(float(rewards_N[wrong].mean()))


def test_the_run_s_own_transitions_come_first(filtered: Recipe) -> None:
    folder = filtered.folder
    before = (folder / "manifest.json").read_bytes()
    figures = reward.run(filtered)
    rows = read_records(folder / "transitions.parquet", Transition)
    assert (figures["source"], figures["transitions"]) == ("of the run", len(rows))
    chosen = json.loads((folder / "filter.json").read_text())
    assert (figures["tau_d"], figures["tau_source"]) == (chosen["training_tau_d"], "the rule, from filter.json")
    assert figures["rule"]["filter"]["data_tau_d"] == chosen["tau_d"]
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("setting", ["embedding.prefix=query: ", "filter.target_share=0.5", "train_wm.reward=named"])
def test_a_filter_of_other_settings_chooses_nothing(filtered: Recipe, setting: str) -> None:
    figures = reward.run(filtered.overridden((setting,)))
    assert (figures["source"], figures["tau_source"]) == ("of the run", "the rule, from most_frequent")
    assert "filter" not in figures["rule"]


@pytest.mark.parametrize("setting", ["world.max_steps=7", "seed=7", "model.max_context_tokens=380"])
def test_transitions_of_other_settings_are_not_the_run_s(filtered: Recipe, setting: str) -> None:
    other = filtered.overridden((setting,))
    assert reward.lab_rows(other, load_world(other))[1] == "played by 'noisy'"
    assert reward.lab_rows(filtered, load_world(filtered))[1] == "of the run"


def test_a_run_that_was_opened_under_other_settings_has_nothing_yet(filtered: Recipe, tmp_path: Path) -> None:
    """Its recipe.json is new, and the files beside it are those of before."""
    folder = tmp_path / "copy"
    shutil.copytree(filtered.folder, folder, ignore=shutil.ignore_patterns(".lock"))
    other = filtered.overridden((f"out={folder}", "collect.rollouts_per_task=3"))
    Run.open(other)
    figures = reward.run(other)
    assert (figures["source"], figures["tau_source"]) == ("played by 'noisy'", "the rule, from most_frequent")


def test_training_logs_the_share_of_cheats(
    mini: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    share = DriftWatch.share

    def listen(self: DriftWatch, answers: Any, rows: Any) -> float:
        heard.append(cheat_share(answers, rows))
        return share(self, answers, rows)

    monkeypatch.setattr(DriftWatch, "share", listen)
    run = Run.open(mini(tmp_path, filter={"enabled": False}, train_wm={"max_steps": 2}))
    run_all(run, until="train_wm")
    logged = [line["cheat_share"] for line in run.metrics.read() if line["stage"] == "train_wm"]
    assert logged == heard
    assert len(logged) == 2


def test_a_judge_is_asked_about_some(mini: Callable[..., Recipe], tmp_path: Path, chat_server: Any) -> None:
    chat_server.answer = lambda messages: json.dumps({"score": int("will describe" in messages[-1]["content"])})
    settings = SMALL | {"num_judged": 2, "num_states": 3}
    judge = {"base_url": chat_server.url, "model": "a-judge"}
    recipe = mini(tmp_path, reward_lab=settings, judge=judge, train_wm={"reward": {"text": "named"}, "tau_d": 0.1})
    figures = reward.run(recipe)
    assert figures["skipped"] == []
    assert list(figures["rewards"]) == [*WITHOUT_JUDGE, *JUDGE_REWARDS, "this recipe"]
    # Fooled by the very words that fooled the paper's; what is wrong otherwise earns nothing.
    paid = {
        name: [row["unearned"] for row in found["rewards"] if row["name"] == "judge"]
        for name, found in figures["cheats"].items()
    }
    assert paid["will describe"] == [1.0]
    assert paid["generic"] == paid["copied observation"] == [0.0]
    assert max(found["n"] for found in figures["rewards"]["judge"]["kinds"].values()) == 2
    assert figures["rewards"]["this recipe"] == figures["rewards"]["named"]


def test_a_world_that_nobody_can_play(mini: Callable[..., Recipe], tmp_path: Path) -> None:
    data = mini(tmp_path).model_dump(mode="json")
    recipe = Recipe.model_validate(data | {"world": {"name": "chat"}})
    with pytest.raises(RwmlError, match="no built-in policy") as error:
        reward.run(recipe)
    assert "collect.episodes" in error.value.fix


def test_the_command_shows_the_tables(tmp_path: Path) -> None:
    settings = ["reward_lab.num_tasks=2", "reward_lab.num_transitions=4", "reward_lab.num_states=2"]
    done = CliRunner().invoke(
        app, ["reward", "quickstart", f"out={tmp_path}/{{name}}", *settings], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "| unrelated" in done.stdout
    assert "| echoed action" in done.stdout
    assert (tmp_path / "quickstart" / "reward_lab.md").is_file()


def test_the_lab_is_one_writer_and_reads_what_was_recorded(filtered: Recipe, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filtered.folder, copy, ignore=shutil.ignore_patterns(".lock", "reward_lab.*"))
    moved = filtered.model_copy(update={"out": str(copy)})
    code = (
        "import sys; from rwml.core.run_folder.claim import claim; from pathlib import Path; "
        "claim(Path(sys.argv[1])); print(); input()"
    )
    holding = [sys.executable, "-c", code, str(copy)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RwmlError, match=f"another process .id {other.pid}. is working in"):
            reward.run(moved)
        other.communicate(b"\n")
    data = bytearray((copy / "transitions.parquet").read_bytes())
    data[40] ^= 4
    (copy / "transitions.parquet").write_bytes(data)
    with pytest.raises(RwmlError, match=r"transitions\.parquet' is damaged: it is not what the stage transitions"):
        reward.run(moved)
    assert not (copy / "reward_lab.json").exists()
