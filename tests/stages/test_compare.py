"""A whole comparison of a small recipe: what is shared, examined once, continued, and written."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, load_recipe, parse_recipe, recipe_toml
from rwml.core.records import read_json
from rwml.measure.compare.arm_evaluations import ArmEvaluations
from rwml.measure.compare.open_arms import open_arm
from rwml.measure.compare.paper_table import PAPER
from rwml.stages import compare
from rwml.stages.pipeline import find_recipe, recipe_named

pytestmark = pytest.mark.slow  # a comparison is many pipelines

ARMS: list[dict[str, Any]] = [
    {"name": "base", "label": "Base model", "paper": "base"},
    {"name": "wm_sft", "label": "WM SFT", "paper": "wm_sft", "stages": ["train_wm"], "set": {"train_wm.method": "sft"}},
    {"name": "policy_rl", "stages": ["train_policy"], "set": {"train_policy.start": "model"}, "paper": "policy_rl"},
    {
        "name": "both", "label": "SFT + policy", "paper": "rwml_policy", "stages": ["train_wm", "train_policy"],
        "set": {"train_wm.method": "sft"}, "against": ["policy_rl"],
    },
    {
        "name": "equal", "group": "more", "enabled": False, "stages": ["train_policy"], "compute": "both",
        "set": {"train_policy.start": "model"},
    },
]  # fmt: skip
STAMPS = ("seconds", "_s", "memory_mb")


@pytest.fixture(scope="module")
def made(mini: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(folder: Path, arms: list[dict[str, Any]] = ARMS, seeds: tuple[int, ...] = (0, 1)) -> Recipe:
        small = {"train_wm": {"max_steps": 2}, "train_policy": {"steps": 2, "tasks_per_step": 2}}
        data = mini(folder, **small, evaluate={"num_transitions": 4}).model_dump(mode="json")
        return parse_recipe(data | {"compare": {"seeds": list(seeds), "arms": arms, "num_examples": 2}})

    return make


@pytest.fixture(scope="module")
def done(made: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The four enabled arms over two seeds, run through."""
    recipe = made(tmp_path_factory.mktemp("compare") / "run")
    page = compare.run(recipe)
    assert page == recipe.folder / "compare.html"
    return recipe


@pytest.fixture(scope="module")
def figures(done: Recipe) -> dict[str, Any]:
    return dict(read_json(done.folder / "compare.json"))


def stages(recipe: Recipe, seed: int, arm: str) -> dict[str, Any]:
    return dict(read_json(recipe.folder / f"s{seed}" / arm / "manifest.json")["stages"])


def test_each_stage_is_done_once_and_taken_over_where_it_is_the_same(done: Recipe) -> None:
    for seed in (0, 1):
        adopted = {
            arm: {name: record.get("adopted_from", "") for name, record in stages(done, seed, arm).items()}
            for arm in ("base", "wm_sft", "policy_rl", "both")
        }
        base = {"collect": "../base", "transitions": "../base"}
        assert adopted == {
            "base": {"collect": "", "transitions": ""},
            "wm_sft": base | {"filter": "", "train_wm": ""},
            "policy_rl": {"train_policy": ""},
            "both": base | {"filter": "../wm_sft", "train_wm": "../wm_sft", "train_policy": ""},
        }
        first, second = (done.folder / f"s{seed}" / arm / "world_model/final" for arm in ("wm_sft", "both"))
        weights = [folder / "model.safetensors" for folder in (first, second)]
        assert weights[0].stat().st_ino == weights[1].stat().st_ino


