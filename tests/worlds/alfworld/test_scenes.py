"""Generated scenes: solvable, reproducible, and of the promised sizes."""

from __future__ import annotations

import json

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import parse_game
from rwml.worlds.alfworld.pddl import make_game
from rwml.worlds.alfworld.scenes import (
    KINDS,
    SIZES,
    SPLITS,
    WARM_UP_OFFSET,
    SceneConfig,
    make_scene,
    number_names,
    plan_game,
    scene_numbers,
)

SIZE_NAMES = sorted(SIZES)


def start(config: SceneConfig, split: str, index: int) -> Game:
    game = Game(parse_game(json.dumps(make_game(config, split, index))))
    game.reset()
    return game


@pytest.mark.parametrize("size", SIZE_NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_plan_is_admissible_and_wins_with_its_last_step(size, split):
    config = SceneConfig(size, seed=5)
    for index in range(30):
        plan = plan_game(config, split, index)
        game = start(config, split, index)
        assert plan.kind == KINDS[index % 6]
        assert game.task == plan.sentence
        assert not game.won
        for number, command in enumerate(plan.walkthrough):
            assert command in game.admissible_commands
            _, reward, done = game.step(command)
            assert (reward, done) == ((1, True) if number == len(plan.walkthrough) - 1 else (0, False))


@pytest.mark.parametrize("size", SIZE_NAMES)
def test_sizes_are_as_documented(size):
    receptacles, objects, shared = [], [], 0
    for index in range(60):
        plan = plan_game(SceneConfig(size), "train", index)
        low, high = SIZES[size].receptacles[plan.scene.room]
        assert low <= len(plan.scene.receptacles) <= high or (size == "tiny" and plan.scene.room == "kitchen")
        # A lamp may come on top of the objects drawn.
        assert len(plan.objects) <= SIZES[size].objects[plan.scene.room][1] + 1
        receptacles.append(len(plan.scene.receptacles))
        objects.append(len(plan.objects))
        shared += len({one.place for one in plan.scene.receptacles}) < len(plan.scene.receptacles)
    means = sum(receptacles) / 60, sum(objects) / 60
    near = {"tiny": (5, 4), "small": (6.5, 7), "medium": (12, 15), "official": (23, 32)}[size]
    assert means == pytest.approx(near, rel=0.15)
    assert shared >= {"tiny": 0, "small": 4, "medium": 25, "official": 50}[size]


def test_a_game_depends_on_its_config_split_and_index_alone():
    # Golden: shipped weights and recorded runs rest on these games.
    plan = plan_game(SceneConfig("tiny"), "train", 2)
    assert plan.folder == "pick_clean_then_place_in_recep-SoapBar-None-Toilet-67/trial_0_00002"
    assert plan.walkthrough[:3] == ("go to cabinet 2", "open cabinet 2", "take soapbar 1 from cabinet 2")
    assert make_game(SceneConfig("tiny", num_train=9), "train", 2) == make_game(SceneConfig("tiny"), "train", 2)
    texts = {
        str(make_game(config, split, 2)["pddl_problem"])
        for config in (SceneConfig("tiny"), SceneConfig("tiny", seed=1), SceneConfig("small"))
        for split in SPLITS
    }
    assert len(texts) == 9


@pytest.mark.parametrize("size", SIZE_NAMES)
def test_pools_share_no_scene_that_looks_the_same(size):
    config = SceneConfig(size)
    warm_up = SceneConfig(size, scene_offset=WARM_UP_OFFSET, num_scenes=120)
    views = [
        {
            (make_scene(size, number).room, tuple(one.name for one in make_scene(size, number).receptacles))
            for number in numbers
        }
        for numbers in (
            scene_numbers(config, "train"),
            scene_numbers(config, "valid_unseen"),
            scene_numbers(warm_up, "train"),
        )
    ]
    assert scene_numbers(config, "train") == scene_numbers(config, "valid_seen")
    assert not views[0] & views[1]
    assert not views[0] & views[2]
    assert not views[1] & views[2]
    assert len(views[0]) >= 60


def test_names_count_down_over_sorted_ids():
    ids = ["Mug_bar__plus_00", "Mug_bar__minus_01", "Mug_bar__plus_02", "Sink_bar_00_bar_SinkBasin"]
    names = {"Mug_bar__minus_01": "mug 3", "Mug_bar__plus_00": "mug 2", "Mug_bar__plus_02": "mug 1"}
    assert number_names(ids) == {**names, "Sink_bar_00_bar_SinkBasin": "sinkbasin 1"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": "smal"}, "did you mean 'small'"),
        ({"kinds": ("pick_two_obj",)}, "did you mean 'pick_two_obj_and_place'"),
        ({"kinds": ()}, "at least one kind"),
        ({"num_scenes": 2}, "4 to 5000 scenes"),
    ],
)
def test_bad_settings_are_refused(fields, words):
    with pytest.raises(RwmlError) as caught:
        SceneConfig(**fields)
    assert words in str(caught.value)
