"""Solvable ALFWorld problems of our own: seeded scenes, placements, tasks and plans.

A scene is a room: receptacles, where they stand, and perhaps a desk lamp. It depends on its size and number only.
A game is a task in a scene: objects placed for it, a goal, and a plan with full knowledge. It depends on the
`SceneConfig`, the split and its index, so that one game can be made without the others. `pddl.py` writes it down.

Scenes differ in what a policy sees first, the list of receptacles. Each such list belongs to one pool:
`train` (splits train and valid_seen), `unseen` (valid_unseen) or `warm_up` (scene numbers from `WARM_UP_OFFSET` on,
for the tiny model's own data), so that scenes of different pools look different, whatever the numbers.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rwml.core.errors import RwmlError, nearest
from rwml.core.seeds import random_for
from rwml.worlds.alfworld import scene_data as data

KINDS = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
SPLITS = ("train", "valid_seen", "valid_unseen")
ROOMS = ("kitchen", "living", "bedroom", "bathroom")
UNSEEN_OFFSET = 5_000
WARM_UP_OFFSET = 10_000
SENTENCES = {
    "pick_and_place_simple": ("put a {o} in {r}.", "put some {o} on {r}."),
    "look_at_obj_in_light": ("look at {o} under the desklamp.", "examine the {o} with the desklamp."),
    "pick_clean_then_place_in_recep": ("put a clean {o} in {r}.", "clean some {o} and put it in {r}."),
    "pick_heat_then_place_in_recep": ("put a hot {o} in {r}.", "heat some {o} and put it in {r}."),
    "pick_cool_then_place_in_recep": ("put a cool {o} in {r}.", "cool some {o} and put it in {r}."),
    "pick_two_obj_and_place": ("put two {o} in {r}.", "find two {o} and put them in {r}."),
}
_VERB = {KINDS[2]: "clean", KINDS[3]: "heat", KINDS[4]: "cool"}


@dataclass(frozen=True, slots=True)
class Size:
    """Ranges of a size, both ends included. crowd: most objects in one roomy receptacle; spare: chance that there is
    one more object of the wanted kind than needed."""

    receptacles: dict[str, tuple[int, int]]
    objects: dict[str, tuple[int, int]]
    crowd: int
    spare: float


def _everywhere(low: int, high: int) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(ROOMS, (low, high))


SIZES = {
    "tiny": Size(_everywhere(4, 6), _everywhere(3, 5), 3, 0.1),
    "small": Size(_everywhere(5, 8), _everywhere(5, 9), 3, 0.2),
    "medium": Size(_everywhere(10, 14), _everywhere(12, 18), 5, 0.4),
    "official": Size(
        {"kitchen": (24, 34), "living": (12, 22), "bedroom": (12, 22), "bathroom": (12, 20)},
        {"kitchen": (34, 44), "living": (18, 28), "bedroom": (20, 30), "bathroom": (16, 26)},
        8,
        0.5,
    ),
}


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What is generated. num_scenes: scenes that train and valid_seen share (valid_unseen has as many of its own);
    scene_offset: first scene number (below `WARM_UP_OFFSET` but for the warm-up); kinds: task types, taken in turn."""

    size: str = "small"
    seed: int = 0
    num_train: int = 0
    num_valid_seen: int = 0
    num_valid_unseen: int = 0
    scene_offset: int = 0
    num_scenes: int = 80
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        for what, name, known in (("size", self.size, SIZES), *(("kind", kind, KINDS) for kind in self.kinds)):
            if name not in known:
                raise RwmlError(
                    f"unknown {what} of scene: {name!r}", "it decides what is generated", nearest(name, known)
                )
        if not self.kinds or not 4 <= self.num_scenes <= UNSEEN_OFFSET or self.scene_offset < 0:
            raise RwmlError(
                f"cannot make scenes with kinds={self.kinds}, num_scenes={self.num_scenes}, "
                f"scene_offset={self.scene_offset}",
                "each of the four rooms needs a scene, and the numbers of seen and unseen scenes must not meet",
                f"give at least one kind, 4 to {UNSEEN_OFFSET} scenes, and an offset of 0 or more",
            )

    def count(self, split: str) -> int:
        """Number of games of a split."""
        return {"train": self.num_train, "valid_seen": self.num_valid_seen, "valid_unseen": self.num_valid_unseen}[
            split
        ]


