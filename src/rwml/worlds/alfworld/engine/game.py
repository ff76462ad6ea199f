"""Play a parsed game: text, admissible commands and win exactly as the official engine gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.text import as_unicode
from rwml.worlds.alfworld.engine.facts import GameFacts
from rwml.worlds.alfworld.engine.goal import CARRIED, MOVED, OPENED, TREATED, compile_goal
from rwml.worlds.alfworld.engine.parse import GameSpec, game_path, read_game
from rwml.worlds.alfworld.engine.rules import broken
from rwml.worlds.alfworld.engine.tables import Tables, listing, tables_of

NOTHING = "Nothing happens."
_MIDDLE = "You are in the middle of a room. Looking quickly around you, you see "


class Game:
    """One play of one game. Cheap to make; any number of games can share a `GameSpec`, and each has its own state.

    `reset` comes before the first `step`. After a win play can continue, as in the official engine: reward and done
    say whether the goal holds in the present state. Attributes that goals read (numbers and masks as in `GameSpec`):
    location, held, opened, contents, places (locations of each object), clean, hot, cool, on, toggled, sliced.
    """

    __slots__ = (
        "_changes",
        "_commands",
        "_goal",
        "_taken",
        "clean",
        "contents",
        "cool",
        "held",
        "hot",
        "location",
        "on",
        "opened",
        "places",
        "sliced",
        "spec",
        "tables",
        "toggled",
        "won",
    )  # fmt: skip

    tables: Tables
    contents: list[tuple[int, ...]]
    places: list[tuple[int, ...]]

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self.won = False
        self._goal = compile_goal(spec.goal)
        self._commands: list[str] | None = None
        self.location = -1  # not yet reset

    @property
    def task(self) -> str:
        """The sentence after "Your task is to: ", full stop included."""
        return self.spec.task

    @property
    def walkthrough(self) -> list[str]:
        """A winning plan, made with full knowledge; empty if the file holds no plan."""
        return list(self.spec.walkthrough)

    def reset(self) -> str:
        """Start again from the file's state; return the first observation, task included."""
        spec = self.spec
        self.tables = tables_of(spec)
        self.location, self.held, self.opened = spec.start, spec.held, spec.opened
        self.contents, self.places = list(spec.contents), list(spec.object_locations)
        self.clean, self.hot, self.cool = spec.mask("isclean"), spec.mask("ishot"), spec.mask("iscool")
        self.on, self.toggled, self.sliced = spec.mask("ison"), spec.mask("istoggled"), spec.mask("issliced")
        # The official text knows that an object is *not* in a receptacle only once it was taken out of it.
        self._taken: set[tuple[int, int]] = set()
        self._commands = None
        self._changes = 0
        self.won = self._goal.reached(GameFacts(self))
        return f"-= Welcome to TextWorld, ALFRED! =-\n\n{self._first_look()}\n\nYour task is to: {spec.task}"

    def step(self, command: str) -> tuple[str, int, bool]:
        """Act; return (observation, reward, done): reward is 1 and done is true exactly when the goal holds now.

        A command that is not admissible changes nothing and answers "Nothing happens."
        """
        if self.location < 0:
            raise RwmlError("step before reset", "a game has no state yet", "call reset() first")
        verb, _, rest = command.strip().partition(" ")
        act = _VERBS.get(verb)
        answer = act(self, rest) if act is not None else None
        if answer is None:
            answer = NOTHING
        elif self._changes:
            self._commands = None
            if self._changes & self._goal.changes:
                self.won = self._goal.reached(GameFacts(self))
            self._changes = 0
        return answer, int(self.won), self.won

    @property
    def admissible_commands(self) -> list[str]:
        """The commands that have an effect now, sorted; each call returns a new list."""
        if self._commands is None:
            self._commands = self._list_commands() if self.location >= 0 else []
        return self._commands.copy()

    def clone(self) -> Game:
        """A game in the same state that goes its own way."""
        twin = Game(self.spec)
        for name in Game.__slots__:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        if self.location >= 0:
            twin.contents, twin.places, twin._taken = self.contents.copy(), self.places.copy(), self._taken.copy()
        return twin

    def _list_commands(self) -> list[str]:
        """All admissible commands in sorted order: verb by verb, as the verbs sort."""
        spec, tables, held = self.spec, self.tables, self.held
        receptacles = tables.by_name[self.location]
        names, object_names = spec.receptacle_names, spec.object_names
        openable, opened = spec.openable, self.opened
        commands: list[str] = []
        close = [f"close {names[r]}" for r in receptacles if opened >> r & openable >> r & 1]
        if held < 0:
            commands += close
            commands += [f"examine {names[r]}" for r in receptacles]
            commands += tables.go_commands(self.location)
            commands += ("help", "inventory", "look")
        else:
            name = object_names[held]
            if tables.cleanable >> held & 1:
                commands += [f"clean {name} with {names[r]}" for r in receptacles if spec.sinks >> r & 1]
            commands += close
            if tables.coolable >> held & 1:
                commands += [f"cool {name} with {names[r]}" for r in receptacles if spec.fridges >> r & 1]
            commands += sorted([f"examine {name}", *[f"examine {names[r]}" for r in receptacles]])
            commands += tables.go_commands(self.location)
            if tables.heatable >> held & 1:
                commands += [f"heat {name} with {names[r]}" for r in receptacles if spec.microwaves >> r & 1]
            commands += ("help", "inventory", "look")
            fits = spec.fits[held] & (~openable | opened)
            commands += [f"move {name} to {names[r]}" for r in receptacles if fits >> r & 1]
        closed = openable & ~opened
        commands += [f"open {names[r]}" for r in receptacles if closed >> r & 1]
        if held < 0:
            pickupable = tables.pickupable
            commands += sorted(
                [
                    f"take {object_names[o]} from {names[r]}"
                    for r in receptacles
                    if not closed >> r & 1
                    for o in self.contents[r]
                    if pickupable >> o & 1
                ]
            )
        elif spec.knives >> held & 1:
            ready = (o for o, places in enumerate(self.places) if tables.sliceable >> o & 1 and self.location in places)
            commands += sorted(f"slice {object_names[o]} with {object_names[held]}" for o in ready)
        if tables.toggleable:
            commands += sorted(
                {f"use {object_names[o]}" for r in receptacles for o in self.contents[r] if tables.toggleable >> o & 1}
            )
        return commands

    # Texts ------------------------------------------------------------------------------------------------------

    def _first_look(self) -> str:
        if self.tables.receptacles_at[self.location]:
            return str(self._look(""))
        spec = self.spec
        pairs = zip(spec.receptacle_names, spec.receptacle_locations, strict=True)
        return f"{_MIDDLE}{listing([f'a {name}' for name, places in pairs for _ in places])}."

    def _inside(self, receptacle: int) -> str:
        name = self.spec.receptacle_names[receptacle]
        if self.spec.openable >> receptacle & 1:
            if not self.opened >> receptacle & 1:
                return f"The {name} is closed."
            start = f"The {name} is open. In it, you see "
        else:
            start = f"On the {name}, you see "
        articled = self.tables.articled
        return f"{start}{listing([articled[o] for o in self.contents[receptacle]])}."

    def _describe(self, item: int) -> str:
        """What `examine` says of the object in hand, by the first grammar rule that applies."""
        name, tables = self.spec.object_names[item], self.tables
        if tables.holders >> item & 1:
            inner = [tables.articled[o] for o, holder in self.spec.inner if holder == item]
            return f"This is a normal {name}. In it, you see {listing(inner)}."
        clean, hot, cool = (mask >> item & 1 for mask in (self.clean, self.hot, self.cool))
        sliced = "sliced " if self.sliced >> item & 1 else ""
        if clean and (hot or cool):
            return f"This is a {'hot' if hot else 'cool'} and clean {sliced}{name}."
        if sliced and (clean or hot or cool):
            return f"This is a {'clean' if clean else 'hot' if hot else 'cool'} sliced {name}."
        if clean or hot or cool:
            return f"This is a {'hot' if hot else 'clean' if clean else 'cold'} {name}."
        if tables.toggleable >> item & self.toggled >> item & 1:
            return f"This {name} is on."
        if tables.sliceable >> item & 1 and sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    # Actions: each takes the words after its verb, and returns the answer, or None when it is not admissible. -----

    def _near(self, name: str) -> int:
        """Number of the receptacle of this name at the present location, or -1."""
        receptacle = self.tables.receptacles.get(name, -1)
        return receptacle if receptacle >= 0 and self.location in self.spec.receptacle_locations[receptacle] else -1

    def _named(self, name: str, among: Iterable[int]) -> int:
        """Number of the object of this name among some, or -1."""
        names = self.spec.object_names
        return next((item for item in among if names[item] == name), -1)

    def _in_hand(self, name: str) -> bool:
        return self.held >= 0 and self.spec.object_names[self.held] == name

    def _accessible(self, receptacle: int) -> bool:
        return bool(self.opened >> receptacle & 1 or not self.spec.openable >> receptacle & 1)

    def _look(self, rest: str) -> str | None:
        if rest:
            return None
        receptacles = self.tables.receptacles_at[self.location]
        if not receptacles:
            return f"{_MIDDLE}nothing."
        facing = listing([self.spec.receptacle_names[r] for r in receptacles])
        loose = sorted(pair for pair in self._taken if pair[1] in receptacles and self.location in self.places[pair[0]])
        beside = listing([self.tables.articled[o] for o, _ in loose])
        return f"You are facing the {facing}. Next to it, you see {beside}."

    def _inventory(self, rest: str) -> str | None:
        if rest:
            return None
        if self.held < 0:
            return "You are not carrying anything."
        return f"You are carrying: {self.tables.articled[self.held]}."

    def _help(self, rest: str) -> str | None:
        return None if rest else self.spec.help

    def _go(self, rest: str) -> str | None:
        to, _, name = rest.partition(" ")
        receptacle = self.tables.receptacles.get(name, -1)
        if to != "to" or receptacle < 0:
            return None
        for location in self.spec.receptacle_locations[receptacle]:
            if location != self.location:
                self.location = location
                self._changes = MOVED
                return f"You arrive at {name}. {self._inside(receptacle)}"
        return None

    def _examine(self, rest: str) -> str | None:
        receptacle = self._near(rest)
        if receptacle >= 0:
            return self._inside(receptacle)
        return self._describe(self.held) if self._in_hand(rest) else None

    def _open(self, rest: str) -> str | None:
        receptacle = self._near(rest)
        if receptacle < 0 or self._accessible(receptacle):
            return None
        self.opened |= 1 << receptacle
        self._changes = OPENED
        return f"You open the {rest}. {self._inside(receptacle)}"

    def _close(self, rest: str) -> str | None:
        receptacle = self._near(rest)
        if receptacle < 0 or not self.spec.openable >> receptacle & self.opened >> receptacle & 1:
            return None
        self.opened &= ~(1 << receptacle)
        self._changes = OPENED
        return f"You close the {rest}."

    def _take(self, rest: str) -> str | None:
        name, _, place = rest.partition(" from ")
        receptacle = self._near(place)
        if receptacle < 0 or self.held >= 0 or not self._accessible(receptacle):
            return None
        inside = self.contents[receptacle]
        item = self._named(name, inside)
        if item < 0 or not self.tables.pickupable >> item & 1:
            return None
        self.contents[receptacle] = tuple(o for o in inside if o != item)
        self.places[item] = tuple(place for place in self.places[item] if place != self.location)
        self._taken.add((item, receptacle))
        self.held = item
        self._changes = CARRIED
        return f"You pick up the {name} from the {place}."

    def _move(self, rest: str) -> str | None:
        name, _, place = rest.partition(" to ")
        receptacle = self._near(place)
        if receptacle < 0 or not self._in_hand(name) or not self._accessible(receptacle):
            return None
        item = self.held
        if not self.spec.fits[item] >> receptacle & 1:
            return None
        self.contents[receptacle] = tuple(sorted({*self.contents[receptacle], item}))
        self.places[item] = (*self.places[item], self.location)
        self._taken.discard((item, receptacle))
        self.held = -1
        self._changes = CARRIED
        return f"You move the {name} to the {place}."

    def _device(self, rest: str, items: int, devices: int) -> tuple[int, str, str]:
        """Parse `x with y`: (bit of the object in hand, x, y); bit 0 when x or y is not fit for it, or not here."""
        name, _, device = rest.partition(" with ")
        receptacle = self._near(device)
        if receptacle < 0 or not devices >> receptacle & 1 or not self._in_hand(name) or not items >> self.held & 1:
            return 0, name, device
        self._changes = TREATED
        return 1 << self.held, name, device

    def _clean(self, rest: str) -> str | None:
        bit, name, device = self._device(rest, self.tables.cleanable, self.spec.sinks)
        self.clean |= bit
        return f"You clean the {name} using the {device}." if bit else None

    def _heat(self, rest: str) -> str | None:
        bit, name, device = self._device(rest, self.tables.heatable, self.spec.microwaves)
        self.hot |= bit
        self.cool &= ~bit
        return f"You heat the {name} using the {device}." if bit else None

    def _cool(self, rest: str) -> str | None:
        bit, name, device = self._device(rest, self.tables.coolable, self.spec.fridges)
        self.cool |= bit
        self.hot &= ~bit
        return f"You cool the {name} using the {device}." if bit else None

    def _use(self, rest: str) -> str | None:
        inside = (o for receptacle in self.tables.receptacles_at[self.location] for o in self.contents[receptacle])
        item = self._named(rest, inside)
        if item < 0 or not self.tables.toggleable >> item & 1:
            return None
        self.on ^= 1 << item
        self.toggled |= 1 << item
        self._changes = TREATED
        return f"You turn on the {rest}."

    def _slice(self, rest: str) -> str | None:
        name, _, knife = rest.partition(" with ")
        item = self._named(name, range(len(self.places)))
        if item < 0 or not self._in_hand(knife) or not self.spec.knives >> self.held & 1:
            return None
        if not self.tables.sliceable >> item & 1 or self.location not in self.places[item]:
            return None
        self.sliced |= 1 << item
        self._changes = TREATED
        return f"You sliced the {name} with the {knife}."


_VERBS: dict[str, Callable[[Game, str], str | None]] = {
    "look": Game._look, "inventory": Game._inventory, "help": Game._help, "go": Game._go, "examine": Game._examine,
    "open": Game._open, "close": Game._close, "take": Game._take, "move": Game._move, "clean": Game._clean,
    "heat": Game._heat, "cool": Game._cool, "use": Game._use, "slice": Game._slice,
}  # fmt: skip


def load_game(path: str | Path) -> Game:
    """Open the game in the file `path`, or in the folder `path`.

    A missing, truncated or other file, or a game of another ALFWorld release, is an RwmlError.
    """
    return Game(read_playable(path))


def read_playable(path: str | Path) -> GameSpec:
    """The game in a file whose first state can be played: `read_game`, and RwmlError for a goal that explodes."""
    spec = read_game(path)
    try:
        Game(spec).reset()
    except RwmlError as error:
        raise broken(as_unicode(str(game_path(path))), error.what) from error
    spec.tables.clear()  # the first game that is played makes them; thousands of games that are only parsed do not
    return spec
