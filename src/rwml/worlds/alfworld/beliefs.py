"""What a player can know: the state of a game as far as its texts show it, and the next text if it follows from
them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rwml.worlds.alfworld import scene_data as data

NOTHING = "Nothing happens."

_LOWER = str.lower
OPENABLE = frozenset(map(_LOWER, data.OPENABLE))
VESSELS = frozenset(map(_LOWER, data.VESSELS))
FIXED = frozenset(map(_LOWER, data.FIXED))
LAMPS = frozenset(map(_LOWER, data.LAMPS))
KNIVES = frozenset(map(_LOWER, data.KNIVES))
SLICEABLE = frozenset(map(_LOWER, data.SLICEABLE))
TOOL = {verb: kind.lower() for verb, kind in data.TOOL.items()}
TREATABLE = {verb: frozenset(map(_LOWER, kinds)) for verb, kinds in data.STATE_OF.items()}
ACCEPTS = {kind.lower(): frozenset(map(_LOWER, kinds)) for kind, kinds in data.CAN_CONTAIN.items()}
STATE = {"clean": "clean", "heat": "hot", "cool": "cool"}

_SEEN = re.compile(
    r"(?:You (?:arrive at|open the) (?P<moved>[^.]+)\. )?"
    r"(?:On the (?P<on>[^,]+), you see (?P<top>.+)\.|The (?P<in>.+) is open\. In it, you see (?P<inner>.+)\."
    r"|The (?P<shut>.+) is closed\.)"
)
_FACING = re.compile(r"You are facing the (.+)\. Next to it, you see (.+)\.")
_ACTION = re.compile(
    r"(?P<verb>go to|open|close|examine|use|look|inventory|help|take|move|clean|heat|cool|slice)"
    r"(?: (?P<what>[a-z]+ \d+))?(?: (?P<link>from|to|with) (?P<where>[a-z]+ \d+))?"
)
_LINK = {"take": "from", "move": "to", "clean": "with", "heat": "with", "cool": "with", "slice": "with"}
# How the answers to each verb begin.
_ANSWER: dict[str, tuple[str, ...]] = {
    "go to": ("You arrive at ",), "open": ("You open the ",), "close": ("You close the ",), "use": ("You turn ",),
    "take": ("You pick up the ",), "move": ("You move the ",), "clean": ("You clean the ",), "heat": ("You heat the ",),
    "cool": ("You cool the ",), "slice": ("You sliced the ",), "look": ("You are facing ", "You are in the "),
    "inventory": ("You are ",), "examine": ("On the ", "The ", "This ", "There's nothing "), "help": ("",),
}  # fmt: skip
_ALONE = frozenset(("look", "inventory", "help"))


def kind_of(name: str) -> str:
    """Return the kind in a name: "drawer" of "drawer 2"."""
    return name.partition(" ")[0]


def read_list(text: str) -> list[str]:
    """Read "a pen 2, and a pen 1" (or "nothing") as names."""
    if text == "nothing":
        return []
    return [word[2:] if word.startswith("a ") else word for word in text.replace(", and ", ", ").split(", ")]


@lru_cache(maxsize=4096)
def _order(name: str) -> tuple[str, int]:
    """Key that sorts names as the game lists them: by id, in which numbers count down."""
    stem, _, number = name.partition(" ")
    return stem.removesuffix("basin") + "_", -int(number or 0)


def write_list(names: Iterable[str]) -> str:
    """Write names as the game does."""
    words = [f"a {name}" for name in sorted(names, key=_order)]
    if len(words) < 2:
        return words[0] if words else "nothing"
    return f"{', '.join(words[:-1])}, and {words[-1]}"


@lru_cache(maxsize=65536)
def read_action(action: str) -> tuple[str, str, str] | None:
    """Split a command into (verb, first name, second name), with "" for a missing name; None if it is not a command."""
    match = _ACTION.fullmatch(action.strip())
    if match is None:
        return None
    verb, what, link, where = match.group("verb", "what", "link", "where")
    if verb in _ALONE:
        return None if what or link else (verb, "", "")
    if not what or link != _LINK.get(verb):
        return None
    return verb, what, where or ""


class Beliefs:
    """A player's knowledge, from the opening and then each (action, observation).

    receptacles: all names in the room, as listed in the opening.
    contents: per receptacle, the objects in it, or None if it was never looked into (it may be shut since).
    opened: receptacles that are open; all others of an openable kind are taken to be closed, as all are at the start.
    surfaces: receptacles of an openable kind that proved to have no door (official games have a few such drawers).
    where: per object seen, its receptacle, or "" while held. held: name of the held object or "".
    states: pairs (object, "clean" | "hot" | "cool" | "sliced" | "on") that were seen or brought about.
    beside: per receptacle, the names known to be reached from the same spot (itself included).
    faced: receptacles for which `beside` is complete, because the player looked around there.
    in_reach: names known to be in reach; empty before the first move.
    """

    def __init__(self, opening: str) -> None:
        start = opening.find("you see ")
        end = opening.find(".\n", start)
        listed = opening[start + 8 : end if end >= 0 else len(opening)].rstrip(".")
        self.receptacles: tuple[str, ...] = tuple(dict.fromkeys(read_list(listed))) if start >= 0 else ()
        self.contents: dict[str, set[str] | None] = dict.fromkeys(self.receptacles)
        self.opened: set[str] = set()
        self.surfaces: set[str] = set()
        self.where: dict[str, str] = {}
        self.held = ""
        self.states: set[tuple[str, str]] = set()
        self.beside: dict[str, set[str]] = {name: {name} for name in self.receptacles}
        self.faced: set[str] = set()
        self.in_reach: set[str] = set()
        self._left: set[tuple[str, str]] = set()  # (object, receptacle) that it was taken out of, and is not back in
        self._help = ""

    def read(self, action: str, observation: str) -> None:
        """Take in one exchange. An observation that cannot be this action's answer counts only for what it shows."""
        parts = read_action(action)
        if parts is None:
            return
        verb, what, where = parts
        if observation == NOTHING:
            if verb == "go to" and what in self.beside and self.in_reach:
                self._join(what)
        elif not observation.startswith(_ANSWER[verb]):
            self._read_shown(observation)
        elif verb in ("go to", "open") or (verb == "examine" and what in self.beside):
            self._read_seen(verb, what, observation)
        else:
            if where:
                self._join(where)
            self._read_done(verb, what, where, observation)

    def _read_shown(self, observation: str) -> None:
        match = _SEEN.fullmatch(observation)
        if match is not None:
            verb = "go to" if observation.startswith("You arrive") else "examine"
            self._read_seen(verb, match.group("on") or match.group("in") or match.group("shut"), observation)
        elif observation.startswith(_ANSWER["close"]):
            self._read_done("close", observation[14:-1], "", observation)

    def _read_done(self, verb: str, what: str, where: str, observation: str) -> None:
        if verb == "close":
            self._join(what)
            self.opened.discard(what)
        elif verb == "take":
            self._pick_up(what, where)
        elif verb == "move":
            self._put_down(what, where)
        elif verb in TOOL:
            self.held = what
            self._treat(what, verb)
        elif verb in ("use", "slice"):
            self.states.add((what, "on" if verb == "use" else "sliced"))
        elif verb == "inventory":
            self.held = observation.partition(": a ")[2].rstrip(".")
        elif verb == "look":
            self._read_look(observation)
        elif verb == "help":
            self._help = observation
        elif verb == "examine":
            self._read_thing(what, observation)

    def _join(self, name: str) -> None:
        """Note that `name` is in reach."""
        if name in self.in_reach or name not in self.beside:
            return
        if not self.in_reach:
            self.in_reach = self.beside[name]
            return
        self.in_reach |= self.beside[name]
        for other in self.in_reach:
            self.beside[other] = self.in_reach

    def _read_seen(self, verb: str, what: str, observation: str) -> None:
        if what not in self.beside:
            return
        if verb == "go to":
            self.in_reach = self.beside[what]
        else:
            self._join(what)
        match = _SEEN.fullmatch(observation)
        if match is None:
            return
        if match.group("shut"):
            self.opened.discard(what)
            return
        if match.group("in"):
            self.opened.add(what)
        elif kind_of(what) in OPENABLE:
            self.surfaces.add(what)
        names = set(read_list(match.group("inner") or match.group("top")))
        for gone in (self.contents[what] or set()) - names:
            self.where.pop(gone, None)
        self.contents[what] = names
        for name in names:
            self.where[name] = what

    def _pick_up(self, what: str, where: str) -> None:
        self.held = what
        self.where[what] = ""
        self._left.add((what, where))
        inside = self.contents.get(where)
        if inside is not None:
            inside.discard(what)

    def _put_down(self, what: str, where: str) -> None:
        self.held = ""
        self.where[what] = where
        self._left.discard((what, where))
        inside = self.contents.get(where)
        if inside is not None:
            inside.add(what)

    def _treat(self, what: str, verb: str) -> None:
        self.states.add((what, STATE[verb]))
        if verb != "clean":
            self.states.discard((what, "cool" if verb == "heat" else "hot"))

    def _read_look(self, observation: str) -> None:
        match = _FACING.fullmatch(observation)
        if match is None:
            return
        names = read_list(match.group(1))
        for name in names:
            self._join(name)
        self.faced.update(names)

    def _read_thing(self, what: str, observation: str) -> None:
        self.held = what
        words = observation.split()
        for word, state in (
            ("clean", "clean"),
            ("hot", "hot"),
            ("cool", "cool"),
            ("cold", "cool"),
            ("sliced", "sliced"),
        ):
            if word in words:
                self.states.add((what, state))

    def has_door(self, name: str) -> bool:
        """Whether a receptacle can be opened and closed, as far as known."""
        return kind_of(name) in OPENABLE and name not in self.surfaces

    def is_open(self, name: str) -> bool:
        """Whether things can be taken from and put into a receptacle, as far as known."""
        return name in self.opened or not self.has_door(name)

    def describe(self, name: str) -> str | None:
        """Return what `examine` says of a receptacle in reach, or None if its contents were never seen."""
        if not self.is_open(name):
            return f"The {name} is closed."
        inside = self.contents.get(name)
        if inside is None:
            return None
        if name in self.opened:
            return f"The {name} is open. In it, you see {write_list(inside)}."
        return f"On the {name}, you see {write_list(inside)}."

    def predict(self, action: str) -> str | None:
        """Return the answer to an action if it follows from the texts so far, else None. It follows from what was seen,
        and from the player's own actions by the rules of the domain (the kinds that open, hold, can be heated, ...);
        receptacles not yet visited are taken to be closed and to stand somewhere else than here. They do not tell the
        contents of what was never looked into, and what stands at a spot that was never looked around.
        """
        parts = read_action(action)
        if parts is None:
            return NOTHING
        verb, what, where = parts
        if verb == "look":
            return self._predict_look()
        if verb == "inventory":
            return f"You are carrying: a {self.held}." if self.held else "You are not carrying anything."
        if verb == "help":
            return self._help or None
        if verb in ("go to", "open", "close") or (verb == "examine" and what in self.beside):
            return self._predict_receptacle(verb, what)
        if verb == "examine":
            return self._predict_thing(what)
        if verb == "use":
            home = self.where.get(what)
            return f"You turn on the {what}." if kind_of(what) in LAMPS and home in self.in_reach else NOTHING
        if verb == "slice":
            return self._predict_slice(what, where)
        return self._predict_handling(verb, what, where)

    def _predict_receptacle(self, verb: str, name: str) -> str | None:
        if name not in self.beside or (name in self.in_reach) == (verb == "go to"):
            return NOTHING
        if verb == "examine":
            return self.describe(name)
        if verb == "go to":
            seen = self.describe(name)
            return None if seen is None else f"You arrive at {name}. {seen}"
        if not self.has_door(name) or (name in self.opened) == (verb == "open"):
            return NOTHING
        if verb == "close":
            return f"You close the {name}."
        inside = self.contents[name]
        if inside is None:
            return None
        return f"You open the {name}. The {name} is open. In it, you see {write_list(inside)}."

    def _predict_handling(self, verb: str, what: str, where: str) -> str | None:
        if where not in self.in_reach:
            return NOTHING
        if verb == "take":
            if self.held or kind_of(what) in FIXED or not self.is_open(where):
                return NOTHING
            inside = self.contents[where]
            if inside is None and self.where.get(what, where) == where:
                return None
            return f"You pick up the {what} from the {where}." if inside and what in inside else NOTHING
        if what != self.held:
            return NOTHING
        if verb == "move":
            fits = kind_of(what) in ACCEPTS.get(kind_of(where), ()) and self.is_open(where)
            return f"You move the {what} to the {where}." if fits else NOTHING
        fits = kind_of(where) == TOOL[verb] and kind_of(what) in TREATABLE[verb]
        return f"You {verb} the {what} using the {where}." if fits else NOTHING

    def _predict_slice(self, what: str, knife: str) -> str:
        able = self.held == knife and kind_of(knife) in KNIVES and kind_of(what) in SLICEABLE
        return f"You sliced the {what} with the {knife}." if able and self.where.get(what) in self.in_reach else NOTHING

    def _predict_thing(self, name: str) -> str:
        if name != self.held:
            return NOTHING
        if kind_of(name) in VESSELS:
            return f"This is a normal {name}. In it, you see nothing."
        clean, hot, cool, cut = ((name, state) in self.states for state in ("clean", "hot", "cool", "sliced"))
        heat = "hot" if hot else "cool" if cool else ""
        if cut and (clean or heat):
            return f"This is a {heat}{' and ' * (clean and bool(heat))}{'clean' * clean} sliced {name}."
        if clean and heat:
            return f"This is a {heat} and clean {name}."
        word = "hot" if hot else "clean" if clean else "cold" if cool else "sliced" if cut else ""
        return f"This is a {word} {name}." if word else f"There's nothing special about {name}."

    def _predict_look(self) -> str | None:
        if not self.in_reach:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        if not self.in_reach <= self.faced:
            return None
        facing = write_list(self.in_reach).replace("a ", "", 1).replace(", a ", ", ").replace(", and a ", ", and ")
        loose = [what for what, left in self._left if left in self.in_reach and self.where.get(what) in self.in_reach]
        return f"You are facing the {facing}. Next to it, you see {write_list(loose)}."


def knowable(opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
    """Whether the next state follows from the opening and the full history (action, observation, ...).

    It does if `Beliefs.predict` writes exactly this text: a place gone to, opened or examined whose contents were
    seen before (kept up with the player's own moves); a closed receptacle; the outcome of taking, moving, cleaning,
    heating, cooling, slicing and using what is known; the hands; "Nothing happens." where the rules and the sightings
    forbid the action. It does not for the first sight of a receptacle's contents, for receptacles that turn out to
    share a spot before that was seen, and for the first `help`.
    """
    beliefs = Beliefs(opening)
    for i in range(0, len(history) - 1, 2):
        beliefs.read(history[i], history[i + 1])
    return beliefs.predict(action) == next_state
