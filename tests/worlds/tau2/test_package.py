"""Finding the official package and its data, without them: the errors, and the `__init__` that is put off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[3] / "src"
ASK = """
import json, sys
from rwml.core.errors import RwmlError
from rwml.worlds.tau2.package import available, data_folder, load, package_folder
try:
    answer = eval(sys.argv[1])
except RwmlError as error:
    answer = [error.what, error.why, error.fix]
print(json.dumps(answer, default=str))
"""


def ask(code: str, packages: Path, data: Path | None = None) -> Any:
    """Value of `code` in a fresh process that sees our sources and `packages` alone; [what, why, fix] of an error."""
    environment = {name: value for name, value in os.environ.items() if name != "TAU2_DATA_DIR"}
    environment["PYTHONPATH"] = os.pathsep.join([str(packages), str(SOURCES)])
    if data:
        environment["TAU2_DATA_DIR"] = str(data)
    # -S: without the packages of this environment, which may have the official one.
    command = [sys.executable, "-S", "-c", ASK, code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def stand_in(folder: Path) -> Path:
    """A package with the official one's marks, and a logger of the kind that it needs."""
    package = folder / "tau2"
    write(
        package,
        domains__airline__tools="class AirlineTools:\n    '''Tools.'''\n",
        environment__toolkit="from tau2.domains.airline.tools import AirlineTools\n",
        environment__broken="import a_package_that_nobody_has\n",
    )
    (package / "__init__.py").write_text(
        "import builtins\n"
        "builtins.runs = getattr(builtins, 'runs', 0) + 1\n"
        "from tau2.domains.airline.tools import AirlineTools\n"
    )
    write(folder, loguru="class logger:\n    off = []\n    disable = off.append\n")
    return folder


def test_absent_package_names_both_commands(tmp_path: Path) -> None:
    what, _, fix = ask("load('domains.airline.tools')", tmp_path)
    assert what == "the official package of tau2-bench is not installed"
    assert "pip install 'rwml[tau2]'" in fix
    assert 'pip install --no-deps --ignore-requires-python "git+https://github.com/sierra-research/tau2-bench"' in fix
    assert ask("available()", tmp_path).startswith(f"tau2-bench: {what}; pip install")


def test_the_physics_package_is_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "tau2", spectrum="print('physics')\n")
    (tmp_path / "tau2" / "__init__.py").write_text("raise SystemExit('must not be run')\n")
    (tmp_path / "tau2-2.3.dist-info").mkdir()
    (tmp_path / "tau2-2.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tau2\nVersion: 2.3\n")
    what, why, fix = ask("load('domains.airline.tools')", tmp_path)
    assert what.startswith(f"the installed package 'tau2' 2.3 at {tmp_path / 'tau2'} is not tau2-bench")
    assert "physics" in why
    assert fix.startswith("pip uninstall tau2; pip install 'rwml[tau2]'")


def test_data_that_are_not_there(tmp_path: Path) -> None:
    what, _, fix = ask("data_folder()", tmp_path)
    assert what == "the data of tau2-bench are not at hand: TAU2_DATA_DIR is not set"
    assert "git clone --depth 1 https://github.com/sierra-research/tau2-bench" in fix
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ask("data_folder()", tmp_path, data=empty)[0] == f"{empty} has no folder tau2/domains"
    assert ask("data_folder('elsewhere')", tmp_path, data=empty)[0] == "elsewhere has no folder tau2/domains"
    assert ask("available()", stand_in(tmp_path / "installed")).startswith("tau2-bench: the data of tau2-bench are not")


def test_data_by_variable_and_beside_a_checkout(tmp_path: Path) -> None:
    domains = tmp_path / "data" / "tau2" / "domains"
    domains.mkdir(parents=True)
    assert ask("data_folder()", tmp_path / "nothing", data=tmp_path / "data") == str(domains)
    assert ask("data_folder()", stand_in(tmp_path / "src")) == str(domains)
    missing = ask("available()", tmp_path / "src", data=tmp_path / "data")
    assert missing == (
        "tau2-bench needs addict, deepdiff, docstring_parser, dotenv, toml, yaml; pip install 'rwml[tau2]'"
    )


def test_a_package_that_the_official_one_needs_is_named(tmp_path: Path) -> None:
    what, why, fix = ask("load('environment.broken')", stand_in(tmp_path))
    assert what == "tau2-bench needs the package 'a_package_that_nobody_has', which is not installed"
    assert "tau2.environment.broken" in why
    assert fix == "pip install 'rwml[tau2]'"
    assert (
        ask("load('environment.gone')", tmp_path)[0] == "the installed tau2-bench has no part 'tau2.environment.gone'"
    )


def test_init_runs_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    code = """[
        load('environment.toolkit').__name__,
        getattr(__import__('builtins'), 'runs', 0),
        sys.modules['tau2'].environment.toolkit is load('environment.toolkit'),
        getattr(__import__('builtins'), 'runs', 0),
        sys.modules['tau2'].AirlineTools is load('domains.airline.tools').AirlineTools,
        sys.modules['tau2'].__name__,
        getattr(__import__('builtins'), 'runs', 0),
        __import__('loguru').logger.off[0],
    ]"""
    assert ask(code, stand_in(tmp_path)) == ["tau2.environment.toolkit", 0, True, 0, True, "tau2", 1, "tau2"]
