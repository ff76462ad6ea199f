"""What the grammar and the domain inside a game file say that differs from file to file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from rwml.core.errors import RwmlError
from rwml.core.text import is_unicode, shortened
from rwml.worlds.alfworld.engine.goal import Tree, read_tree

# The command templates of release 0.4. A file with others was made for other rules.
TEMPLATES = {
    "GotoLocation": "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]",
    "OpenObject": "open {r}",
    "CloseObject": "close {r}",
    "PickupObject": "take {o} from {r}",
    "PutObject": "move {o} to {r}",
    "examineReceptacle": "examine {r}",
    "examineObject": "examine {o}",
    "ToggleObject": "use {o}",
    "HeatObject": "heat {o} with {r}",
    "CleanObject": "clean {o} with {r}",
    "CoolObject": "cool {o} with {r}",
    "SliceObject": "slice {co} with {ko}",
    "inventory": "inventory",
    "look": "look",
    "help": "help",
}

_SHOWN = 500  # characters of a stranger's file that a message repeats

_TEMPLATE = re.compile(r'action\s+(\w+)\s*\{\s*template\s*::\s*"([^"]*)"')
_HELP = re.compile(r'action\s+help\s*\{\s*template\s*::\s*"[^"]*"\s*;\s*feedback\s*::\s*"([^"]*)"')
_HELP_RULE = re.compile(r'"help\.feedback"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*("(?:[^"\\]|\\.)*")')
_TASK = re.compile(r'"Your task is to: ((?:[^"\\]|\\.)*)"')


def broken(where: str, what: str) -> RwmlError:
    """The error for a file that exists, but cannot be played."""
    return RwmlError(
        f"{where} is not a playable game file: {shortened(what, _SHOWN)}",
        "the rules, the objects and the goal of a task all come from this file",
        "download it again (`alfworld-download`), or take the folder out of the data",
    )


def _other_release(where: str, what: str) -> RwmlError:
    return RwmlError(
        f"{where} {shortened(what, _SHOWN)}",
        "games of another ALFWorld release follow other rules, and would be played wrongly",
        "use the games of release 0.4 or later (`alfworld-download` of alfworld 0.4.2)",
    )


def read_grammar(grammar: str, where: str) -> tuple[str, str]:
    """Return the task text and the help text; refuse a grammar with other commands than ours."""
    templates = dict(_TEMPLATE.findall(grammar))
    for action, template in TEMPLATES.items():
        if templates.get(action) != template:
            raise _other_release(
                where, f"writes the command of {action} as {templates.get(action)!r}, not {template!r}"
            )
    task, help_text = _TASK.search(grammar), _HELP.search(grammar)
    if task is None or help_text is None:
        raise broken(where, "its grammar has no task or no help text")
    sentence = _unescaped(f'"{task.group(1)}"', where)
    text = help_text.group(1)
    if text == "#help.feedback#":
        rule = _HELP_RULE.search(grammar)
        if rule is None:
            raise broken(where, "its grammar has no rule for the help text")
        text = _unescaped(rule.group(1), where)
    # The official grammar reader skips white space before the first words of a text.
    return intern(sentence), intern(text.lstrip())


def _unescaped(literal: str, where: str) -> str:
    """The text of a JSON string."""
    try:
        text = str(json.loads(literal))
    except ValueError as error:
        raise broken(where, f"a text of its grammar cannot be read ({error})") from error
    if not is_unicode(text):
        raise broken(where, "a text of its grammar holds half a character, which no file can keep")
    return text


class Tools(NamedTuple):
    """Types that a domain wants for each treatment: of the receptacle (clean, heat, cool), or of the knife (slice)."""

    clean: frozenset[str]
    heat: frozenset[str]
    cool: frozenset[str]
    slice: frozenset[str]


def read_domain(domain: str, where: str) -> Tools:
    """Return the tools that a domain names; refuse a domain with other actions than ours.

    Domains differ here: release 0.4.2 lets its own new games be cleaned in sink basins only, its published games in
    sinks too.
    """
    try:
        names, tools = _actions(domain)
    except ValueError as error:
        raise broken(where, f"its pddl_domain cannot be read ({error})") from error
    ours = {name.lower() for name in TEMPLATES}
    if names != ours:
        odd = ", ".join(sorted(names ^ ours))
        raise _other_release(where, f"has other actions than ALFWorld 0.4 (missing or unknown: {odd})")
    return tools


@lru_cache(maxsize=16)
def _actions(domain: str) -> tuple[set[str], Tools]:
    tree = read_tree(domain)
    actions = {str(part[1]): part for part in tree if isinstance(part, list) and part[:1] == [":action"]}

    def types(action: str, predicate: str) -> frozenset[str]:
        parts = _parts(actions.get(action, []))
        return frozenset(str(part[2]) for part in parts if part[0] == predicate and len(part) == 3)

    return set(actions), Tools(
        types("cleanobject", "receptacletype"),
        types("heatobject", "receptacletype"),
        types("coolobject", "receptacletype"),
        types("sliceobject", "objecttype"),
    )


def _parts(tree: Tree) -> Iterator[list[Tree]]:
    """All the lists in a tree."""
    if isinstance(tree, list) and tree:
        yield tree
        for part in tree:
            yield from _parts(part)
