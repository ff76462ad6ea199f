"""The shop window: links, commands, settings, figures and examples in README.md and docs/ are those of the code."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from rwml.cli import app
from rwml.core import types
from rwml.core.metric_names import METRICS, TRANSITION_UPDATE
from rwml.core.recipe.recipe import Recipe, load_recipe, parse_recipe
from rwml.core.records import SCHEMA_VERSIONS, schema
from rwml.stages import VERBS
from rwml.stages.pipeline import shipped_recipes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^ *```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
SECTIONS = [name for name, field in Recipe.model_fields.items() if hasattr(field.annotation, "model_fields")]
KEY = re.compile(rf"(?<![\w/.-])((?:{'|'.join(SECTIONS)})\.[a-z_]+)\b(?!\()")
FILE_ENDINGS = {"csv", "html", "json", "jsonl", "md", "parquet", "png", "py", "tex", "toml"}
SHELVES = ("tutorial", "howto", "concepts", "reference", "results")
WITHOUT_PAGE = {"summary": "run"}
"""Verbs that share the page of another."""


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[tuple[list[str], str]]:
    """Fenced blocks of a language: the words after it, and the text."""
    blocks = [(match["info"].split(), textwrap.dedent(match["body"])) for match in FENCE.finditer(_text(name))]
    return [(info[1:], body) for info, body in blocks if info[:1] == [language]]


def _without(name: str, *languages: str) -> str:
    return FENCE.sub(lambda m: "" if m["info"].split()[:1] in [[x] for x in languages] else m[0], _text(name))


def _links(name: str) -> list[str]:
    """Targets of a page's links and pictures within the repository, with their anchors."""
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", _text(name)))
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def _anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


@cache
def _config_page() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "config_page.py"))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    broken = []
    for link in _links(name):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set[Path](), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        links = (link.split("#")[0] for link in _links(page.relative_to(ROOT).as_posix()))
        waiting += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - reached == set()


def test_every_page_stands_on_a_shelf() -> None:
    assert {path.parent.name for path in (ROOT / "docs").rglob("*.md")} - {"docs"} == set(SHELVES)
    assert [path.name for path in (ROOT / "docs").glob("*.md")] == ["index.md"]


def test_every_verb_has_a_page_of_its_name() -> None:
    hidden = {name for name, command in _commands().commands.items() if command.hidden}
    verbs = {WITHOUT_PAGE.get(name, name) for name in _commands().commands if name not in hidden}
    assert {verb for verb in verbs if not (ROOT / "docs" / "reference" / f"{verb}.md").exists()} == set()
    for verb in verbs:
        assert f"rwml {verb}" in _text(f"docs/reference/{verb}.md").splitlines()[0]


def test_no_figure_is_left_open() -> None:
    assert [name for name in NAMES if "TODO" in _text(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_repository_that_are_named_are_there(name: str) -> None:
    named = set(re.findall(r"\b((?:benchmarks|recipes|examples|src/rwml)/[\w/.]+\.\w+)", _text(name)))
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_pages_that_the_repository_names_are_there() -> None:
    folders = ("src", "recipes", "benchmarks", "examples", "tests")
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in {".py", ".toml", ".jinja"}]
    files += [ROOT / "pyproject.toml", ROOT / "Makefile"]
    named = {
        (path, page) for path in files for page in re.findall(r"\bdocs/[\w./-]+\.(?:md|png)", path.read_text("utf-8"))
    }
    assert {(path.name, page) for path, page in named if not (ROOT / page).exists()} == set()


@pytest.mark.parametrize("name", NAMES)
def test_verbs_and_targets_exist(name: str) -> None:
    code = re.findall(r"`([^`\n]+)`", FENCE.sub("", _text(name)))
    lines = [line for _, body in _blocks(name, "bash") for line in body.splitlines()]
    verbs = {verb for text in (*code, *lines) for verb in re.findall(r"\brwml ([a-z][a-z-]*)", text)}
    assert verbs <= set(_commands().commands)
    targets = {target for text in (*code, *lines) for target in re.findall(r"^make (\w+)", text)}
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
        assert recipe.endswith(".toml") or recipe.startswith("runs/")  # a file, or a run folder
    for stage in (options.get("until"), options.get("force")):
        assert not isinstance(stage, str) or stage in {verb.name for verb in VERBS}


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name: str) -> None:
    named = {key for key in KEY.findall(_without(name, "python")) if key.split(".")[1] not in FILE_ENDINGS}
    known = {".".join(key.split(".")[:2]) for key, _ in _config_page()["keys"](Recipe)}
    assert named - known == set()


