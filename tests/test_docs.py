"""The shop window: links, commands, settings, figures and examples in README.md and docs/ are those of the code."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from rwml.cli import app
from rwml.core.recipe.recipe import Recipe, load_recipe, parse_recipe
from rwml.stages import VERBS
from rwml.stages.pipeline import shipped_recipes
from rwml.trees.objectives import finish_metrics

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
SECTIONS = [name for name, field in Recipe.model_fields.items() if hasattr(field.annotation, "model_fields")]
KEY = re.compile(rf"(?<![\w/.-])({'|'.join(SECTIONS)})\.([a-z_]+)\b(?!\()")
FILE_ENDINGS = {"csv", "html", "json", "jsonl", "md", "parquet", "png", "py", "tex", "toml"}
STAGE_PAGES = {
    "collect": "collect", "transitions": "transitions", "filter": "filter", "train_wm": "train-wm",
    "train_policy": "train-policy", "measure": "measures", "world": "worlds", "model": "models", "judge": "rewards",
    "reward_lab": "reward-lab", "compare": "compare",
}  # fmt: skip
TRAINER_FUNCTIONS = {"fit", "_update", "_one_update"}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[tuple[list[str], str]]:
    """Fenced blocks of a language: the words after it, and the text."""
    found = [(match["info"].split(), match["body"]) for match in FENCE.finditer(_text(name))]
    return [(info[1:], body) for info, body in found if info[:1] == [language]]


def _without(name: str, *languages: str) -> str:
    return FENCE.sub(lambda m: "" if m["info"].split()[:1] in [[x] for x in languages] else m[0], _text(name))


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", _text(name)))
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_no_figure_is_left_open() -> None:
    assert [name for name in NAMES if "TODO" in _text(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_repository_that_are_named_are_there(name: str) -> None:
    named = set(re.findall(r"\b((?:benchmarks|recipes|src/rwml)/[\w/.]+\.\w+)", _text(name)))
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("name", NAMES)
def test_verbs_and_targets_exist(name: str) -> None:
    code = re.findall(r"`([^`\n]+)`", FENCE.sub("", _text(name)))
    lines = [line for _, body in _blocks(name, "bash") for line in body.splitlines()]
    verbs = {found for text in (*code, *lines) for found in re.findall(r"\brwml ([a-z][a-z-]*)", text)}
    assert verbs <= set(_commands().commands)
    targets = {found for text in (*code, *lines) for found in re.findall(r"^make (\w+)", text)}
    assert targets <= set(re.findall(r"^(\w+):", _text("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse_and_their_overrides_hold(name: str) -> None:
    for _, body in _blocks(name, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["python"] and words[1].startswith("rwml_"):
                words = words[1:]
            if words and words[0].startswith("rwml"):
                _parse(words[1:])


def _parse(words: list[str]) -> None:
    """Read a command line as the program would, without running it."""
    command = _commands()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    options = command.make_context("rwml", list(words)).params
    recipe, overrides = options.get("recipe"), tuple(options.get("overrides") or ())
    if recipe in shipped_recipes():
        load_recipe(shipped_recipes()[recipe], overrides)
    elif recipe is not None:
        assert recipe.endswith(".toml")
    for stage in (options.get("until"), options.get("force")):
        assert not isinstance(stage, str) or stage in {verb.name for verb in VERBS}


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name: str) -> None:
    keys = {(section, key) for section, key in KEY.findall(_without(name, "python")) if key not in FILE_ENDINGS}
    known = {(s, key) for s in SECTIONS for key in Recipe.model_fields[s].annotation.model_fields}  # type: ignore[union-attr]
    assert keys - known == set()


@pytest.mark.parametrize(("section", "page"), STAGE_PAGES.items())
def test_every_setting_of_a_section_has_a_row_on_its_page(section: str, page: str) -> None:
    rows = [line.split("|")[1:4] for line in _text(f"docs/{page}.md").splitlines() if line.startswith(f"| `{section}.")]
    documented = [key for cells in rows for key in re.findall(rf"`{section}\.([a-z_]+)`", cells[0])]
    assert sorted(documented) == sorted(Recipe.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]


@pytest.mark.parametrize("section", ["collect", "transitions", "filter", "train_wm", "train_policy", "judge"])
def test_the_defaults_that_the_pages_give_are_those_of_the_code(section: str) -> None:
    defaults = getattr(Recipe(name="defaults"), section)
    for line in _text(f"docs/{STAGE_PAGES[section]}.md").splitlines():
        if not line.startswith(f"| `{section}."):
            continue
        keys = re.findall(rf"`{section}\.([a-z_]+)`", line.split("|")[1])
        said = [value.split(" (")[0].strip("` ") for value in line.split("|")[3].split(",")]
        for key, value in zip(keys, said, strict=True):
            default = getattr(defaults, key)
            if default is None:
                assert value.startswith("none:")
            elif isinstance(default, bool):
                assert value == str(default).lower()
            elif isinstance(default, str):
                assert value == default
            else:
                assert float(value) == default, key


def _literal_keys(path: str, functions: set[str] | None = None) -> set[str]:
    """Keys of the dictionaries written out in a source file (or in some of its functions), counts left out."""
    tree = ast.parse(_text(path))
    roots = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and (not functions or n.name in functions)]
    counts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute) and node.target.attr == "counts"
    }
    nodes = [n for root in roots for n in ast.walk(root) if isinstance(n, ast.Dict) and id(n) not in counts]
    keys = {key.value for node in nodes for key in node.keys if isinstance(key, ast.Constant)}
    assigned = {
        target.slice.value
        for root in roots
        for node in ast.walk(root)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)
    }
    return {key for key in keys | (assigned if functions else set()) if isinstance(key, str)}


@pytest.mark.parametrize("stage", ["train_wm", "train_policy"])
def test_every_metric_is_defined(stage: str) -> None:
    section = _text(f"docs/{STAGE_PAGES[stage]}.md").split("## Metrics")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
    sums = ("loss", "policy_tokens", "ce_tokens", "kl_sum", "ratio_sum", "clipped_sum", "policy_logp_sum", "ce_sum")
    figures = set(finish_metrics(dict.fromkeys((*sums, "ratio_max"), 1.0)))
    logged = _literal_keys("src/rwml/train/trainer.py", TRAINER_FUNCTIONS) - {"lr"}
    assert documented == figures | logged | _literal_keys(f"src/rwml/stages/{stage}.py")


@pytest.mark.parametrize("page", ["filter", "rewards"])
def test_the_grid_of_thresholds_is_the_one_in_use(page: str) -> None:
    from rwml.rewards.thresholds import TAU_D_GRID

    first, second, *_, last = (f"{value:.2f}" for value in TAU_D_GRID)
    assert f"{first}, {second}, ... {last}" in _text(f"docs/{page}.md")


def test_the_settings_of_the_tiny_model_are_all_there() -> None:
    from rwml.stages.tiny import TinyConfig

    rows = [line.split("|")[1] for line in _text("docs/tiny.md").split("## Settings")[1].splitlines() if "| `" in line]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(TinyConfig.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_toml_examples_are_recipes(name: str) -> None:
    for _, body in _blocks(name, "toml"):
        parse_recipe({"name": "example"} | tomllib.loads(body))


def _write_examples(name: str, folder: Path) -> Path:
    """`python run FILE` blocks become files, `python run` blocks together one script, in their order."""
    script = []
    for words, body in _blocks(name, "python"):
        if words[:1] == ["run"]:
            if len(words) > 1:
                (folder / words[1]).write_text(body, encoding="utf-8")
            else:
                script.append(body)
    path = folder / "page.py"
    path.write_text("\n".join(script), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if any(w[:1] == ["run"] for w, _ in _blocks(name, "python"))])
def test_python_examples_run(name: str, tmp_path: Path) -> None:
    script = _write_examples(name, tmp_path)
    done = subprocess.run([sys.executable, script.name], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_example_world_works_from_the_command_line(tmp_path: Path) -> None:
    _write_examples("docs/worlds.md", tmp_path)
    command = [sys.executable, "rwml_boxes.py", "worlds", "play", "boxes", "--task", "2"]
    typed = "".join(f"open box {number}\n" for number in range(1, 7))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, input=typed)
    assert "Solved after" in done.stdout, done.stderr


def test_other_python_examples_are_python() -> None:
    for name in NAMES:
        for words, body in _blocks(name, "python"):
            assert words[:1] in ([], ["run"])
            ast.parse(body)
