"""The official `tau2` package: where it is, where its data are, and its parts without its heavy imports.

`import tau2` runs an `__init__` that loads litellm and every agent (3 to 7 seconds, 220 MB). A world needs the domains,
their tools and the record types alone, so the package is put in place with its `__init__` put off: importing a part of
it (`tau2.domains.retail.tools`) runs that part, and asking the package itself for a name runs the `__init__` after all.
Code that uses the official package in the same process therefore finds nothing missing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import threading
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from rwml.core.errors import RwmlError

NAME = "tau2"
DATA_VARIABLE = "TAU2_DATA_DIR"
INSTALL = (
    "pip install 'rwml[tau2]'; then "
    'pip install --no-deps --ignore-requires-python "git+https://github.com/sierra-research/tau2-bench"'
)
GET_DATA = (
    "git clone --depth 1 https://github.com/sierra-research/tau2-bench, then set "
    f"{DATA_VARIABLE} (or world.options.data) to its folder `data`"
)
# Other distributions that the parts we load import. pyproject's extra `tau2` names the same.
NEEDS = ("addict", "deepdiff", "docstring_parser", "dotenv", "loguru", "toml", "yaml")
MARKS = ("domains/airline/tools.py", "environment/toolkit.py")

_lock = threading.RLock()


class _Deferred(ModuleType):
    """A package whose `__init__` has not run; it runs when a name is asked for that no import has put here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:
            if type(self) is _Deferred:
                self.__class__ = ModuleType  # type: ignore[assignment]
                try:
                    assert self.__spec__ is not None and self.__spec__.loader is not None
                    self.__spec__.loader.exec_module(self)
                except BaseException:
                    self.__class__ = _Deferred
                    raise
        return getattr(self, name)


def package_folder() -> Path:
    """The folder of the installed official package, found without importing it.

    Raises RwmlError when it is missing, or when a distribution of the same name but of other content is installed.
    """
    folder = _folder_of(_spec())
    if all((folder / mark).is_file() for mark in MARKS):
        return folder
    raise RwmlError(
        f"the installed package '{NAME}'{_version()} at {folder} is not tau2-bench: it has no {MARKS[0]}",
        "PyPI has an unrelated physics package of the same name; tau2-bench is not on PyPI",
        f"pip uninstall {NAME}; {INSTALL}",
    )


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder that holds `airline/`, `retail/` and `telecom/`: <data>/tau2/domains.

    folder: <data>; by default $TAU2_DATA_DIR, then the folder `data` of the checkout in which the package lies.
    Needs no package. Raises RwmlError when there are no domains there.
    """
    place = folder or os.environ.get(DATA_VARIABLE) or _checkout_data()
    if not place:
        raise RwmlError(
            f"the data of tau2-bench are not at hand: {DATA_VARIABLE} is not set",
            "tasks, policies and databases are files of the official repository; installing the package from git "
            "does not bring them",
            GET_DATA,
        )
    domains = Path(place).expanduser() / NAME / "domains"
    if not domains.is_dir():
        raise RwmlError(
            f"{place} has no folder {NAME}/domains",
            "tasks, policies and databases of tau2-bench are read from there",
            GET_DATA,
        )
    return domains


def load(part: str) -> Any:
    """Import one part of the official package by its dotted name below `tau2`, e.g. "domains.retail.tools".

    The package's own log messages are switched off (`loguru.logger.enable("tau2")` switches them on again).
    Raises RwmlError when the package, or one that it needs, is not installed.
    """
    with _lock:
        if NAME not in sys.modules:
            package_folder()
        try:
            _quiet()
            if NAME not in sys.modules:
                _put_in_place()
            return importlib.import_module(f"{NAME}.{part}")
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            if missing == NAME:
                raise RwmlError(
                    f"the installed tau2-bench{_version()} has no part '{error.name}'",
                    "this adapter was written for tau2-bench 1.0.1",
                    INSTALL,
                ) from error
            raise RwmlError(
                f"tau2-bench needs the package '{missing}', which is not installed",
                f"its part {NAME}.{part} cannot be loaded without it",
                "pip install 'rwml[tau2]'",
            ) from error


def available(folder: str | Path | None = None) -> str:
    """Return "" if the official package, what it needs and its data are there, else the reason in one line."""
    try:
        package_folder()
        data_folder(folder)
    except RwmlError as error:
        return f"tau2-bench: {error.what}; {error.fix}"
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return f"tau2-bench needs {', '.join(missing)}; pip install 'rwml[tau2]'"
    return ""


def _spec() -> ModuleSpec:
    spec = sys.modules[NAME].__spec__ if NAME in sys.modules else importlib.util.find_spec(NAME)
    if spec is None:
        raise RwmlError(
            "the official package of tau2-bench is not installed",
            "its domains, tools and user simulator are the environment; the package `tau2` on PyPI is another one",
            INSTALL,
        )
    return spec


def _folder_of(spec: ModuleSpec) -> Path:
    places = list(spec.submodule_search_locations or [])
    return Path(places[0]) if places else Path(spec.origin or ".").parent


def _checkout_data() -> Path | None:
    """`data` next to `src`, if the package lies in a checkout of its repository (an editable install)."""
    try:
        data = package_folder().parents[1] / "data"
    except RwmlError:
        return None
    return data if (data / NAME / "domains").is_dir() else None


def _version() -> str:
    try:
        return f" {importlib.metadata.version(NAME)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _put_in_place() -> None:
    spec = _spec()
    module = _Deferred(NAME)
    module.__spec__ = spec
    module.__path__ = [str(_folder_of(spec))]
    module.__file__ = spec.origin
    module.__loader__ = spec.loader
    module.__package__ = NAME
    sys.modules[NAME] = module


def _quiet() -> None:
    """Keep the package's log off the terminal, and pydantic's warnings on what agents' wrong calls left in records."""
    importlib.import_module("loguru").logger.disable(NAME)
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