@dataclass(frozen=True, slots=True)
class Receptacle:
    """id: as in PDDL; kind: type without "Type"; name: as played ("drawer 2"); place: index of its location."""

    id: str
    kind: str
    name: str
    place: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A room. places: ids of the locations, the last of which is the middle of the room, where play starts."""

    number: int
    room: str
    receptacles: tuple[Receptacle, ...]
    places: tuple[str, ...]
    lamp: int | None

    @property
    def kinds(self) -> Counter[str]:
        """How many receptacles there are of each kind."""
        return Counter(receptacle.kind for receptacle in self.receptacles)


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """An object at the start. receptacle: index into the scene's receptacles."""

    id: str
    kind: str
    name: str
    receptacle: int


@dataclass(frozen=True, slots=True)
class GamePlan:
    """A game before it is written. folder: "<task folder>/<trial>"; target: wanted object kind; parent: kind of the
    receptacle that it goes to ("" for the lamp task); walkthrough: a plan with full knowledge."""

    folder: str
    kind: str
    target: str
    parent: str
    sentence: str
    scene: Scene
    objects: tuple[PlacedObject, ...]
    walkthrough: tuple[str, ...]


def pool_of(number: int) -> str:
    """Return the pool of a scene number: `train`, `unseen` or `warm_up`."""
    if number >= WARM_UP_OFFSET:
        return "warm_up"
    return "unseen" if number >= UNSEEN_OFFSET else "train"


def pool_of_view(kinds: Counter[str]) -> str:
    """Return the pool that owns a list of receptacles (5, 1 and 2 eighths of all lists)."""
    view = " ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    slot = zlib.crc32(view.encode()) % 8
    return "train" if slot < 5 else "unseen" if slot == 5 else "warm_up"


def scene_numbers(config: SceneConfig, split: str) -> range:
    """Numbers of the scenes that a split plays in."""
    first = config.scene_offset
    if split == "valid_unseen":
        first += UNSEEN_OFFSET
    return range(first, first + config.num_scenes)


@lru_cache(maxsize=4096)
def make_scene(size: str, number: int) -> Scene:
    """Make the scene of a size and number. The room follows from the number."""
    room = ROOMS[number % len(ROOMS)]
    rng = random_for("scene", size, number)
    for _ in range(1000):
        kinds = _furnish(rng, room, size)
        if pool_of_view(Counter(kinds)) == pool_of(number):
            return _arrange(rng, room, number, kinds)
    raise AssertionError(f"no {size} {room} for the pool {pool_of(number)}")


def _furnish(rng: random.Random, room: str, size: str) -> list[str]:
    low, high = SIZES[size].receptacles[room]
    total = rng.randint(low, high)
    kinds = [rng.choice(choice.split("|")) for choice in data.CORE[room]]
    if size == "tiny" and room == "kitchen" and rng.random() < 0.5:
        kinds.remove(rng.choice(list(data.TOOL.values())))
    extra = {kind: (float(weight), int(most)) for kind, weight, most in (x.split(":") for x in data.EXTRA[room])}
    few = 2 if total <= 8 else 99
    while len(kinds) < total:
        free = [kind for kind, (_, most) in extra.items() if kinds.count(kind) < min(most, few)]
        if not free:
            break
        kinds.append(rng.choices(free, [extra[kind][0] for kind in free])[0])
    return kinds


