"""Extension points: objects that are found by name, in this package and in others.

A registry maps its own entries to the modules that define them. Naming an entry imports only its module. Entries of
other packages come from entry points of the registry's group (`rwml.worlds`, `rwml.rewards`, ...), or from
`module:Name`, which needs the user's word (`core/guard/trust.py`): a recipe that names it may be a stranger's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.shown import shown
from rwml.core.guard.trust import check_code

T = TypeVar("T")
_DECORATED = re.compile(r'^@register\("(\w+)"\)$', re.MULTILINE)


class Registry(Generic[T]):
    """Names and their entries. kind: the noun in messages ("reward"); group: of the entry points.

    built_in: {name: module} of entries that are registered when that module is imported. methods: what the class of a
    `module:Name` has. Nothing but such a class is returned, so that nothing else is ever called.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str], methods: Sequence[str] = ()) -> None:
        self.kind, self.group, self.methods = kind, group, tuple(methods)
        self._modules = dict(built_in)
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a class or function under a name; a name of another entry raises RwmlError."""

        def enter(entry: T) -> T:
            known = self._entries.get(name)
            if known is not None and _path(known) != _path(entry):
                raise self._twice(name, [_path(known), _path(entry)])
            self._entries[name] = entry
            return entry

        return enter

    def names(self) -> tuple[str, ...]:
        """All names: those registered so far, those built in, and those of installed packages."""
        return tuple(dict.fromkeys([*self._modules, *self._entries, *(point.name for point in self._points())]))

    def is_built_in(self, name: str) -> bool:
        """Whether a module of this package defines it."""
        return name in self._modules

    def knows(self, name: str) -> bool:
        """Whether it is one of `names` or has the form `module:Name`; nothing is imported."""
        return is_code(name) or name in self._modules or name in self._entries or name in self.names()

    def get(self, name: str) -> T:
        """The entry of that name, or of `module:Name`; RwmlError names the nearest one, or all that share the name.

        RwmlError, before any import, for a `module:Name` that the user has not allowed.
        """
        if is_code(name) and name not in self._entries:
            check_code([(self.kind, name)])
            return self._fitting(name, self._imported(name, name))
        points = sorted({point.value for point in self._points() if point.name == name})
        if name not in self._entries and name in self._modules:
            import_module(self._modules[name])
        if name in self._entries:
            entry = self._entries[name]
            others = [value for value in points if self._imported(name, value) is not entry]
            if others:
                raise self._twice(name, [_path(entry), *others])
            return entry
        if len(points) > 1:
            raise self._twice(name, points)
        if points:
            return self._imported(name, points[0])
        raise RwmlError(
            f"there is no {self.kind} '{name}'",
            f"a {self.kind} is found by its name",
            f"{nearest(name, self.names())}; or write module:Name for one of your own",
        )

    def _twice(self, name: str, paths: Sequence[str]) -> RwmlError:
        return RwmlError(
            f"the {self.kind} '{name}' is registered twice, by {' and '.join(paths)}",
            "a recipe that names it could mean either",
            "give one of them another name, or write module:Name in the recipe",
        )

    def _points(self) -> Iterator[Any]:
        yield from entry_points(group=self.group)

    def _imported(self, name: str, path: str) -> T:
        module, _, attribute = path.partition(":")
        try:
            entry: T = getattr(import_module(module), attribute)
        except Exception as error:  # whatever the code of a module raises
            raise RwmlError(
                f"the {self.kind} '{shown(name)}' cannot be imported: {type(error).__name__}: {shown(str(error))}",
                f"a {self.kind} of your own is a name in a module that Python finds",
                "write module:Name, and put the module's folder on PYTHONPATH",
            ) from None
        return entry

    def _fitting(self, name: str, entry: T) -> T:
        lacks = [method for method in self.methods if not callable(getattr(entry, method, None))]
        if isinstance(entry, type) and not lacks:
            return entry
        why = f"the class has no {', '.join(lacks)}" if isinstance(entry, type) else "it is no class"
        raise RwmlError(
            f"'{shown(name)}' is no {self.kind}: {why}",
            "it is not called: what it would do with a recipe's settings is unknown",
            f"name a class with the methods {', '.join(self.methods)}" if self.methods else "name a class",
        )


def is_code(name: str) -> bool:
    """Whether a name of an extension point is a path into a module."""
    return ":" in name


def entries_in(package: str) -> dict[str, str]:
    """{name: module} of what the modules of a package decorate with `@register("name")`, for `Registry.built_in`.

    The names are read from the source files: nothing is imported, and no list is kept by hand.
    """
    spec = find_spec(package)
    return {
        name: f"{package}.{path.stem}"
        for folder in (spec and spec.submodule_search_locations) or ()
        for path in sorted(Path(folder).glob("*.py"))
        for name in _DECORATED.findall(path.read_text(encoding="utf-8"))
    }


def _path(entry: object) -> str:
    return f"{getattr(entry, '__module__', '?')}:{getattr(entry, '__qualname__', repr(entry))}"
