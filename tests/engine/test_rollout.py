"""Episodes in lockstep against the same episodes alone, and what a conversation keeps of the model's tokens."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pytest
import torch

from rwml.core.prompts import parse_action
from rwml.core.types import Episode, StopReason, Task
from rwml.engine.rollout import ModelPlayer, Played, play_actor, seats_for
from rwml.models.hf import Mind
from rwml.models.sampler import Sampler, SamplingParams
from rwml.worlds.base import Prompts, StepResult, World

MAX_STEPS = 5
MAX_NEW = 24


def player_of(mind: Mind, world: World, temperature: float = 1.0, max_context: int = 1000) -> ModelPlayer:
    sampler = Sampler(mind.model, mind.chat.stop_ids)
    params = SamplingParams(MAX_NEW, temperature)
    return ModelPlayer(mind, sampler, world.prompts("brief"), params, MAX_STEPS, max_context)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spans(played: Played) -> list[tuple[int, int]]:
    """[start, stop) of every run of sampled tokens."""
    runs, at = [], 0
    for sampled, group in groupby(played.sampled):
        size = len(list(group))
        if sampled:
            runs.append((at, at + size))
        at += size
    return runs


@pytest.fixture
def played(mind: Mind, world: World) -> list[Played]:
    return player_of(mind, world).play(world, seats_for(world.tasks("train")[:4], 2, seed=3), generator())


def test_seats_have_seeds_of_their_own(world: World) -> None:
    tasks = world.tasks("train")[:3]
    seats = seats_for(tasks, 2, seed=7)
    assert [(seat.task, seat.rollout) for seat in seats] == [(task, n) for task in tasks for n in (0, 1)]
    assert [seat.seed for seat in seats] == [zlib.crc32(f"7/{s.task.id}/{s.rollout}".encode()) for s in seats]
    assert len({seat.seed for seat in seats + seats_for(tasks, 2, seed=8)}) == 12


def test_the_world_answers_in_lockstep_as_it_does_alone(world: World, played: list[Played]) -> None:
    steps = [step for p in played for step in p.episode.steps]
    assert len({step.parsed for step in steps}) == 2, "the model answers well and badly"
    for p in played:
        env = world.env()
        assert p.episode.opening == env.reset(p.episode.task, p.episode.seed)
        for step in p.episode.steps:
            alone = env.step(step.action)
            assert (step.observation, step.reward, step.kind) == (alone.observation, alone.reward, alone.kind)
            assert step.valid == (step.parsed and alone.valid)
        assert p.episode.success == env.success


def test_greedy_play_in_lockstep_is_greedy_play_alone(mind: Mind, world: World) -> None:
    player = player_of(mind, world, temperature=0.0)
    seats = seats_for(world.tasks("train")[:4], 1, seed=0)
    together = player.play(world, seats, generator())
    for seat, one in zip(seats, together, strict=True):
        [alone] = player.play(world, [seat], generator())
        assert (alone.ids, alone.sampled, alone.episode) == (one.ids, one.sampled, one.episode)
        assert alone.logprobs == pytest.approx(one.logprobs, abs=1e-4)


def test_the_same_generator_plays_the_same(mind: Mind, world: World, played: list[Played]) -> None:
    seats = seats_for(world.tasks("train")[:4], 2, seed=3)
    assert player_of(mind, world).play(world, seats, generator()) == played
    assert player_of(mind, world).play(world, seats, generator(1)) != played


def test_an_unparsed_answer_is_a_step_in_which_nothing_happens(played: list[Played]) -> None:
    unparsed = [step for p in played for step in p.episode.steps if not step.parsed]
    assert unparsed
    for step in unparsed:
        assert (step.action, step.observation, step.valid) == ("", "Nothing happens.", False)
        assert parse_action(step.text) is None
    parsed = [step for p in played for step in p.episode.steps if step.parsed]
    assert [parse_action(step.text) for step in parsed] == [step.action for step in parsed]


def test_tokens_marks_and_texts_line_up(mind: Mind, world: World, played: list[Played]) -> None:
    chat, prompts = mind.chat, world.prompts("brief")
    for p in played:
        assert len(p.ids) == len(p.sampled) == len(p.logprobs)
        runs = spans(p)
        assert [chat.decode(p.ids[a:b]) for a, b in runs] == [step.text for step in p.episode.steps]
        assert all(logprob == 0.0 for logprob, sampled in zip(p.logprobs, p.sampled, strict=True) if not sampled)
        whole = chat.opening(prompts.agent, p.episode.opening) + chat.ask()
        for number, (step, (a, b)) in enumerate(zip(p.episode.steps, runs, strict=True), start=1):
            said = p.ids[a:b]
            assert step.truncated == (len(said) == MAX_NEW and said[-1] not in chat.stop_ids)
            assert (said[-1] in chat.stop_ids) != step.truncated
            whole += said
            if number < len(p.episode.steps):
                whole += chat.turn_after(said, step.observation) + chat.ask()
        assert p.ids == whole


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_a_plain_forward_pass(mind: Mind, world: World, temperature: float) -> None:
    seats = seats_for(world.tasks("train")[:3], 2, seed=5)
    for p in player_of(mind, world, temperature).play(world, seats, generator(2)):
        with torch.no_grad():
            logits = mind.model(torch.tensor([p.ids])).logits[0].float() / temperature
        plain = logits.log_softmax(-1)
        for at, (token, sampled) in enumerate(zip(p.ids, p.sampled, strict=True)):
            if sampled:
                assert float(plain[at - 1, token]) == pytest.approx(p.logprobs[at], abs=1e-4)


def test_episodes_stop_at_the_step_limit(played: list[Played]) -> None:
    for p in played:
        assert p.episode.success == (p.episode.stop is StopReason.SUCCESS)
        if p.episode.stop is StopReason.STEP_LIMIT:
            assert len(p.episode.steps) == MAX_STEPS
    assert {p.episode.stop for p in played} <= {StopReason.STEP_LIMIT, StopReason.SUCCESS}


def test_episodes_stop_before_they_outgrow_the_context(mind: Mind, world: World) -> None:
    seats = seats_for(world.tasks("train")[:4], 1, seed=3)
    prompt = [len(mind.chat.opening("", world.env().reset(s.task)) + mind.chat.ask()) for s in seats]
    limit = sorted(prompt)[1] + MAX_NEW + 20  # room for a turn or two, and for some openings none
    games = player_of(mind, world, max_context=limit).play(world, seats, generator())
    assert {p.episode.stop for p in games} >= {StopReason.CONTEXT_LIMIT}
    for p in games:
        if p.episode.stop is not StopReason.CONTEXT_LIMIT:
            continue
        assert not p.sampled[-1], "it stops once the world's answer leaves no room, not in the middle of a message"
        assert len(p.ids) + MAX_NEW > limit
        starts = [a for a, _ in spans(p)]
        assert all(start + MAX_NEW <= limit for start in starts)
        assert len(starts) == len(p.episode.steps) < MAX_STEPS


def test_a_context_that_takes_no_opening_plays_nothing(mind: Mind, world: World) -> None:
    games = player_of(mind, world, max_context=30).play(world, seats_for(world.tasks("train")[:2], 1, 0), generator())
    assert [p.episode.stop for p in games] == [StopReason.CONTEXT_LIMIT] * 2
    assert [p.episode.steps for p in games] == [(), ()]


@dataclass
class Script:
    """An environment that does what its task's id says: "win 2" ends well at the second step."""

    plan: str = ""
    at: int = 0
    steps: int = 0
    success: bool = False
    admissible: Sequence[str] = field(default_factory=lambda: ("look", "wait"))

    def reset(self, task: Task, seed: int = 0) -> str:
        plan, at = task.id.split()
        self.plan, self.at, self.steps, self.success = plan, int(at), 0, False
        if self.plan == "crash" and not self.at:
            raise ValueError("no such room")
        return "You are in a room."

    def step(self, action: str) -> StepResult:
        self.steps += 1
        if self.steps < self.at or self.plan == "endless":
            return StepResult(f"step {self.steps}", 0.25, False, True, "tool")
        if self.plan == "crash":
            raise RuntimeError("the roof fell in")
        self.success = self.plan == "win"
        return StepResult("over", 1.0, True, True)


