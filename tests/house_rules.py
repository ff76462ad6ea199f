"""The house rules that a program can check, each a function from the repository to the violations that it sees.

A violation is one line of text without a line number, so that it stays the same while the lines around it move.
`python tests/house_rules.py` prints all of them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from tested_in import TESTED_IN, TESTS_OF_MORE
from wording import tics

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rwml"
FLOORS = {
    "core": 1,
    "trees": 2,
    "worlds": 2,
    "models": 2,
    "world_models": 3,
    "rewards": 3,
    "playing": 4,
    "exchange": 4,
    "train": 5,
    "loading": 6,
    "measure": 7,  # it knows no recipe
    "measure.compare": 8,
    "reports": 9,
    "stages": 10,
    "library": 11,
    "library_trainer": 12,
    "cli": 12,
    "__init__": 13,  # the public names, of whatever floor
}
HOLDS_RECIPE = (
    "core/",
    "loading.py",
    "measure/compare/",
    "reports/",
    "stages/",
    "cli.py",
    "library.py",
    "library_trainer.py",
    "__init__.py",
)
CALLS_STAGES = {("compare", "pipeline")}  # an arm of a comparison is a whole pipeline

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
CORE_LIBRARIES = {"numpy", "pydantic"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

FILE_LINES, FUNCTION_LINES, PARAMETERS, FOLDER_FILES = 400, 60, 6, 14

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources(*folders: str) -> tuple[Path, ...]:
    """The Python files below these folders of the repository (by default of all that hold code), in order."""
    names = folders or ("src", "tests", "benchmarks", "examples", "docs")
    return tuple(sorted(path for name in names for path in (ROOT / name).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of that tree."""
    return tuple(ast.walk(tree(path)))


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names of everything that a file imports, wherever in it."""
    return frozenset(imports(nodes(path)))


def named(path: Path) -> str:
    """A file as violations name it."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def imports(nodes: Iterable[ast.AST]) -> list[str]:
    """Dotted names that these nodes import; a name from a module has the module before it."""
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    return names


