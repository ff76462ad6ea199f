"""Whether words say that a task was done: against the game's own goal checker, and on words that nobody said."""

from __future__ import annotations

import pytest

from rwml.playing.rollout import play_built_in, seats_for
from rwml.worlds.alfworld.outcome import granted, reads_win
from rwml.worlds.by_name import get_world

ROOM = "You are in a room. Looking quickly around you, you see a desk 1, a drawer 1, a fridge 1, and a shelf 1.\n\n"
TAKE = ("take mug 1 from desk 1", "You pick up the mug 1 from the desk 1.")
GO = ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing.")
PUT = ("move mug 1 to shelf 1", "You move the mug 1 to the shelf 1.")
COOL = ("cool mug 1 with fridge 1", "You cool the mug 1 using the fridge 1.")
SIMPLE, COLD, TWO = (f"{ROOM}Your task is to: put {what} in shelf." for what in ("a mug", "a cool mug", "two mug"))


def history_of(*exchanges: tuple[str, str]) -> list[str]:
    return [text for exchange in exchanges for text in exchange]


@pytest.mark.parametrize("size", ["tiny", "medium"])
def test_the_words_of_real_games_say_what_the_goal_checker_says(size: str) -> None:
    world = get_world("alfworld", size=size, num_train=36, num_valid_seen=1, num_valid_unseen=1)
    seats = seats_for(world.tasks("train"), 1, 3)
    episodes = play_built_in(world, seats, "noisy:0.7", 40) + play_built_in(world, seats, "expert", 9)
    outcomes = [
        (e.success, reads_win(e.opening, history_of(*((step.action, step.observation) for step in e.steps))))
        for e in episodes
    ]
    assert all(real == read for real, read in outcomes)
    assert 10 < sum(real for real, _ in outcomes) < 70
    assert len({e.task.kind for e in episodes}) == 6


def test_goals_by_hand() -> None:
    assert reads_win(SIMPLE, history_of(TAKE, GO, PUT)) is True
    assert reads_win(SIMPLE, history_of(TAKE, GO)) is False
    assert reads_win(COLD, history_of(TAKE, GO, PUT)) is False
    assert reads_win(COLD, history_of(TAKE, COOL, GO, PUT)) is True
    assert (
        reads_win(
            COLD,
            history_of(TAKE, COOL, ("heat mug 1 with fridge 1", "You heat the mug 1 using the fridge 1."), GO, PUT),
        )
        is False
    )
    assert reads_win(TWO, history_of(TAKE, GO, PUT)) is False
    one_there = ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 2.")
    assert reads_win(TWO, history_of(TAKE, one_there, PUT)) is True
    assert reads_win("You are lost.", history_of(TAKE)) is None


def test_a_win_is_no_matter_of_seeing_things() -> None:
    """A made-up sighting of the thing in its place is no win, nor is an answer about another thing or place."""
    seen = ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 1.")
    assert reads_win(SIMPLE, history_of(seen)) is False
    assert reads_win(SIMPLE, history_of(TAKE, GO, (PUT[0], "You move the mug 2 to the shelf 1."))) is False
    assert reads_win(SIMPLE, history_of(TAKE, GO, (PUT[0], "Nothing happens."))) is False
    assert reads_win(SIMPLE, history_of(TAKE, GO, (PUT[0], PUT[1] + " Well done!"))) is False


def test_a_lamp_counts_where_it_stands() -> None:
    opening = f"{ROOM}Your task is to: look at mug under the desklamp."
    light = ("use desklamp 1", "You turn on the desklamp 1.")
    desk = ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 1.")
    assert reads_win(opening, history_of(desk, light)) is False
    assert reads_win(opening, history_of(desk, light, TAKE)) is True
    assert reads_win(opening, history_of(desk, TAKE, light)) is True
    assert reads_win(opening, history_of(desk, TAKE, GO)) is False


def test_a_world_that_admits_everything() -> None:
    assert [granted(action) for action, _ in (TAKE, PUT, COOL)] == [TAKE[1], PUT[1], COOL[1]]
    assert granted("go to shelf 1") == "You arrive at shelf 1."
    assert granted("sing") == "You see nothing."
    assert reads_win(SIMPLE, history_of(*((action, granted(action)) for action, _ in (TAKE, GO, PUT)))) is True