def _arrange(rng: random.Random, room: str, number: int, kinds: Sequence[str]) -> Scene:
    ids = [_new_id(rng, kind) for kind in kinds]
    shuffled = rng.sample(range(len(kinds)), len(kinds))
    places: dict[int, int] = {}
    last: dict[str, int] = {}
    for number in shuffled:
        kind = kinds[number]
        together = kind in data.STACKED and kind in last and rng.random() < 0.3
        places[number] = last[kind] if together else len(set(places.values()))
        last[kind] = places[number]
    names = number_names(ids)
    receptacles = tuple(
        sorted(
            (Receptacle(ids[i], kinds[i], names[ids[i]], places[i]) for i in range(len(kinds))),
            key=lambda receptacle: receptacle.id.lower(),
        )
    )
    spots = rng.sample(range(1, 21 * 21), len(set(places.values())) + 1)
    rooms = tuple(_place_id(rng, spot) for spot in spots)
    lit = [i for i, receptacle in enumerate(receptacles) if receptacle.kind in data.LAMP_PLACES]
    lamp = rng.choice(lit) if lit and room in ("living", "bedroom") else None
    return Scene(number, room, receptacles, rooms, lamp)


def _place_id(rng: random.Random, spot: int) -> str:
    """Write a location in the manner of ALFRED: cell of a 21 x 21 grid, heading, and tilt of the view."""
    cells = (f"_minus_{-cell}" if cell < 0 else str(cell) for cell in (spot % 21 - 10, spot // 21 - 10))
    return "_bar_".join(("loc", *cells, str(rng.randrange(4)), str(rng.choice((30, 45, 60)))))


def _new_id(rng: random.Random, kind: str) -> str:
    """Write an id in the manner of ALFRED: the kind and three coordinates in metres."""
    basin = kind.endswith("Basin")
    parts = [kind.removesuffix("Basin")]
    for low, high in ((-350, 350), (5, 199), (-350, 350)):
        value = rng.randint(low, high)
        parts.append(f"_{'minus' if value < 0 else 'plus'}_{abs(value) // 100:02d}_dot_{abs(value) % 100:02d}")
    return "_bar_".join(parts + [kind] * basin)


def number_names(ids: Sequence[str]) -> dict[str, str]:
    """Name entities as the game does: numbers count down over the sorted ids of one name."""
    by_stem: dict[str, list[str]] = {}
    for id in sorted(ids, key=str.lower):
        stem = id.split("_bar_")[0].lower() + ("basin" if "Basin" in id else "")
        by_stem.setdefault(stem, []).append(id)
    return {id: f"{stem} {len(same) - i}" for stem, same in by_stem.items() for i, id in enumerate(same)}


@lru_cache(maxsize=16384)
def goals(size: str, number: int, kind: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """All (object kind, parent kind, kinds of receptacles where it may start) that make a task in a scene."""
    scene = make_scene(size, number)
    present = sorted(scene.kinds)
    verb = _VERB.get(kind)
    if (verb and data.TOOL[verb] not in present) or (kind == KINDS[1] and scene.lamp is None):
        return ()
    options = []
    for entry in data.OBJECTS[scene.room]:
        target = entry.split(":")[0]
        if verb and target not in data.STATE_OF[verb]:
            continue
        homes = [name for name in present if target in data.CAN_CONTAIN.get(name, ()) and data.RATE[target].get(name)]
        parents = [name for name in present if target in data.CAN_CONTAIN.get(name, ())]
        if kind == KINDS[1]:
            parents = [""]
        for parent in parents:
            sources = tuple(name for name in homes if name != parent)
            if sources and not (verb and parent == data.TOOL[verb]):
                options.append((target, parent, sources))
    return tuple(options)


@lru_cache(maxsize=1024)
def _scenes_for(size: str, numbers: range, kind: str) -> tuple[int, ...]:
    return tuple(number for number in numbers if goals(size, number, kind))


def plan_game(config: SceneConfig, split: str, index: int) -> GamePlan:
    """Plan game number `index` of a split."""
    kind = config.kinds[index % len(config.kinds)]
    rng = random_for("game", config.size, config.seed, config.scene_offset, split, index)
    numbers = _scenes_for(config.size, scene_numbers(config, split), kind)
    while True:
        number = rng.choice(numbers)
        options = goals(config.size, number, kind)
        target = rng.choice(sorted({option[0] for option in options}))
        _, parent, sources = rng.choice([option for option in options if option[0] == target])
        scene = make_scene(config.size, number)
        objects = _place(rng, scene, config.size, kind, target, sources)
        if objects is not None:
            break
    sentence = rng.choice(SENTENCES[kind]).format(o=target.lower(), r=parent.lower())
    goal = f"{target}-None-{parent or 'DeskLamp'}-{number}"
    folder = f"{kind}-{goal}/trial_{config.seed}_{index:05d}"
    steps = tuple(_solve(scene, objects, kind, target, parent))
    return GamePlan(folder, kind, target, parent, sentence, scene, objects, steps)


def split_plans(config: SceneConfig, split: str) -> Iterator[GamePlan]:
    """Plan all games of a split, in the order of their index."""
    return (plan_game(config, split, index) for index in range(config.count(split)))


def _place(
    rng: random.Random, scene: Scene, size: str, kind: str, target: str, sources: Sequence[str]
) -> tuple[PlacedObject, ...] | None:
    """Place the wanted objects, then others; None if the wanted ones find no room."""
    limits = SIZES[size]
    room_left = [min(limits.crowd, data.CAPACITY.get(receptacle.kind, 99)) for receptacle in scene.receptacles]
    placed: list[tuple[str, int]] = []

    def put(name: str, allowed: Container[str]) -> bool:
        rates = data.RATE[name]
        weights = [
            rates.get(home.kind, 0) if left and home.kind in allowed and name in data.CAN_CONTAIN[home.kind] else 0
            for home, left in zip(scene.receptacles, room_left, strict=True)
        ]
        if not any(weights):
            return False
        where = rng.choices(range(len(weights)), weights)[0]
        room_left[where] -= 1
        placed.append((name, where))
        return True

    wanted = (2 if kind == KINDS[5] else 1) + (rng.random() < limits.spare)
    if not all(put(target, sources) for _ in range(wanted)):
        return None
    crowd = [(name, float(weight)) for name, weight in (x.split(":") for x in data.OBJECTS[scene.room])]
    names = [name for name, _ in crowd if name != target]
    weights = [weight for name, weight in crowd if name != target]
    for name in rng.choices(names, weights, k=max(0, rng.randint(*limits.objects[scene.room]) - wanted)):
        put(name, data.CAN_CONTAIN)
    if scene.lamp is not None:
        placed.append(("DeskLamp", scene.lamp))
    ids = [_new_id(rng, name) for name, _ in placed]
    if len(set(ids)) < len(ids):
        return None
    called = number_names(ids)
    rows = (PlacedObject(id, name, called[id], where) for id, (name, where) in zip(ids, placed, strict=True))
    return tuple(sorted(rows, key=lambda row: row.id.lower()))


def _solve(scene: Scene, objects: Sequence[PlacedObject], kind: str, target: str, parent: str) -> Iterator[str]:
    """Yield a plan with full knowledge."""
    place, opened = -1, set[int]()

    def reach(index: int, *, inside: bool = True) -> Iterator[str]:
        nonlocal place
        receptacle = scene.receptacles[index]
        if receptacle.place != place:
            place = receptacle.place
            yield f"go to {receptacle.name}"
        if inside and receptacle.kind in data.OPENABLE and index not in opened:
            opened.add(index)
            yield f"open {receptacle.name}"

    def first(name: str) -> int:
        return next(i for i, receptacle in enumerate(scene.receptacles) if receptacle.kind == name)

    verb = _VERB.get(kind)
    for wanted in [thing for thing in objects if thing.kind == target][: 2 if kind == KINDS[5] else 1]:
        yield from reach(wanted.receptacle)
        yield f"take {wanted.name} from {scene.receptacles[wanted.receptacle].name}"
        if kind == KINDS[1]:
            assert scene.lamp is not None
            yield from reach(scene.lamp, inside=False)
            yield f"use {next(thing.name for thing in objects if thing.kind == 'DeskLamp')}"
            return
        if verb:
            tool = first(data.TOOL[verb])
            yield from reach(tool, inside=False)
            yield f"{verb} {wanted.name} with {scene.receptacles[tool].name}"
        yield from reach(first(parent))
        yield f"move {wanted.name} to {scene.receptacles[first(parent)].name}"
