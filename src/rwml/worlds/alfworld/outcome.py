"""Whether the texts of an episode, real or imagined, say that its task was done: the goal checked on text alone.

The game itself never announces a win. The player's knowledge (`beliefs.py`) decides, with two cautions for invented
words. An action counts only if its answer is, word for word, that of an admitted action. Only things that the player
put down can complete a task.
"""

from __future__ import annotations

from collections.abc import Sequence

from rwml.worlds.alfworld.beliefs import NOTHING, STATE, Beliefs, kind_of, read_action
from rwml.worlds.alfworld.policies import Goal, read_goal

_DONE = {
    "take": "You pick up the {what} from the {where}.",
    "move": "You move the {what} to the {where}.",
    "clean": "You clean the {what} using the {where}.",
    "heat": "You heat the {what} using the {where}.",
    "cool": "You cool the {what} using the {where}.",
    "use": "You turn on the {what}.",
}
_BEGINS = {"go to": "You arrive at {what}.", "open": "You open the {what}.", "close": "You close the {what}."}


def reads_win(opening: str, exchanges: Sequence[str]) -> bool | None:
    """Whether the goal of `opening` holds at some time in `exchanges` (action, observation, ...); None: the goal's
    wording is not known."""
    goal = read_goal(opening)
    if goal is None:
        return None
    beliefs, moved = Beliefs(opening), set[str]()
    for action, observation in zip(exchanges[::2], exchanges[1::2], strict=True):
        happened = _happened(action, observation)
        beliefs.read(action, observation if happened else NOTHING)
        verb, what, _ = read_action(action) or ("", "", "")
        if happened and verb == "move":
            moved.add(what)
        elif happened and verb == "take":
            moved.discard(what)
        elif happened and verb == "use" and what not in beliefs.where and beliefs.in_reach:
            beliefs.where[what] = min(beliefs.in_reach)  # used without having been seen: it is in reach, wherever
        if _holds(goal, beliefs, moved):
            return True
    return False


def granted(action: str) -> str:
    """The answer of a world that admits every action and shows nothing: what a model that has learnt no rule says."""
    verb, what, where = read_action(action) or ("", "", "")
    text = _DONE.get(verb) or _BEGINS.get(verb) or "You see nothing."
    return text.format(what=what, where=where)


def _happened(action: str, observation: str) -> bool:
    verb, what, where = read_action(action) or ("", "", "")
    if verb in _DONE:
        return observation == _DONE[verb].format(what=what, where=where)
    return verb not in _BEGINS or observation.startswith(_BEGINS[verb].format(what=what))


def _holds(goal: Goal, beliefs: Beliefs, moved: set[str]) -> bool:
    if goal.lamp:
        lit = (what for what, state in beliefs.states if state == "on" and kind_of(what) == goal.lamp)
        return kind_of(beliefs.held) == goal.target and any(beliefs.where.get(lamp) in beliefs.in_reach for lamp in lit)
    for thing in moved:
        home = beliefs.where.get(thing, "")
        if kind_of(thing) != goal.target or kind_of(home) != goal.parent:
            continue
        if goal.verb and (thing, STATE[goal.verb]) not in beliefs.states:
            continue
        if sum(kind_of(other) == goal.target and at == home for other, at in beliefs.where.items()) >= goal.count:
            return True
    return False
