"""Extension points: built-in entries, decorators, `module:Name`, and an installed package's entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.registry import Registry, entries_in


def make() -> Registry[type]:
    return Registry("reward", "rwml.test_rewards", {"mini": "mini_rewards"})


@pytest.fixture
def package(install: Callable[..., None]) -> None:
    """An installed package with two classes, one of which an entry point names; paths into it are allowed."""
    allow(code=["mini_rewards:Mini", "mini_rewards:Nothing", "more_rewards:Another", "nowhere:Mini", ":x"])
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
    allow(code=["again:Here"])
    install("again", "class Here: ...\n", "[rwml.test_rewards]\nhere = again:Here\n")
    here = registry.get("again:Here")
    registry.register("here")(here)
    assert registry.get("here") is here


@pytest.mark.parametrize("name", ["othr", "mini_rewards:Nothing", "nowhere:Mini", ":x"])
def test_what_cannot_be_found_is_said(package: None, name: str) -> None:
    with pytest.raises(RwmlError, match=name) as error:
        make().get(name)
    assert error.value.fix


STRANGE = """
import sys
sys.modules["strange_ran"] = sys

def act(): ...

class Acts:
    def act(self): ...

class Idles: ...

acting = Acts()
"""


def test_nothing_is_imported_without_the_users_word(install: Callable[..., None]) -> None:
    install("strange", STRANGE)
    for name in ("strange:Acts", "strange.sub:Acts", "strange:__class__.mro", "strange:", ":strange"):
        with pytest.raises(RwmlError, match="code that you have not allowed") as error:
            make().get(name)
        assert f"reward = '{name}'" in error.value.what
        assert f"--allow-code {name}" in error.value.fix
    assert not {"strange", "strange_ran"} & set(sys.modules)


def test_only_a_class_with_the_methods_is_returned(install: Callable[..., None]) -> None:
    install("strange", STRANGE)
    registry: Registry[type] = Registry("reward", "rwml.test_rewards", {}, ["act"])
    allow(code=[f"strange:{name}" for name in ("Acts", "Idles", "act", "acting", "sys")])
    assert registry.get("strange:Acts").__name__ == "Acts"
    reasons = {"Idles": "the class has no act", "act": "it is no class", "acting": "it is no class", "sys": "no class"}
    for name, why in reasons.items():
        with pytest.raises(RwmlError, match=f"'strange:{name}' is no reward: .*{why}"):
            registry.get(f"strange:{name}")
    del sys.modules["strange_ran"]


def test_whatever_an_import_raises_is_a_message(install: Callable[..., None]) -> None:
    install("falls", "raise ZeroDivisionError('at \\x1b[31monce')")
    allow(code=["falls:Over", ".falls:Over", "falls.:Over"])
    with pytest.raises(RwmlError, match="cannot be imported: ZeroDivisionError: at") as error:
        make().get("falls:Over")
    assert "\x1b" not in str(error.value)
    for name in (".falls:Over", "falls.:Over"):
        with pytest.raises(RwmlError, match="cannot be imported"):
            make().get(name)


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