class ScriptWorld:
    """As much of a world as rollouts use."""

    name = "script"

    def env(self) -> Script:
        return Script()

    def actor(self, name: str, seed: int) -> Any:
        class First:
            def act(self, observation: str, admissible: Sequence[str]) -> str:
                return admissible[0]

        return First()

    def prompts(self, style: str) -> Prompts:
        return Prompts("", "", "{action}")


PLANS = ("win 2", "lose 1", "crash 0", "crash 1", "crash 3", "endless 9", "win 5")
OUTCOMES = {
    "win 2": (StopReason.SUCCESS, 2, ""),
    "lose 1": (StopReason.FAILURE, 1, ""),
    "crash 0": (StopReason.ERROR, 0, "ValueError: no such room"),
    "crash 1": (StopReason.ERROR, 0, "RuntimeError: the roof fell in"),
    "crash 3": (StopReason.ERROR, 2, "RuntimeError: the roof fell in"),
    "endless 9": (StopReason.STEP_LIMIT, MAX_STEPS, ""),
    "win 5": (StopReason.SUCCESS, MAX_STEPS, ""),
}


def outcomes(episodes: Sequence[Episode]) -> dict[str, tuple[StopReason, int, str]]:
    return {e.task.id: (e.stop, len(e.steps), e.error) for e in episodes}


