"""The house rules that a program can check: imports go down, files and functions stay short, libraries stay put."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rwml"
FLOORS = {
    "core": 0,
    "trees": 1,
    "worlds": 1,
    "models": 1,
    "world_models": 2,
    "rewards": 2,
    "play": 3,
    "exchange": 3,
    "train": 4,
    "loading": 4,
    "measure": 5,
    "reports": 6,
    "stages": 7,
    "cli": 8,
}
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted(p for folder in ("src", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))

# Each is named in one file, so that replacing it is a matter of that file.
ONE_FILE = {
    "jinja2": "reports/page.py",
    "matplotlib": "reports/plots.py",
    "peft": "loading.py",
    "pyarrow": "core/records.py",
    "rich": "core/progress.py",
    "sentence_transformers": "models/embedding/embedder.py",
    "typer": "cli.py",
}
CORE_LIBRARIES = {"numpy", "torch", "pydantic"}
WM_STEP = (
    "stages/train_wm.py",
    "train/trainer.py",
    "rewards/rewards.py",
    "trees/objectives.py",
    "trees/tree.py",
)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(nodes: Iterator[ast.AST]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _all_imports(path: Path) -> list[str]:
    return _imports(ast.walk(_tree(path)))


def _floor_of(module: str) -> str:
    """`rwml.worlds.base` -> `worlds`; the package itself is `core`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "core"


def _here(path: Path) -> str:
    return _floor_of(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_folder_has_a_floor() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders == set(FLOORS) - {"cli", "loading"}


def test_folders_are_three_deep_at_most() -> None:
    assert [_relative(p) for p in SOURCES if len(p.relative_to(PACKAGE).parts) > 4] == []


def test_imports_go_down() -> None:
    wrong = []
    for path in SOURCES:
        here = _here(path)
        for name in _all_imports(path):
            there = _floor_of(name)
            sideways = {here, there} == {"models", "worlds"}
            if name.split(".")[0] == "rwml" and (FLOORS[there] > FLOORS[here] or sideways):
                wrong.append(f"{_relative(path)}: {name}")
    assert wrong == []


def test_a_stage_never_imports_a_stage() -> None:
    from rwml.stages import VERBS

    verbs = {verb.module for verb in VERBS}
    wrong = []
    for path in SOURCES:
        if _here(path) != "cli":
            hit = {m for name in _all_imports(path) for m in verbs if name == m or name.startswith(m + ".")}
            wrong += [f"{_relative(path)}: {module}" for module in sorted(hit)]
    assert wrong == []


def test_core_loads_with_numpy_torch_and_pydantic_alone() -> None:
    wrong = []
    for path in (PACKAGE / "core").glob("*.py"):
        top = {name.split(".")[0] for name in _imports(iter(_tree(path).body))}
        extra = top - CORE_LIBRARIES - {"rwml", "__future__"} - set(sys.stdlib_module_names)
        wrong += [f"{_relative(path)}: {name}" for name in sorted(extra)]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(ONE_FILE))
def test_a_heavy_library_is_named_in_one_file(library: str) -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if any(name.split(".")[0] == library for name in _all_imports(path))
    }
    assert users == {ONE_FILE[library]}


def test_nothing_is_pickled() -> None:
    pickles = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    wrong = []
    for path in EVERYTHING:
        text = path.read_text(encoding="utf-8")
        found = {name.split(".")[0] for name in _all_imports(path)} & pickles
        found |= {call for call in ("torch." + "save(", "torch." + "load(") if call in text}
        wrong += [f"{_relative(path)}: {name}" for name in sorted(found)]
    assert wrong == []


def test_files_have_400_lines_at_most() -> None:
    long = {_relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in EVERYTHING}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_functions_have_60_lines_at_most() -> None:
    long = {}
    for path in EVERYTHING:
        for node in ast.walk(_tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    long[f"{_relative(path)}:{node.name}"] = lines
    assert long == {}


def test_one_training_step_of_the_world_model_is_1000_lines_to_read() -> None:
    lines = sum(len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in WM_STEP)
    assert lines <= 1000
    assert not (PACKAGE / "core" / "utils.py").exists()
