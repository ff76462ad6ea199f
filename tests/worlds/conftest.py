"""Games to play in tests: a small kitchen written by hand, and a sample of the official release where it is at hand."""

from __future__ import annotations

import json
import os
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rwml.worlds.alfworld import Game
from rwml.worlds.alfworld.engine.parse import GAME_FILE
from rwml.worlds.alfworld.engine.rules import TEMPLATES

ARCHIVE = Path(__file__).parents[3] / "shared" / "alfworld" / "games.tar.xz"
NAMED = {  # games with a golden trace in test_game.py
    "valid_seen/pick_two_obj_and_place-Newspaper-None-Drawer-224/trial_T20190911_101248_326533",
    "train/pick_and_place_simple-Lettuce-None-CounterTop-25/trial_T20190907_000052_389529",
}
PER_KIND = 2

# Two receptacles share `loc_bar_1`; the mug lies in two at once; plate 1 holds a spoon for good.
KITCHEN = """
(define (problem kitchen) (:domain alfred)
 (:objects agent1 - agent
  loc_bar_0 - location loc_bar_1 - location loc_bar_2 - location loc_bar_3 - location loc_bar_4 - location
  CounterTop_bar_1 - receptacle Drawer_bar_1 - receptacle Drawer_bar_2 - receptacle Fridge_bar_1 - receptacle
  Microwave_bar_1 - receptacle Sink_bar_1_bar_SinkBasin - receptacle
  Apple_bar_1 - object Apple_bar_2 - object ButterKnife_bar_1 - object DeskLamp_bar_1 - object Mug_bar_1 - object
  Plate_bar_1 - object Spoon_bar_1 - object Window_bar_1 - object
  AppleType - otype ButterKnifeType - otype DeskLampType - otype MugType - otype PlateType - otype SpoonType - otype
  WindowType - otype CounterTopType - rtype DrawerType - rtype FridgeType - rtype MicrowaveType - rtype
  SinkBasinType - rtype)
 (:init (= (total-cost) 0) (atLocation agent1 loc_bar_0)
  (receptacleAtLocation CounterTop_bar_1 loc_bar_1) (receptacleAtLocation Drawer_bar_1 loc_bar_1)
  (receptacleAtLocation Drawer_bar_2 loc_bar_2) (receptacleAtLocation Fridge_bar_1 loc_bar_3)
  (receptacleAtLocation Microwave_bar_1 loc_bar_4) (receptacleAtLocation Sink_bar_1_bar_SinkBasin loc_bar_4)
  (openable Drawer_bar_1) (openable Drawer_bar_2) (openable Fridge_bar_1) (openable Microwave_bar_1)
  (opened Drawer_bar_2)
  (receptacleType CounterTop_bar_1 CounterTopType) (receptacleType Drawer_bar_1 DrawerType)
  (receptacleType Drawer_bar_2 DrawerType) (receptacleType Fridge_bar_1 FridgeType)
  (receptacleType Microwave_bar_1 MicrowaveType) (receptacleType Sink_bar_1_bar_SinkBasin SinkBasinType)
  (objectType Apple_bar_1 AppleType) (objectType Apple_bar_2 AppleType) (objectType ButterKnife_bar_1 ButterKnifeType)
  (objectType DeskLamp_bar_1 DeskLampType) (objectType Mug_bar_1 MugType) (objectType Plate_bar_1 PlateType)
  (objectType Spoon_bar_1 SpoonType) (objectType Window_bar_1 WindowType)
  (canContain CounterTopType AppleType) (canContain CounterTopType ButterKnifeType) (canContain CounterTopType MugType)
  (canContain CounterTopType PlateType) (canContain DrawerType ButterKnifeType) (canContain DrawerType MugType)
  (canContain FridgeType AppleType) (canContain FridgeType MugType) (canContain MicrowaveType AppleType)
  (canContain MicrowaveType MugType) (canContain SinkBasinType AppleType) (canContain SinkBasinType MugType)
  (canContain SinkBasinType PlateType)
  (pickupable Apple_bar_1) (pickupable Apple_bar_2) (pickupable ButterKnife_bar_1) (pickupable Mug_bar_1)
  (pickupable Plate_bar_1) (cleanable Apple_bar_1) (cleanable Apple_bar_2) (cleanable Mug_bar_1)
  (heatable Apple_bar_1) (heatable Apple_bar_2) (heatable Mug_bar_1) (coolable Apple_bar_1) (coolable Apple_bar_2)
  (coolable Mug_bar_1) (sliceable Apple_bar_1) (sliceable Apple_bar_2) (toggleable DeskLamp_bar_1) (isCool Apple_bar_2)
  (isReceptacleObject Plate_bar_1) (inReceptacleObject Spoon_bar_1 Plate_bar_1)
  (inReceptacle Apple_bar_1 CounterTop_bar_1) (inReceptacle DeskLamp_bar_1 CounterTop_bar_1)
  (inReceptacle Plate_bar_1 CounterTop_bar_1) (inReceptacle ButterKnife_bar_1 Drawer_bar_1)
  (inReceptacle Apple_bar_2 Fridge_bar_1) (inReceptacle Mug_bar_1 Microwave_bar_1)
  (inReceptacle Mug_bar_1 Sink_bar_1_bar_SinkBasin)
  (objectAtLocation Apple_bar_1 loc_bar_1) (objectAtLocation DeskLamp_bar_1 loc_bar_1)
  (objectAtLocation Plate_bar_1 loc_bar_1) (objectAtLocation ButterKnife_bar_1 loc_bar_1)
  (objectAtLocation Apple_bar_2 loc_bar_3) (objectAtLocation Mug_bar_1 loc_bar_4)
  (objectAtLocation Window_bar_1 loc_bar_2))
 (:goal GOAL))
"""
HOT_APPLE_IN_FRIDGE = """(exists (?o - object ?r - receptacle) (and
  (objectType ?o AppleType) (isHot ?o) (receptacleType ?r FridgeType) (inReceptacle ?o ?r)))"""