def room_of(module: str) -> str:
    """`rwml.worlds.base` -> `worlds`; a name of the package itself, as `rwml.__version__`, -> ``."""
    parts = module.split(".")
    nested = ".".join(parts[1:3])
    if nested in FLOORS:
        return nested
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def _room(path: Path) -> str:
    return room_of(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


# --- Floors ----------------------------------------------------------------------------------------------------------


def floors() -> Iterator[str]:
    """Imports go down the floors only, are absolute, and name no module of a higher floor as text either."""
    rooms = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")}
    yield from (f"{room} has no floor" for room in sorted(rooms - set(FLOORS)))
    for path in sources("src"):
        if len(path.relative_to(PACKAGE).parts) > 4:
            yield f"{named(path)} is deeper than three folders"
        here = _room(path)
        texts = (n.value for n in nodes(path) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        modules = [text for text in texts if re.fullmatch(r"rwml\.\w+\.\w[\w.]*(:\w+)?", text)]
        for name in sorted(imported(path) | set(modules)):
            if name.startswith("."):
                yield f"{named(path)} imports {name}, relative to itself"
            elif name.split(".")[0] == "rwml" and not goes_down(here, name):
                yield f"{named(path)} imports {name}"


def goes_down(here: str, module: str) -> bool:
    """Whether a file of the room `here` may import this name of the package."""
    there = room_of(module)
    if not there:  # of the public names only the version: the others are for those outside
        return module in ("rwml", "rwml.__version__")
    return here == there or FLOORS[there] < FLOORS[here]


def stages_meet_on_disk() -> Iterator[str]:
    """No stage imports another one, and only the command line imports a stage."""
    for path in sources("src"):
        here = _room(path)
        for name in sorted(imported(path)):
            stage = name.split(".")[2] if name.startswith("rwml.stages.") else ""
            is_file = (PACKAGE / "stages" / f"{stage}.py").is_file()
            own = here == "stages" and (path.stem == stage or (path.stem, stage) in CALLS_STAGES)
            if is_file and here not in ("cli", "library", "__init__") and not own:
                yield f"{named(path)} imports {name}"


def recipe_and_run() -> Iterator[str]:
    """`Recipe` and `Run` are named only where CONTRIBUTING.md says; whatever is below takes a section or values."""
    for path in sources("src"):
        if not named(path).startswith(HOLDS_RECIPE):
            yield from (f"{named(path)} names {name}" for name in sorted(names_in(tree(path)) & {"Recipe", "Run"}))


def names_in(module: ast.Module) -> set[str]:
    """Every name, attribute and imported name of a file, those in quoted annotations too."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names |= {node.name.split(".")[-1], node.asname or ""}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.arg, ast.keyword)):
            names.add(node.arg or "")
        note = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(note, ast.Constant) and isinstance(note.value, str):
            names |= set(re.findall(r"\w+", note.value))
    return names


def libraries() -> Iterator[str]:
    """A heavy library is named in one file; core loads with numpy and pydantic alone; nothing is pickled."""
    for path in sources("src"):
        tops = {name.split(".")[0] for name in imported(path)}
        yield from (
            f"{named(path)} imports {lib}" for lib in sorted(tops) if ONE_FILE.get(lib, named(path)) != named(path)
        )
    for path in sources("src/rwml/core"):
        tops = {name.split(".")[0] for name in imports(tree(path).body)}
        extra = tops - CORE_LIBRARIES - {"rwml", "__future__"} - set(sys.stdlib_module_names)
        yield from (f"{named(path)} imports {lib} when it is loaded" for lib in sorted(extra))
    for path in sources():
        calls = {call for call in ("torch." + "save(", "torch." + "load(") if call in path.read_text(encoding="utf-8")}
        tops = {name.split(".")[0] for name in imported(path)} & PICKLES
        yield from (f"{named(path)} pickles: {name}" for name in sorted(calls | tops))


# --- Sizes -----------------------------------------------------------------------------------------------------------


def files() -> Iterator[str]:
    """Files have at most 400 lines, folders at most 14 files of code (stages exempt), and none is called utils."""
    for path in sources():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            yield f"{named(path)} has {lines} lines"
        if path.stem.strip("_") in ("utils", "util", "helpers", "misc"):
            yield f"{named(path)} has a name that says nothing"
    for folder, count in sorted(Counter(path.parent for path in sources("src", "benchmarks", "examples")).items()):
        if count > FOLDER_FILES and folder != PACKAGE / "stages":
            yield f"{named(folder)}/ has {count} files"


def stems() -> Iterator[str]:
    """No two files have one stem; free are __init__, worlds/*/, and a verb that shares its name with what it opens."""
    of: dict[str, list[str]] = {}
    for path in sources("src"):
        inside = path.relative_to(PACKAGE).parts
        free = inside[0] == "stages" or (inside[0] == "worlds" and len(inside) > 2) or path.stem == "__init__"
        if not free:
            of.setdefault(path.stem, []).append(named(path))
    yield from (f"{' and '.join(paths)} have one stem" for _, paths in sorted(of.items()) if len(paths) > 1)


def functions() -> Iterator[str]:
    """Functions have at most 60 lines and 6 parameters, and no flag can be given to them without its name."""
    for path in sources():
        yield from (f"{named(path)}: {violation}" for violation in of_functions(tree(path)))


def of_functions(module: ast.Module) -> Iterator[str]:
    """The same of one file."""
    for outer, node in _functions(module):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{node.name} has {lines} lines"
        where, keyword = _parameters(outer, node)
        if len(where) + len(keyword) > PARAMETERS:
            yield f"{node.name} has {len(where) + len(keyword)} parameters"
        for parameter, default in () if _called_by_others(node) else where:
            if _is_flag(parameter.annotation) or (
                isinstance(default, ast.Constant) and isinstance(default.value, bool)
            ):
                yield f"{node.name} takes the flag {parameter.arg} by position"


def _functions(module: ast.Module) -> Iterator[tuple[ast.AST, Function]]:
    """Each function with what holds it."""
    for outer in ast.walk(module):
        for node in ast.iter_child_nodes(outer):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield outer, node


def _parameters(
    outer: ast.AST, node: Function
) -> tuple[list[tuple[ast.arg, ast.expr | None]], list[tuple[ast.arg, ast.expr | None]]]:
    """Parameters that may be given by position, and those by name only, each with its default; neither self nor *args.

    The `ctx` of an autograd function is its self.
    """
    args = [*node.args.posonlyargs, *node.args.args]
    defaults = [*[None] * (len(args) - len(node.args.defaults)), *node.args.defaults]
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    first = 1 if isinstance(outer, ast.ClassDef) and (not static or [a.arg for a in args[:1]] == ["ctx"]) else 0
    keyword = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    return list(zip(args, defaults, strict=True))[first:], keyword


def _called_by_others(node: Function) -> bool:
    """Whether Python, pytest or typer calls it: as its own protocol says, or always by name."""
    special = re.fullmatch(r"__(?!init__)\w+__", node.name) is not None
    names = (ast.unparse(mark).partition("(")[0] for mark in node.decorator_list)
    commands = [name for name in names if name.endswith((".command", ".callback"))]
    return special or node.name.startswith("test_") or bool(commands)


def _is_flag(annotation: ast.expr | None) -> bool:
    """`bool`, alone or within a union or `Annotated`."""
    return (
        annotation is not None and re.match(r"(Annotated\[)?(bool\b|.*\| bool\b)", ast.unparse(annotation)) is not None
    )


# --- Words -----------------------------------------------------------------------------------------------------------


def words() -> Iterator[str]:
    """The tics of `wording.py`, in code, pages and recipes; in tests, in docstrings and names."""
    patterns = (
        "*.md",
        "Makefile",
        "pyproject.toml",
        "docs/**/*.md",
        "examples/**/*.md",
        "recipes/*.toml",
        "src/**/*.jinja",
    )
    pages = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    for path in (*sources(), *pages):
        if path.name not in ("wording.py", "test_wording.py"):  # which hold the list itself
            for tic, count in sorted(Counter(tics(path, docstrings_only=path.is_relative_to(ROOT / "tests"))).items()):
                yield f"{named(path)}: {tic} x{count}"


# --- Where tests are -------------------------------------------------------------------------------------------------


def tests_of_sources() -> Iterator[str]:
    """tests/<room>/test_<stem>.py is of <room>/<stem>.py, and so is test_<stem>_<aspect>.py where one is not enough.

    tests/examples/ is of examples/.
    """
    for path in sources("tests"):
        if path.stem.startswith("test_") and path.stem not in TESTS_OF_MORE:
            words = path.stem.split("_")[1:]
            stems = ("_".join(words[:count]) for count in range(len(words), 0, -1))
            inside = path.parent.relative_to(ROOT / "tests")
            folder = (ROOT if inside.parts[:1] == ("examples",) else PACKAGE) / inside
            if not any((folder / f"{stem}.py").is_file() for stem in stems):
                yield f"{named(path)} is of no file"


def sources_with_tests() -> Iterator[str]:
    """Every file of code has a test of its name, or `TESTED_IN` says where its tests are; an `__init__` needs none."""
    for path in sources("src"):
        test = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.stem}.py")
        elsewhere = TESTED_IN.get(named(path), "").partition(":")[0]
        if test.is_file() and elsewhere:
            yield f"{named(path)} has a test of its name: leave it out of TESTED_IN"
        elif path.stem != "__init__" and not (ROOT / "tests" / elsewhere if elsewhere else test).is_file():
            yield f"{named(path)} has no test of its name"
    yield from (f"{name} of TESTED_IN is not there" for name in TESTED_IN if not (PACKAGE / name).is_file())


RULES: dict[str, Callable[[], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        floors,
        stages_meet_on_disk,
        recipe_and_run,
        libraries,
        files,
        stems,
        functions,
        words,
        tests_of_sources,
        sources_with_tests,
    )
}


def violations(rule: str) -> list[str]:
    """What breaks a rule today, each with the rule's name before it."""
    return sorted(f"{rule}: {violation}" for violation in RULES[rule]())


if __name__ == "__main__":
    print("\n".join(line for rule in RULES for line in violations(rule)))
