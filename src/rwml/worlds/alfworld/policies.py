"""Built-in policies of ALFWorld, no language models: random, expert, and a mixture of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rwml.core.errors import RwmlError, nearest
from rwml.core.seeds import random_for
from rwml.worlds.alfworld import scene_data as data
from rwml.worlds.alfworld.beliefs import ACCEPTS, STATE, TOOL, Beliefs, kind_of
from rwml.worlds.base import RandomPolicy

NAMES = ("random", "expert", "noisy")
NOISE = 0.35
RATE = {target.lower(): {kind.lower(): rate for kind, rate in rates.items()} for target, rates in data.RATE.items()}
_LAMP_RATE = {"sidetable": 45, "desk": 45, "dresser": 45, "shelf": 5, "coffeetable": 4}
_UNLIKELY = 0.3
_VERB = {"clean": "clean", "hot": "heat", "cool": "cool", "heat": "heat"}
_TASKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:look at|examine the) (?P<target>\w+) (?:under|with) the (?P<lamp>\w+)",
        r"(?:put two|find two) (?P<two>\w+) (?:and put them )?in (?P<parent>\w+)",
        r"put a (?P<verb>clean|hot|cool) (?P<target>\w+) in (?P<parent>\w+)",
        r"(?P<verb>clean|heat|cool) some (?P<target>\w+) and put it in (?P<parent>\w+)",
        r"put (?:a|some) (?P<target>\w+) (?:in|on) (?P<parent>\w+)",
    )
)


@dataclass(frozen=True, slots=True)
class Goal:
    """A task sentence, read. verb: clean, heat, cool or ""; lamp and parent: kinds, or ""."""

    target: str
    parent: str = ""
    verb: str = ""
    lamp: str = ""
    count: int = 1


def read_goal(opening: str) -> Goal | None:
    """Read the goal out of an opening (or a bare task sentence); None if it is worded otherwise."""
    sentence = opening.rpartition("Your task is to: ")[2].strip().rstrip(".")
    for pattern in _TASKS:
        match = pattern.fullmatch(sentence)
        if match is not None:
            parts = {key: value or "" for key, value in match.groupdict().items()}
            two = parts.get("two", "")
            verb = _VERB.get(parts.get("verb", ""), "")
            return Goal(two or parts["target"], parts.get("parent", ""), verb, parts.get("lamp", ""), 2 if two else 1)
    return None


class ExpertPolicy:
    """Explores by rules without hidden knowledge: it looks in the usual places of a kind, then does what the task asks
    for. noise: chance of a random admissible action instead; the policy continues from its outcome."""

    def __init__(self, seed: int, noise: float = 0.0) -> None:
        self._rng = random_for("expert", seed)
        self._noise = noise
        self._beliefs: Beliefs | None = None
        self._goal: Goal | None = None
        self._last = ""
        self._thought = ""
        self._allowed: set[str] = set()
        self._refused: set[str] = set()

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        """Return the next action, given the newest observation (the opening at first)."""
        if self._beliefs is None:
            self._beliefs, self._goal = Beliefs(observation), read_goal(observation)
        else:
            self._beliefs.read(self._last, observation)
        self._allowed = set(admissible)
        if self._goal is None or (self._noise and self._rng.random() < self._noise):
            action, self._thought = self._rng.choice(admissible), "try"
        else:
            action, self._thought = self._choose(self._beliefs, self._goal)
            if action not in self._allowed:
                self._refused.add(action)
                action, self._thought = self._rng.choice(admissible), "try"
        self._last = action
        return action

    def thought(self) -> str:
        """Return the last action's subgoal, such as "find mug", "open drawer" or "try"."""
        return self._thought

    def _choose(self, beliefs: Beliefs, goal: Goal) -> tuple[str, str]:
        held = beliefs.held
        if held and kind_of(held) == goal.target:
            return self._bring(beliefs, goal, held)
        if held:
            return self._drop(beliefs, held)
        wanted = self._candidates(beliefs, goal)
        if wanted:
            thing = wanted[0]
            home = beliefs.where[thing]
            return self._approach(home) or (f"take {thing} from {home}", f"take {goal.target}")
        return self._search(beliefs, goal.target)

    def _in_reach(self, receptacle: str) -> bool:
        return f"examine {receptacle}" in self._allowed

    def _approach(self, receptacle: str, thought: str = "", *, inside: bool = True) -> tuple[str, str] | None:
        """Return a step towards a receptacle, or None when it is in reach (and open, if `inside`)."""
        if not self._in_reach(receptacle):
            return f"go to {receptacle}", thought or f"find {kind_of(receptacle)}"
        if inside and f"open {receptacle}" in self._allowed:
            return f"open {receptacle}", f"open {kind_of(receptacle)}"
        return None

    def _candidates(self, beliefs: Beliefs, goal: Goal) -> list[str]:
        """Seen things of the wanted kind that are not yet in place, the nearest first."""
        known = {thing: home for thing, home in beliefs.where.items() if home and kind_of(thing) == goal.target}
        if goal.count == 2:
            final = self._parent(beliefs, goal)
            known = {thing: home for thing, home in known.items() if home != final or kind_of(home) != goal.parent}
        elif goal.parent and not goal.verb:
            known = {thing: home for thing, home in known.items() if kind_of(home) != goal.parent}
        free = [thing for thing, home in known.items() if f"take {thing} from {home}" not in self._refused]
        return sorted(free, key=lambda thing: (not self._in_reach(known[thing]), known[thing], thing))

    def _parent(self, beliefs: Beliefs, goal: Goal) -> str:
        """The receptacle to fill: the one with most of the wanted things, then one in reach, then an open one."""
        options = [name for name in beliefs.receptacles if kind_of(name) == goal.parent]

        def rank(name: str) -> tuple[int, bool, bool, int]:
            inside = sum(home == name and kind_of(thing) == goal.target for thing, home in beliefs.where.items())
            near = self._in_reach(name)
            return (-inside if goal.count == 2 else 0, not near, not beliefs.is_open(name), options.index(name))

        return min(options, key=rank) if options else ""

    def _bring(self, beliefs: Beliefs, goal: Goal, held: str) -> tuple[str, str]:
        """Do with the wanted thing in hand what the task asks for."""
        if goal.lamp:
            return self._light(beliefs, goal)
        if goal.verb and (held, STATE[goal.verb]) not in beliefs.states:
            thought = f"{goal.verb} {goal.target}"
            tools = [name for name in beliefs.receptacles if kind_of(name) == TOOL[goal.verb]]
            tools.sort(key=lambda name: not self._in_reach(name))
            if not tools:
                return "look", "try"
            return self._approach(tools[0], thought, inside=False) or (f"{goal.verb} {held} with {tools[0]}", thought)
        parent, thought = self._parent(beliefs, goal), f"put {goal.target}"
        return self._approach(parent, thought) or (f"move {held} to {parent}", thought)

    def _light(self, beliefs: Beliefs, goal: Goal) -> tuple[str, str]:
        lamps = [thing for thing, home in beliefs.where.items() if home and kind_of(thing) == goal.lamp]
        if not lamps:
            return self._search(beliefs, goal.lamp)
        lamp = min(lamps, key=lambda thing: (not self._in_reach(beliefs.where[thing]), thing))
        thought = f"use {goal.lamp}"
        return self._approach(beliefs.where[lamp], thought, inside=False) or (f"use {lamp}", thought)

    def _drop(self, beliefs: Beliefs, held: str) -> tuple[str, str]:
        """Get rid of a thing that is in the way."""
        kind = kind_of(held)
        thought = f"drop {kind}"
        for name in beliefs.receptacles:
            if f"move {held} to {name}" in self._allowed:
                return f"move {held} to {name}", thought
        options = [name for name in beliefs.receptacles if kind in ACCEPTS.get(kind_of(name), ())]
        options.sort(key=lambda name: (not beliefs.is_open(name), not self._in_reach(name)))
        for name in options:
            step = self._approach(name, thought)
            if step is not None:
                return step
        return "look", "try"

    def _search(self, beliefs: Beliefs, kind: str) -> tuple[str, str]:
        """Look into the receptacle that most likely has a thing of this kind, per step that it takes."""
        rates = _LAMP_RATE if kind == "desklamp" else RATE.get(kind, {})
        best, score = "", -1.0
        for name in beliefs.receptacles:
            if beliefs.contents[name] is not None:
                continue
            near = self._in_reach(name)
            steps = 2 if beliefs.has_door(name) and not near else 1
            value = rates.get(kind_of(name), _UNLIKELY) / steps
            if value > score:
                best, score = name, value
        thought = f"find {kind}"
        if not best:
            return self._wander(beliefs), thought
        return self._approach(best, thought) or (f"examine {best}", thought)

    def _wander(self, beliefs: Beliefs) -> str:
        """All was seen and the thing is nowhere: forget one place, and look there again."""
        name = self._rng.choice(beliefs.receptacles) if beliefs.receptacles else ""
        if name:
            beliefs.contents[name] = None
        return f"go to {name}" if name and not self._in_reach(name) else "look"


def make_policy(name: str, seed: int) -> RandomPolicy | ExpertPolicy:
    """Make a policy: "random", "expert", "noisy" (35% random actions) or "noisy:SHARE" with another share."""
    stem, _, share = name.partition(":")
    if stem == "random" and not share:
        return RandomPolicy(seed)
    if stem == "expert" and not share:
        return ExpertPolicy(seed)
    if stem == "noisy":
        try:
            noise = float(share or NOISE)
        except ValueError:
            noise = -1.0
        if 0 <= noise <= 1:
            return ExpertPolicy(seed, noise)
        raise RwmlError(
            f"'{name}' has no usable share of random actions",
            "the noisy policy takes a random action with this probability",
            f"write noisy (share {NOISE}) or, say, noisy:0.2",
        )
    raise RwmlError(f"unknown policy '{name}'", "it decides who plays the episodes", nearest(stem, NAMES))
