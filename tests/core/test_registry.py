"""Extension points: built-in entries, decorators, `module:Name`, and an installed package's entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.registry import Registry, entries_in


def make() -> Registry[type]:
    return Registry("reward", "rwml.test_rewards", {"mini": "mini_rewards"})


@pytest.fixture
def package(install: Callable[..., None]) -> None:
    """An installed package with two classes, one of which an entry point names."""
    source = "class Mini: ...\nclass Other: ...\n"
    install("mini_rewards", source, "[rwml.test_rewards]\nother = mini_rewards:Other\n")


def test_a_decorator_is_all_that_an_entry_needs() -> None:
    registry = make()

    @registry.register("mine")
    class Mine: ...

    assert registry.get("mine") is Mine
    assert registry.names() == ("mini", "mine")


def test_entry_points_and_paths_are_found(package: None) -> None:
    registry = make()
    assert registry.names() == ("mini", "other")
    assert "mini_rewards" not in sys.modules, "a name alone imports nothing"
    assert registry.get("other").__name__ == "Other"
    assert registry.get("mini_rewards:Mini").__name__ == "Mini"


def test_two_entries_of_one_name_are_refused() -> None:
    registry = make()
    registry.register("mine")(type("A", (), {}))
    with pytest.raises(RwmlError, match="registered twice"):
        registry.register("mine")(type("B", (), {}))


def test_packages_that_share_a_name_are_refused(package: None, install: Callable[..., None]) -> None:
    registry = make()
    registry.register("taken")(type("Taken", (), {}))
    points = "[rwml.test_rewards]\nother = more_rewards:Another\ntaken = more_rewards:Another\n"
    install("more_rewards", "class Another: ...\n", points)
    for name, first in (("other", "mini_rewards:Other"), ("taken", ":Taken")):
        with pytest.raises(RwmlError, match=f"'{name}' is registered twice") as error:
            registry.get(name)
        assert first in str(error.value)
        assert "more_rewards:Another" in str(error.value)
    assert registry.get("more_rewards:Another").__name__ == "Another", "its path is never ambiguous"


def test_one_entry_may_be_named_in_two_ways(install: Callable[..., None]) -> None:
    registry = make()
    install("again", "class Here: ...\n", "[rwml.test_rewards]\nhere = again:Here\n")
    here = registry.get("again:Here")
    registry.register("here")(here)
    assert registry.get("here") is here


@pytest.mark.parametrize("name", ["othr", "mini_rewards:Nothing", "nowhere:Mini", ":x"])
def test_what_cannot_be_found_is_said(package: None, name: str) -> None:
    with pytest.raises(RwmlError, match=name) as error:
        make().get(name)
    assert error.value.fix


def test_entries_of_a_package_are_read_from_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mini_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "b.py").write_text('@register("mini")\nclass Mini: ...\n\n@other("no")\nclass No: ...\n')
    (folder / "a.py").write_text('raise RuntimeError\n\n@register("failing")\nclass Failing: ...\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert entries_in("mini_package") == {"failing": "mini_package.a", "mini": "mini_package.b"}
    assert entries_in("no_such_package") == {}


def test_a_name_is_known_without_an_import(package: None) -> None:
    registry = make()
    assert [registry.knows(name) for name in ("mini", "other", "any:Thing", "othr")] == [True, True, True, False]
    assert (registry.is_built_in("mini"), registry.is_built_in("other")) == (True, False)
    assert "mini_rewards" not in sys.modules
