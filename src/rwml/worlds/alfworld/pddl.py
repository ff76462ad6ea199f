"""Write planned games as ALFWorld game files, one in memory or whole splits in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from importlib import resources
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import scene_data as data
from rwml.worlds.alfworld.scenes import SPLITS, GamePlan, SceneConfig, plan_game, split_plans

MARKER = "scenes.json"
FORMAT = 1
# Types that the domain's rules name; a problem declares them whether or not it has such things.
_NAMED_TYPES = {"SinkBasin": "rtype", "Microwave": "rtype", "Fridge": "rtype", "Knife": "otype", "ButterKnife": "otype"}
_UNARY = (
    ("cleanable", data.CLEANABLE),
    ("heatable", data.HEATABLE),
    ("coolable", data.COOLABLE),
    ("sliceable", data.SLICEABLE),
    ("toggleable", data.LAMPS),
    ("isReceptacleObject", data.VESSELS),
)
_PLACED = (
    "(exists (?r - receptacle ?o - object) (and {facts} (objectType ?o {o}) (receptacleType ?r {r}) "
    "(inReceptacle ?o ?r)))"
)
_STATE_FACTS = {
    "pick_and_place_simple": "",
    "pick_clean_then_place_in_recep": "(cleanable ?o) (isClean ?o)",
    "pick_heat_then_place_in_recep": "(heatable ?o) (isHot ?o)",
    "pick_cool_then_place_in_recep": "(coolable ?o) (isCool ?o)",
}
_LIT = (
    "(and (exists (?t - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?t DeskLampType) "
    "(toggleable ?t) (isToggled ?t) (inReceptacle ?t ?r) (receptacleAtLocation ?r ?l) (atLocation ?a ?l))) "
    "(exists (?o - object ?a - agent) (and (objectType ?o {o}) (holds ?a ?o))))"
)
_TWO = (
    "(exists (?r - receptacle ?o1 - object ?o2 - object) (and (receptacleType ?r {r}) (objectType ?o1 {o}) "
    "(inReceptacle ?o1 ?r) (objectType ?o2 {o}) (inReceptacle ?o2 ?r) (not (= ?o1 ?o2))))"
)


@lru_cache(maxsize=2)
def _package_text(name: str) -> str:
    return (resources.files("rwml.worlds.alfworld") / "data" / name).read_text(encoding="utf-8")


def write_goal(plan: GamePlan) -> str:
    """Return the goal condition in PDDL."""
    words = {"o": f"{plan.target}Type", "r": f"{plan.parent}Type"}
    if plan.kind == "look_at_obj_in_light":
        return _LIT.format(**words)
    if plan.kind == "pick_two_obj_and_place":
        return _TWO.format(**words)
    return _PLACED.format(facts=_STATE_FACTS[plan.kind], **words)


@lru_cache(maxsize=4096)
def _object_facts(kind: str) -> tuple[str, ...]:
    unary = [name for name, kinds in _UNARY if kind in kinds]
    return (*unary, "pickupable") if kind not in data.FIXED else tuple(unary)


def _facts(plan: GamePlan) -> Iterator[str]:
    scene = plan.scene
    yield f"(atLocation agent1 {scene.places[-1]})"
    for home in scene.receptacles:
        yield f"(receptacleType {home.id} {home.kind}Type)"
        yield f"(receptacleAtLocation {home.id} {scene.places[home.place]})"
        if home.kind in data.OPENABLE:
            yield f"(openable {home.id})"
    for thing in plan.objects:
        home = scene.receptacles[thing.receptacle]
        yield f"(objectType {thing.id} {thing.kind}Type)"
        yield f"(inReceptacle {thing.id} {home.id})"
        yield f"(objectAtLocation {thing.id} {scene.places[home.place]})"
        for name in _object_facts(thing.kind):
            yield f"({name} {thing.id})"
    kinds = sorted({thing.kind for thing in plan.objects})
    for receptacle in sorted(scene.kinds):
        for kind in kinds:
            if kind in data.CAN_CONTAIN.get(receptacle, ()):
                yield f"(canContain {receptacle}Type {kind}Type)"


def _declarations(plan: GamePlan) -> Iterator[str]:
    yield "agent1 - agent"
    for place in plan.scene.places:
        yield f"{place} - location"
    for home in plan.scene.receptacles:
        yield f"{home.id} - receptacle"
    for thing in plan.objects:
        yield f"{thing.id} - object"
    types = dict(_NAMED_TYPES)
    types.update(dict.fromkeys((home.kind for home in plan.scene.receptacles), "rtype"))
    types.update(dict.fromkeys((thing.kind for thing in plan.objects), "otype"))
    for name, sort in sorted(types.items()):
        yield f"{name}Type - {sort}"


def write_game(plan: GamePlan) -> dict[str, object]:
    """Return the content of `game.tw-pddl`: pddl_domain, grammar, pddl_problem, solvable, walkthrough."""
    declared, facts = "\n    ".join(_declarations(plan)), "\n    ".join(_facts(plan))
    problem = (
        f"(define (problem {plan.folder.replace('/', '-')})\n(:domain alfred)\n(:objects\n    {declared}\n)\n"
        f"(:init\n    {facts}\n)\n(:goal (and {write_goal(plan)}))\n)\n"
    )
    return {
        "pddl_domain": _package_text("domain.pddl"),
        "grammar": _package_text("grammar.twl").replace("$TASK$", plan.sentence),
        "pddl_problem": problem,
        "solvable": True,
        "walkthrough": list(plan.walkthrough),
    }


def make_game(config: SceneConfig, split: str = "train", index: int = 0) -> dict[str, object]:
    """Return the content of the game file of game `index` of a split."""
    return write_game(plan_game(config, split, index))


def write_trial(plan: GamePlan) -> dict[str, object]:
    """Return the content of `traj_data.json`: what loaders of ALFWorld data read of a trial."""
    return {
        "task_id": plan.folder.split("/")[1],
        "task_type": plan.kind,
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": plan.target,
            "parent_target": plan.parent,
            "toggle_target": "" if plan.parent else "DeskLamp",
        },
        "scene": {"floor_plan": f"FloorPlan{plan.scene.number}", "scene_num": plan.scene.number},
        "turk_annotations": {"anns": [{"task_desc": plan.sentence, "high_descs": list(plan.walkthrough)}]},
    }


def generate(out_dir: str | Path, config: SceneConfig) -> Path:
    """Write all games of `config` as `out_dir/json_2.1.1/<split>/<task>/<trial>/{game.tw-pddl,traj_data.json}`.

    Atomic (a finished folder carries `scenes.json`) and idempotent: the same config gives byte-identical files, and
    a folder that has them is left alone. Returns out_dir; RwmlError if it holds anything else.
    """
    out = Path(out_dir)
    wanted = json.dumps({"format": FORMAT, **asdict(config)}, indent=1) + "\n"
    if out.exists():
        marker = out / MARKER
        if marker.is_file() and marker.read_text(encoding="utf-8") == wanted:
            return out
        if any(out.iterdir()):
            raise RwmlError(
                f"{out} already holds something else than these scenes",
                "scenes of different settings must not be mixed in one folder",
                "name an empty or a new folder, or remove this one",
            )
        out.rmdir()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for split in SPLITS:
            for plan in split_plans(config, split):
                folder = beside / "json_2.1.1" / split / plan.folder
                folder.mkdir(parents=True)
                (folder / "game.tw-pddl").write_text(json.dumps(write_game(plan)), encoding="utf-8")
                (folder / "traj_data.json").write_text(json.dumps(write_trial(plan)), encoding="utf-8")
        (beside / MARKER).write_text(wanted, encoding="utf-8")
        beside.chmod(0o755)
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return out
