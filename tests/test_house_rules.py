"""The house rules hold in the whole repository, and each rule sees a violation when there is one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import house_rules
from house_rules import FLOORS, ROOT, RULES, goes_down, imports, names_in, of_functions, violations
from wording import TICS, tics, tics_in


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: str) -> None:
    assert sorted(violations(rule)) == []


@pytest.mark.parametrize(
    ("here", "module", "allowed"),
    [
        ("stages", "rwml.reports.page", True),
        ("reports", "rwml.stages.report", False),
        ("worlds", "rwml.models.chat", False),
        ("models", "rwml.worlds.base", False),
        ("trees", "rwml.models.chat", False),
        ("rewards", "rwml.world_models.world_model", False),
        ("worlds", "rwml.worlds.base", True),
        ("core", "rwml.trees.tree", False),
        ("loading", "rwml.train.trainer.Trainer", True),
        ("train", "rwml.loading.load_model", False),
        ("loading", "rwml.measure.examiner.Examinee", False),
        ("measure", "rwml.measure.compare.setups.exam_setup", False),
        ("measure.compare", "rwml.loading.load_model", True),
        ("core", "rwml.__version__", True),
        ("cli", "rwml.playing.rollout", True),
        ("cli", "rwml.make", False),
        ("__init__", "rwml.cli.app", True),
    ],
)
def test_imports_go_down(here: str, module: str, allowed: bool) -> None:
    assert goes_down(here, module) is allowed


def test_contributing_shows_these_floors() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        room.removesuffix("/").removesuffix(".py").replace("/", "."): int(floor)
        for floor, rooms in re.findall(r"^\| (\d+) \| (.+?) \|", page, re.MULTILINE)
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    assert shown == FLOORS


def test_imports_are_read_wherever_they_are() -> None:
    module = ast.parse("import a.b\nfrom c import d as e\nfrom .f import g\ndef h():\n    from rwml.core import run\n")
    assert imports(ast.walk(module)) == ["a.b", "c.d", ".f.g", "rwml.core.run"]


@pytest.mark.parametrize(
    "source",
    [
        "from rwml.core.run import Run",
        "from rwml.core import run as _\ndef f(x: _.Run): ...",
        "def f(x: 'Run | None') -> None: ...",
        "def f(x) -> 'list[Run]': ...",
        "y: 'Run'",
    ],
)
def test_a_name_is_seen_in_imports_and_annotations(source: str) -> None:
    assert "Run" in names_in(ast.parse(source))
    assert "Run" not in names_in(ast.parse(source.replace("Run", "Running")))


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("def f(a, b, c, d, e, g): ...", []),
        ("def f(a, b, c, d, e, g, h): ...", ["f has 7 parameters"]),
        ("def f(a, b, c, *, d, e, g, h): ...", ["f has 7 parameters"]),
        ("def f(a, b, c, d, e, g, *h, **i): ...", []),
        ("class C:\n    def f(self, a, b, c, d, e, g): ...", []),
        ("class C:\n    @staticmethod\n    def f(a, b, c, d, e, g, h): ...", ["f has 7 parameters"]),
        ("class C:\n    @staticmethod\n    def forward(ctx, a, b, c, d, e, g): ...", []),
        ("def f(a: bool): ...", ["f takes the flag a by position"]),
        ("def f(a: bool | None): ...", ["f takes the flag a by position"]),
        ("def f(a=False): ...", ["f takes the flag a by position"]),
        ("def f(*, a: bool = False): ...", []),
        ("def f(a: list[bool], b: str = ''): ...", []),
        ("class C:\n    x: bool = False\n    def __eq__(self, a: bool): ...", []),
        ("class C:\n    def __init__(self, a: bool): ...", ["__init__ takes the flag a by position"]),
        ("def test_f(a: bool): ...", []),
        ("@app.command()\ndef f(a: bool): ...", []),
        ("@app.callback()\ndef f(a: bool): ...", []),
        ("@app.commander\ndef f(a: bool): ...", ["f takes the flag a by position"]),
        ("def f():\n    def g(a: bool): ...", ["g takes the flag a by position"]),
        ("def f():\n" + "    ...\n" * 59, []),
        ("async def f():\n" + "    ...\n" * 60, ["f has 61 lines"]),
    ],
)
def test_functions_are_measured(source: str, seen: list[str]) -> None:
    assert list(of_functions(ast.parse(source))) == seen


def test_a_tic_is_seen_at_line_ends_and_nothing_else_is() -> None:
    for tic in TICS:
        assert tics_in(f"Which {tic} it.") == [tic]
        assert tics_in("one\n    " + tic.replace(" ", "\n    ") + "\ntwo") == [tic]
    assert tics_in("It is None where the range of a canew toldest withstands for; outgoes on.") == []
    assert tics_in("Anew, Told.") == ["anew", "told"]


def test_a_tic_is_seen_in_comments_texts_and_names(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(
        '"""It goes on."""\n'
        "# It stands\n# in for it.\n"
        'told_of, x = f"where {1} told", 2  # anew\n'
        "def f(untold, as_told): 'is none'\n"
        'y = "where " "there"\n'
        "told = x.told\n",
        encoding="utf-8",
    )
    everything = ["the name as_told", "the name told", "the name told_of", "anew", "goes on", "is none", "stands in"]
    assert sorted(tics(path)) == sorted([*everything, "told", "where there"])
    assert sorted(tics(path, docstrings_only=True)) == sorted([*everything[:3], "goes on", "is none"])


def test_a_tic_is_seen_in_pages_and_recipes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("It goes\non, `told`.\n", encoding="utf-8")
    assert list(tics(page)) == ["goes on", "told"]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('x = "is none"  # it stands\n# for it\n', encoding="utf-8")
    assert list(tics(recipe)) == ["is none", "stands for"]


BAD_REPOSITORY = {
    "src/rwml/core/x.py": "import torch\nfrom rwml.trees import tree\nfrom rwml.core.run import Run\n",
    "src/rwml/trees/x.py": "import pickle\nfrom rwml.core.run import Run\nWHERE = 'rwml.train.trainer:Trainer'\n",
    "src/rwml/trees/utils.py": "import peft\n",
    "src/rwml/new_room/y.py": "from . import x\n",
    "src/rwml/stages/one.py": "from rwml.stages.two import run\n",
    "src/rwml/stages/two.py": "x = 1\n" * 401,
    "src/rwml/worlds/z.py": "def f(flag: bool): ...\n",
    "tests/trees/test_nothing.py": "# It goes on.\n",
    "tests/trees/test_x.py": '"""It goes on."""\n',
    "README.md": "It goes on.\n",
    **{f"src/rwml/worlds/w{n}.py": "" for n in range(14)},
}
SEEN_IN_IT = {
    "floors": [
        "core/x.py imports rwml.trees.tree",
        "new_room has no floor",
        "new_room/y.py imports ..x, relative to itself",
        "trees/x.py imports rwml.train.trainer:Trainer",
    ],
    "stages_meet_on_disk": ["stages/one.py imports rwml.stages.two.run"],
    "recipe_and_run": ["trees/x.py names Run"],
    "libraries": [
        "core/x.py imports torch when it is loaded",
        "trees/utils.py imports peft",
        "trees/x.py pickles: pickle",
    ],
    "files": ["stages/two.py has 401 lines", "trees/utils.py has a name that says nothing", "worlds/ has 15 files"],
    "stems": ["core/x.py and trees/x.py have one stem"],
    "functions": ["worlds/z.py: f takes the flag flag by position"],
    "words": ["README.md: goes on x1", "tests/trees/test_x.py: goes on x1"],
    "tests_of_sources": ["tests/trees/test_nothing.py is of no file"],
    "sources_with_tests": ["core/x.py has no test of its name", "loading.py of TESTED_IN is not there"],
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_sees_a_violation(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in BAD_REPOSITORY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(house_rules, "ROOT", tmp_path)
    monkeypatch.setattr(house_rules, "PACKAGE", tmp_path / "src" / "rwml")
    house_rules.sources.cache_clear()
    try:
        seen = violations(rule)
    finally:
        house_rules.sources.cache_clear()
    expected = [f"{rule}: {violation}" for violation in SEEN_IN_IT[rule]]
    if rule == "sources_with_tests":
        assert set(expected) < set(seen)
        assert f"{rule}: trees/x.py has no test of its name" not in seen
    else:
        assert seen == expected