def test_seeds_are_different_runs_of_the_same_games(done: Recipe) -> None:
    exams = [ArmEvaluations(done, seed) for seed in (0, 1)]
    assert exams[0].items.tasks == exams[1].items.tasks
    assert [row.id for row in exams[0].items.rows] != [] != exams[1].items.rows
    weights = [done.folder / f"s{seed}/policy_rl/policy/final/model.safetensors" for seed in (0, 1)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    assert exams[0].base.recipe.seed == 0 != exams[1].base.recipe.seed


def test_a_second_run_changes_nothing_but_the_report(done: Recipe) -> None:
    skip = {"compare.html", "compare.md", "compare.csv", "compare.tex", "compare.json", "compare.png"}
    parts = [
        p for p in sorted(done.folder.rglob("*")) if p.is_file() and p.name not in skip | {".lock", "manifest.json"}
    ]
    kept = [p for p in parts if not {"baselines", "cache"} & set(p.parts) and p.name != "recipe.json"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    with pytest.raises(RwmlError, match="is the folder of a comparison"):
        recipe_named(str(done.folder))
    before_md = (done.folder / "compare.md").read_text()
    compare.run(done)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert (done.folder / "compare.md").read_text() == before_md


HOLDER = """
import sys
from pathlib import Path
from rwml.core.run_folder.claim import lock, own
own(Path(sys.argv[1]).parent)
lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_seeds_are_run_by_different_processes(
    made: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A seed belongs to one process, another to another; the report waits for both."""
    recipe = made(tmp_path / "run", ARMS[:1])
    command = [sys.executable, "-c", HOLDER, str(recipe.folder / "s1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert compare.run(recipe, seeds=[0]) is None
        assert "no report yet: another process" in capsys.readouterr().err
        with pytest.raises(RwmlError, match=f"another process .id {other.pid}. is working in '.*s1'"):
            compare.run(recipe, seeds=[1])
        other.communicate("")
    assert compare.run(recipe) == recipe.folder / "compare.html"
    assert read_json(recipe.folder / "compare.json")["arms"]["base"]["seeds"] == [0, 1]


def test_the_figures_are_those_of_the_records(done: Recipe, figures: dict[str, Any]) -> None:
    from rwml.core.records import read_records
    from rwml.core.types import Episode

    for arm in ("base", "both"):
        by_seed = {}
        for seed in (0, 1):
            paths = sorted((done.folder / f"s{seed}" / "evaluation" / arm).glob("episodes-*/*.parquet"))
            by_seed[str(seed)] = float(np.mean([e.success for path in paths for e in read_records(path, Episode)]))
        whole = figures["arms"][arm]["success"]["all"]["success"]
        assert whole["by_seed"] == pytest.approx(by_seed)
        assert whole["mean"] == pytest.approx(np.mean(list(by_seed.values())))
        assert whole["n"] == 2 * 2 * 2  # seeds, splits, tasks
    rows = [(c["arm"], c["against"], c["measure"]) for c in figures["contrasts"]]
    assert rows == [
        (arm, against, measure)
        for arm, against in [("wm_sft", "base"), ("policy_rl", "base"), ("both", "base"), ("both", "policy_rl")]
        for measure in ("success", "within")
    ]
    assert all(c["splits"]["all"]["unpaired"] == 0 for c in figures["contrasts"])
    assert {"copy_last", "most_frequent"} == set(figures["baselines"])
    assert figures["arms"]["equal"]["missing"] == {"0": "not run", "1": "not run"}


def test_costs_count_what_an_arm_needs(done: Recipe, figures: dict[str, Any]) -> None:
    costs = {arm: figures["arms"][arm]["cost"] for arm in ("base", "policy_rl", "both")}
    assert costs["base"] == {}
    assert list(costs["policy_rl"]["by_stage"]) == ["train_policy"]
    assert set(costs["both"]["by_stage"]) == {"collect", "transitions", "filter", "train_wm", "train_policy"}
    log = [json.loads(line) for line in (done.folder / "s0/policy_rl/metrics.jsonl").read_text().splitlines()]
    of_seed = figures["arms"]["policy_rl"]["costs"]["0"]["train_policy"]
    assert of_seed["sampled"] == sum(row["sampled_tokens"] for row in log) > 0
    assert of_seed["trained"] == sum(row["tokens"] for row in log)
    assert of_seed["steps"] == 2
    # Sampled while collecting: every step's text, with its stop token.
    assert figures["arms"]["both"]["costs"]["0"]["collect"]["sampled"] > 0
    total = sum(stage["sampled"] + stage["trained"] for stage in costs["both"]["by_stage"].values())
    assert costs["both"]["tokens"] == pytest.approx(total)


def test_the_weights_that_changed(done: Recipe, figures: dict[str, Any]) -> None:
    from rwml.measure.weight_change import measure_weight_change

    changed = figures["arms"]["both"]["weight_change"]
    final = done.folder / "s1/both/policy/final"
    assert changed["all"]["by_seed"]["1"] == measure_weight_change(done.model.path, final)["share"]
    assert changed["all"]["mean"] == pytest.approx(np.mean(list(changed["all"]["by_seed"].values())))
    assert figures["arms"]["base"]["weight_change"] == {}


def test_an_arm_may_spend_what_another_costs(done: Recipe, figures: dict[str, Any]) -> None:
    cost = figures["arms"]["both"]["costs"]["0"]
    tokens = {stage: each["sampled"] + each["trained"] for stage, each in cost.items()}
    run = open_arm(done, done.compare.arm("equal"), 0)
    assert run.recipe.train_policy.steps == int(np.ceil(sum(tokens.values()) / (tokens["train_policy"] / 2)))
    assert run.recipe.train_policy.steps > 2


def test_the_report_in_every_form(done: Recipe, figures: dict[str, Any]) -> None:
    folder = done.folder
    whole = figures["arms"]["both"]["success"]["all"]["success"]
    cell = f"{100 * whole['mean']:.1f} ± {100 * whole['sd']:.1f}"
    text = (folder / "compare.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| SFT + policy | 2 |")]
    assert cell in row
    assert row.endswith("| 86.7 | 90.1 | 87.9 |")
    assert "arXiv 2602.05842" in text
    table = {
        (r["arm"], r["part"], r["split"], r["measure"]): r
        for r in csv.DictReader(io.StringIO((folder / "compare.csv").read_text()))
    }
    line = table["both", "success", "all", "success"]
    assert float(line["mean"]) == pytest.approx(whole["mean"], abs=1e-5)
    assert (line["paper_percent"], line["n"], line["seeds"]) == ("87.9", "8", "2")
    tex = (folder / "compare.tex").read_text()
    assert tex.count("\\begin{tabular}") == tex.count("\\end{tabular}") == 1
    lines = [line for line in tex.splitlines() if line.endswith("\\\\")]
    assert {line.count("&") for line in lines} == {9}
    assert not re.search(r"(?<!\\)[%_](?!.*needs)", "\n".join(lines).replace(r"\tau_d", ""))

    page = (folder / "compare.html").read_text()
    assert f'<td class="n">{cell}</td>' in page
    assert "http://" not in page.replace("http://localhost", "")
    assert "<script" not in page

    class Depth(HTMLParser):
        depth = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.depth += tag in ("table", "div", "section", "ul", "details", "figure", "tr")

        def handle_endtag(self, tag: str) -> None:
            self.depth -= tag in ("table", "div", "section", "ul", "details", "figure", "tr")

    parser = Depth()
    parser.feed(page)
    assert parser.depth == 0


@pytest.mark.timeout(300)
def test_a_killed_comparison_continues_and_ends_as_an_undisturbed_one(
    made: Callable[..., Recipe], done: Recipe, figures: dict[str, Any], tmp_path: Path
) -> None:
    recipe = made(tmp_path / "run")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe.model_dump(mode="json")))
    script = (
        "import os, signal, sys\n"
        "from rwml.core.recipe.recipe import load_recipe\nfrom rwml.stages import compare\n"
        "part, number, seen = sys.argv[2], int(sys.argv[3]), 0\n"
        "def hook(event, arguments):\n"
        "    global seen\n"
        "    if event == 'os.rename' and part in str(arguments[0]):\n"
        "        seen += 1\n"
        "        if seen == number:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "compare.run(load_recipe(sys.argv[1]))\n"
    )
    # In the first stage, in training, in the middle of taking a checkpoint over, and in an examination.
    for part, number in (("s0/base/episodes", 2), ("s0/both/.world_model", 1), ("s1/evaluation/policy_rl", 2)):
        command = [sys.executable, "-c", script, str(path), part, str(number)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == -9, killed.stderr[-2000:]
    compare.run(load_recipe(path))
    again = dict(read_json(recipe.folder / "compare.json"))
    assert plain(again) == plain(figures)


def plain(value: Any) -> Any:
    """Figures without times and memory, and without the folder's name."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not k.endswith(STAMPS) and k != "out"}
    return [plain(v) for v in value] if isinstance(value, list) else value


def test_two_processes_do_what_one_does(made: Callable[..., Recipe], tmp_path: Path) -> None:
    arms = ARMS[:1]
    alone, parallel = made(tmp_path / "one", arms), made(tmp_path / "two", arms)
    compare.run(alone)
    compare.run(parallel, jobs=2)
    assert plain(read_json(alone.folder / "compare.json")) == plain(read_json(parallel.folder / "compare.json"))
    assert "== seed 1, base" in (parallel.folder / "s1" / "log.txt").read_text()


def test_a_changed_arm_is_not_shown_as_it_was(made: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = made(tmp_path / "run", ARMS[:2], (0,))
    compare.run(recipe)
    changed = [ARMS[0], {**ARMS[1], "set": {"train_wm.method": "sft", "train_wm.learning_rate": 1e-4}}]
    other = made(tmp_path / "run", changed, (0,))
    compare.run(other, ["base"])
    shown = read_json(other.folder / "compare.json")
    assert shown["arms"]["wm_sft"]["missing"] == {"0": "train_wm is not done"}
    assert shown["arms"]["wm_sft"]["success"] == {}
    assert shown["contrasts"] == []
    assert "- train_wm is not done: WM SFT\n" in (other.folder / "compare.md").read_text()


def test_until_stops_before_the_examination(made: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = made(tmp_path / "run", seeds=(0,))
    assert compare.run(recipe, ["base"], until="collect") is None
    assert list(stages(recipe, 0, "base")) == ["collect"]
    assert not (recipe.folder / "s0" / "evaluation").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"compare": {}}, "no [[compare.arms]]"),
        ({"train_wm": {}}, "neither evaluate.tau_d nor train_wm.tau_d"),
        ({"compare": {"arms": [{"name": "base", "paper": "bse"}]}}, "the paper has no row 'bse'"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_runs(
    made: Callable[..., Recipe], tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    data = made(tmp_path / "run").model_dump(mode="json") | change
    with pytest.raises(RwmlError) as caught:
        compare.run(parse_recipe(data))
    assert what in caught.value.what
    assert not (tmp_path / "run").exists()


def test_the_shipped_comparison() -> None:
    recipe = load_recipe(find_recipe("compare_alfworld"))
    names = [arm.name for arm in recipe.compare.chosen()]
    assert names == ["base", "wm_sft", "rwml", "policy_rl", "wm_sft_policy", "rwml_policy"]
    assert len(recipe.compare.seeds) == 3
    assert {arm.paper for arm in recipe.compare.arms} - {""} == set(PAPER)
    off = {arm.name for arm in recipe.compare.arms if not arm.enabled}
    assert off == {
        "rft", "imitation", "iwm", "sr", "echo", "tapo", "no_filter", "continuous", "exact", "f1", "named",
        "named_policy", "judge", "judge_graded", "spin", "policy_rl_equal",
    }  # fmt: skip
    compare._check(recipe, [])