def test_a_failing_world_fails_its_episode_and_no_other(mind: Mind) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task(plan, "script", "train", "plan") for plan in PLANS], 1, 0)
    live: list[int] = []
    games = player_of(mind, world).play(world, seats, generator(), live.append)
    assert outcomes([p.episode for p in games]) == OUTCOMES
    assert [p.episode.task.id for p in games] == list(PLANS)
    assert [p.episode.success for p in games] == [plan.startswith("win") for plan in PLANS]
    # Six begin; one loses and one crashes at the first step, one wins at the second, one crashes at the third.
    assert live == [4, 3, 2, 2, 0]
    by_plan = {p.episode.task.id: p for p in games}
    assert len(spans(by_plan["crash 3"])) == 3, "what the model wrote before the crash is kept"
    steps = by_plan["win 2"].episode.steps
    assert [(step.observation, step.kind, step.reward) for step in steps] == [("step 1", "tool", 0.25),
                                                                              ("over", "text", 1.0)]  # fmt: skip


def test_a_world_that_fails_everywhere_ends(mind: Mind) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task("crash 0", "script", "train", "plan")], 3, 0)
    games = player_of(mind, world).play(world, seats, generator())
    assert [p.episode.stop for p in games] == [StopReason.ERROR] * 3
    assert len({p.episode.id for p in games}) == 3


def test_a_failing_world_fails_an_actors_episode(mind: Mind) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task(plan, "script", "train", "plan") for plan in PLANS], 1, 0)
    episodes = play_actor(world, seats, "first", MAX_STEPS)
    assert outcomes(episodes) == OUTCOMES
    assert {step.text for episode in episodes for step in episode.steps} == {"look"}


def test_actors_play_the_same_again(world: World) -> None:
    seats = seats_for(world.tasks("train")[:4], 2, seed=1)
    for actor in world.actors():
        assert play_actor(world, seats, actor, 12) == play_actor(world, list(reversed(seats)), actor, 12)[::-1]
    noisy = play_actor(world, seats, "noisy", 12)
    assert any(a.steps != b.steps for a, b in zip(noisy[::2], noisy[1::2], strict=True)), "rollouts of a task differ"


def test_the_expert_solves_small_scenes(world: World) -> None:
    episodes = play_actor(world, seats_for(world.tasks("train"), 1, seed=0), "expert", 30)
    assert sum(episode.success for episode in episodes) == len(episodes) == 8
    for episode in episodes:
        assert episode.stop is StopReason.SUCCESS
        assert episode.steps[-1].reward == 1.0
        assert all(step.text == step.action and step.parsed for step in episode.steps)
