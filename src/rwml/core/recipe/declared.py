"""What a stage may read of a recipe: the sections that it declared. The hash of its settings covers the same
sections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.sections import Section


def declared(recipe: Recipe, stage: str, sections: Sequence[str]) -> Recipe:
    """The recipe as `stage` sees it: `seed` and the declared sections, or single settings as `section.key`.

    Reading anything else raises AssertionError, which names the missing declaration: a stage that depends on more than
    it declares would count as done after that setting changed.
    """
    for name in sections:
        section, _, key = name.partition(".")
        assert section in Recipe.model_fields, f"{stage} declares '{name}', and a recipe has no section '{section}'"
        fields = type(getattr(recipe, section)).model_fields
        assert not key or key in fields, f"{stage} declares '{name}', and [{section}] has no key '{key}'"
    return cast(Recipe, _Declared(recipe, "", stage, ("seed", *sections)))


class _Declared:
    """Some attributes of a recipe or of one of its sections. names: of the attributes, `a.b` for parts of `a`."""

    def __init__(self, source: Section, place: str, stage: str, names: Sequence[str]) -> None:
        self._source, self._place, self._stage, self._names = source, place, stage, names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._names:
            return getattr(self._source, name)
        inner = [key.partition(".")[2] for key in self._names if key.startswith(f"{name}.")]
        if inner:
            return _Declared(getattr(self._source, name), f"{self._place}{name}.", self._stage, inner)
        raise AssertionError(
            f"the stage {self._stage} reads '{self._place}{name}' of the recipe without declaring it: "
            f"add '{self._place}{name}' to the sections of its `run.stage(...)`"
        )


def settings_hash(recipe: Recipe, sections: Sequence[str]) -> str:
    """A hash of the seed and of the named sections and settings, without the keys that no outcome depends on."""
    part: dict[str, Any] = {"seed": recipe.seed}
    whole = recipe.model_dump(mode="json")
    for name in sections:
        section, _, key = name.partition(".")
        values = whole.get(section, {})
        skipped = () if key else getattr(recipe, section).without_effect
        part[name] = values.get(key) if key else {k: v for k, v in values.items() if k not in skipped}
    return _hash(part)


def raw_settings_hash(data: dict[str, Any], sections: Sequence[str]) -> str:
    """The hash of a manifest of format 1, from the data of the `recipe.json` in its folder."""
    part: dict[str, Any] = {"seed": data["seed"]}
    for name in sections:
        section, _, key = name.partition(".")
        part[name] = data.get(section, {}).get(key) if key else data.get(section)
    return _hash(part)


def _hash(part: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