def plain_grammar() -> str:
    """As much of a game file's grammar as our engine reads."""
    actions = "\n".join(
        f'action {name} {{ template :: "{template}"; feedback :: "{"Ask." if name == "help" else "#x#"}"; }}'
        for name, template in TEMPLATES.items()
    )
    return 'grammar :: """ {"task": [{"rhs": "Your task is to: put a hot apple in fridge."}]} """;\n' + actions


def plain_domain() -> str:
    """As much of a game file's domain as our engine reads."""
    conditions = {
        "CleanObject": "(or ;(receptacleType ?r SinkType)\n (receptacleType ?r SinkBasinType))",
        "HeatObject": "(and (heatable ?o) (or (receptacleType ?r MicrowaveType)))",
        "CoolObject": "(and (coolable ?o) (or (receptacleType ?r FridgeType)))",
        "SliceObject": "(or (objectType ?ko KnifeType) (objectType ?ko ButterKnifeType))",
    }
    actions = (f"(:action {name} :precondition {conditions.get(name, '()')})" for name in TEMPLATES)
    return f"(define (domain alfred) {' '.join(actions)})"


@pytest.fixture
def write_kitchen(tmp_path: Path) -> Callable[..., Path]:
    """`write_kitchen(goal=..., problem=..., grammar=..., domain=...)` writes a game file and returns its path."""

    def write(goal: str = HOT_APPLE_IN_FRIDGE, **changed: str) -> Path:
        data = {
            "pddl_domain": changed.get("domain") or plain_domain(),
            "grammar": changed.get("grammar") or plain_grammar(),
            "pddl_problem": changed.get("problem", KITCHEN).replace("GOAL", goal),
            "walkthrough": ["go to countertop 1"],
        }
        folder = tmp_path / f"kitchen_{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        path = folder / GAME_FILE
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    return write


@pytest.fixture
def wander() -> Callable[[Game, int, int], Iterator[str]]:
    """`wander(game, steps, seed)` plays random admissible commands, verb first; yields each before it is played."""

    def play(game: Game, steps: int, seed: int) -> Iterator[str]:
        rng = random.Random(seed)
        for _ in range(steps):
            by_verb: dict[str, list[str]] = {}
            for command in game.admissible_commands:
                by_verb.setdefault(command.split()[0], []).append(command)
            command = rng.choice(by_verb[rng.choice(sorted(by_verb))])
            yield command
            game.step(command)

    return play


def _wanted(folder: str) -> bool:
    return folder in NAMED or zlib.crc32(folder.encode()) % 120 == 0


@pytest.fixture(scope="session")
def official_games(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Game files of the official release by "<split>/<task>/<trial>": some of each kind of task, always the same."""
    root = Path(os.environ.get("ALFWORLD_DATA", "")) / "json_2.1.1"
    found: dict[str, Path] = {}
    if os.environ.get("ALFWORLD_DATA") and root.is_dir():
        files = {path.parent.relative_to(root).as_posix(): path for path in root.glob(f"*/*/*/{GAME_FILE}")}
        found = {name: path for name, path in files.items() if _wanted(name)}
    elif ARCHIVE.is_file():
        target = tmp_path_factory.mktemp("official_games")
        with tarfile.open(ARCHIVE, "r|xz") as archive:
            for member in archive:
                inner = Path(member.name)
                folder = "/".join(inner.parts[1:-1])
                if inner.name == GAME_FILE and _wanted(folder):
                    archive.extract(member, target, filter="data")
                    found[folder] = target / member.name
    if not found:
        pytest.skip("no official ALFWorld games: set ALFWORLD_DATA to the folder that `alfworld-download` made")
    kept: dict[str, Path] = {}
    counts: dict[str, int] = {}
    for name in sorted(found):
        kind = name.split("/")[1].split("-")[0]
        if name in NAMED or counts.get(kind, 0) < PER_KIND:
            kept[name] = found[name]
            counts[kind] = counts.get(kind, 0) + (name not in NAMED)
    return kept