def test_every_setting_has_one_row_on_one_page() -> None:
    config = _config_page()
    rows, keys = config["documented"](), {key for key, _ in config["keys"](Recipe)} - set(config["TOP_KEYS"])
    assert keys - set(rows) == set()
    assert {key: [page for page, _ in where] for key, where in rows.items() if len(where) > 1 or key not in keys} == {}


def test_the_page_of_keys_is_the_one_that_its_script_makes() -> None:
    assert _text("docs/reference/config.md") == _config_page()["page"](), "run python docs/config_page.py"


def test_the_defaults_that_the_pages_give_are_those_of_the_code() -> None:
    config = _config_page()
    defaults = dict(config["keys"](Recipe))
    wrong = {
        key: (row["default"], defaults[key])
        for key, where in config["documented"]().items()
        for _, row in where
        if not _is_default(row["default"], defaults[key])
    }
    assert wrong == {}


def _is_default(words: str, value: Any) -> bool:
    """Whether the words of a cell give the value: `none: why`, (empty), all (of a count), true, a list of values."""
    if value is None or value == "" or value == () or value == {}:
        return words == "all" or words.startswith(("none", "(none)", "(empty)", "empty"))
    first = words.split(" (")[0]
    if isinstance(value, tuple):
        parts = first.split(", ")
        return len(parts) == len(value) and all(map(_is_default, parts, value))
    if isinstance(value, bool):
        return first == str(value).lower()
    return first.strip("`") == value if isinstance(value, str) else float(first) == value


@pytest.mark.parametrize("stage", ["train_wm", "train_policy"])
def test_every_metric_is_defined(stage: str) -> None:
    section = _text(f"docs/reference/{stage.replace('_', '-')}.md").split("## Metrics")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for cell in cells for name in re.findall(r"`([\w*]+)`", cell)}
    prefix = f"{TRANSITION_UPDATE}_"
    assert documented - {f"{prefix}*"} == {name for name in METRICS[stage] if not name.startswith(prefix)}
    assert (f"{prefix}*" in documented) == any(name.startswith(prefix) for name in METRICS[stage])


@pytest.mark.parametrize("record", SCHEMA_VERSIONS)
def test_the_columns_of_a_record_are_those_of_its_files(record: str) -> None:
    table = _text("docs/reference/data.md").split(f"\n`{record}`")[1].split("\n\n")[1]
    columns = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert columns and sorted(columns) == sorted(schema(getattr(types, record)).names)


@pytest.mark.parametrize("page", ["reference/filter", "concepts/rewards"])
def test_the_grid_of_thresholds_is_the_one_in_use(page: str) -> None:
    from rwml.rewards.thresholds import TAU_D_GRID

    first, second, *_, last = (f"{value:.2f}" for value in TAU_D_GRID)
    assert f"{first}, {second}, ... {last}" in _text(f"docs/{page}.md")


def test_the_settings_of_the_tiny_model_are_all_there() -> None:
    from rwml.stages.tiny import TinyConfig

    table = _text("docs/reference/tiny.md").split("## Settings")[1]
    rows = [line.split("|")[1] for line in table.splitlines() if "| `" in line]
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


@pytest.mark.slow
def test_the_world_of_the_tutorial_works_from_the_command_line(tmp_path: Path) -> None:
    _write_examples("docs/tutorial/own_world.md", tmp_path)
    command = [sys.executable, "-m", "rwml.cli", "worlds"]
    typed = "".join(f"open box {number}\n" for number in range(1, 7))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        whole = [*command, *words]
        return subprocess.run(whole, capture_output=True, text=True, check=False, cwd=tmp_path, input=typed)

    checked = run("check", "boxes:Boxes")
    assert checked.returncode == 0 and "no violations" in checked.stdout, checked.stderr
    played = run("play", "boxes:Boxes", "--task", "2")
    assert "Solved after" in played.stdout, played.stderr


def test_other_python_examples_are_python() -> None:
    for name in NAMES:
        for words, body in _blocks(name, "python"):
            assert words[:1] in ([], ["run"])
            ast.parse(body)
