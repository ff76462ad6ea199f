"""Episodes in lockstep against the same episodes alone, and what a conversation keeps of the model's tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from made import teach
from rwml.core.prompts import parse_action
from rwml.core.tool_calls import ToolCall, call_text, calls_of, parse_message
from rwml.core.types import Episode, StopReason, Task
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.models.sampling.local import LocalSampler, local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.tiny import TinyShape, new_language_model
from rwml.playing.rollout import LanguageModelPolicy, SampledEpisode, play_built_in, seats_for
from rwml.worlds.base import Prompts, StepResult, World
from sampled import misses, plain_logprobs

MAX_STEPS = 5
MAX_NEW = 24


def policy_of(
    lm: LanguageModel, world: World, temperature: float = 1.0, max_context: int = 1000
) -> LanguageModelPolicy:
    sampler = local_sampler(lm)
    params = SamplingParams(MAX_NEW, temperature)
    return LanguageModelPolicy(lm, sampler, world.prompts("brief"), params, MAX_STEPS, max_context)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spans(played: SampledEpisode) -> list[tuple[int, int]]:
    """[start, stop) of every run of sampled tokens."""
    runs, at = [], 0
    for sampled, group in groupby(played.sampled):
        size = len(list(group))
        if sampled:
            runs.append((at, at + size))
        at += size
    return runs


@pytest.fixture(scope="module")
def played(model_folder: Path, world: World) -> list[SampledEpisode]:
    policy = policy_of(load_language_model(model_folder, device="cpu"), world)
    return policy.play(world, seats_for(world.tasks("train")[:4], 2, seed=3), generator())


def test_seats_have_seeds_of_their_own(world: World) -> None:
    tasks = world.tasks("train")[:3]
    seats = seats_for(tasks, 2, seed=7)
    assert [(seat.task, seat.rollout) for seat in seats] == [(task, n) for task in tasks for n in (0, 1)]
    assert [seat.seed for seat in seats] == [
        int.from_bytes(hashlib.sha256(f"7/{s.task.id}/{s.rollout}".encode()).digest()[:7], "big") for s in seats
    ]
    assert len({seat.seed for seat in seats + seats_for(tasks, 2, seed=8)}) == 12


def test_the_world_answers_in_lockstep_as_it_does_alone(world: World, played: list[SampledEpisode]) -> None:
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


def test_greedy_play_in_lockstep_is_greedy_play_alone(lm: LanguageModel, world: World) -> None:
    policy = policy_of(lm, world, temperature=0.0)
    seats = seats_for(world.tasks("train")[:4], 1, seed=0)
    together = policy.play(world, seats, generator())
    for seat, one in zip(seats, together, strict=True):
        [alone] = policy.play(world, [seat], generator())
        assert (alone.ids, alone.sampled, alone.episode) == (one.ids, one.sampled, one.episode)


def test_the_same_generator_plays_the_same(lm: LanguageModel, world: World, played: list[SampledEpisode]) -> None:
    seats = seats_for(world.tasks("train")[:4], 2, seed=3)
    assert policy_of(lm, world).play(world, seats, generator()) == played
    assert policy_of(lm, world).play(world, seats, generator(1)) != played


def test_an_unparsed_answer_is_a_step_in_which_nothing_happens(played: list[SampledEpisode]) -> None:
    unparsed = [step for p in played for step in p.episode.steps if not step.parsed]
    assert unparsed
    for step in unparsed:
        assert (step.action, step.observation, step.valid) == ("", "Nothing happens.", False)
        assert parse_action(step.text) is None
    parsed = [step for p in played for step in p.episode.steps if step.parsed]
    assert [parse_action(step.text) for step in parsed] == [step.action for step in parsed]


def test_tokens_marks_and_texts_line_up(lm: LanguageModel, world: World, played: list[SampledEpisode]) -> None:
    chat, prompts = lm.chat, world.prompts("brief")
    for p in played:
        assert len(p.ids) == len(p.sampled)
        runs = spans(p)
        assert [chat.decode(p.ids[a:b]) for a, b in runs] == [step.text for step in p.episode.steps]
        whole = chat.opening(prompts.agent, p.episode.opening) + chat.ask()
        for number, (step, (a, b)) in enumerate(zip(p.episode.steps, runs, strict=True), start=1):
            message = p.ids[a:b]
            assert step.truncated == (len(message) == MAX_NEW and message[-1] not in chat.stop_ids)
            assert (message[-1] in chat.stop_ids) != step.truncated
            whole += message
            if number < len(p.episode.steps):
                whole += chat.turn_after(message, step.observation) + chat.ask()
        assert p.ids == whole


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_are_those_that_a_plain_forward_pass_gives(lm: LanguageModel, world: World, temperature: float) -> None:
    """At the random numbers that each turn draws for the games that still run."""
    seats, same = seats_for(world.tasks("train")[:3], 2, seed=5), generator(2)
    games = policy_of(lm, world, temperature).play(world, seats, generator(2))
    turns = [spans(p) for p in games]
    for turn in range(max(map(len, turns))):
        live = [(p, runs[turn]) for p, runs in zip(games, turns, strict=True) if turn < len(runs)]
        for (p, (start, stop)), uniform in zip(live, torch.rand(len(live), MAX_NEW, generator=same), strict=True):
            ids = p.ids[start:stop]
            assert misses(plain_logprobs(lm.model, p.ids[:start], ids, temperature), ids, uniform) < 1e-5


def test_episodes_stop_at_the_step_limit(played: list[SampledEpisode]) -> None:
    for p in played:
        assert p.episode.success == (p.episode.stop is StopReason.SUCCESS)
        if p.episode.stop is StopReason.STEP_LIMIT:
            assert len(p.episode.steps) == MAX_STEPS
    assert {p.episode.stop for p in played} <= {StopReason.STEP_LIMIT, StopReason.SUCCESS}


def test_episodes_stop_before_they_outgrow_the_context(lm: LanguageModel, world: World) -> None:
    seats = seats_for(world.tasks("train")[:4], 1, seed=3)
    prompt = [len(lm.chat.opening("", world.env().reset(s.task)) + lm.chat.ask()) for s in seats]
    limit = sorted(prompt)[1] + MAX_NEW + 20  # room for a turn or two, and for some openings none
    games = policy_of(lm, world, max_context=limit).play(world, seats, generator())
    assert {p.episode.stop for p in games} >= {StopReason.CONTEXT_LIMIT}
    for p in games:
        if p.episode.stop is not StopReason.CONTEXT_LIMIT:
            continue
        assert not p.sampled[-1], "it stops once the world's answer leaves no room, not in the middle of a message"
        assert len(p.ids) + MAX_NEW > limit
        starts = [a for a, _ in spans(p)]
        assert all(start + MAX_NEW <= limit for start in starts)
        assert len(starts) == len(p.episode.steps) < MAX_STEPS


def test_a_context_that_takes_no_opening_plays_nothing(lm: LanguageModel, world: World) -> None:
    games = policy_of(lm, world, max_context=30).play(world, seats_for(world.tasks("train")[:2], 1, 0), generator())
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

    def policy(self, name: str, seed: int) -> Any:
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


def test_a_failing_world_fails_its_episode_and_no_other(lm: LanguageModel) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task(plan, "script", "train", "plan") for plan in PLANS], 1, 0)
    live: list[int] = []
    games = policy_of(lm, world).play(world, seats, generator(), live.append)
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


def test_a_world_that_fails_everywhere_ends(lm: LanguageModel) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task("crash 0", "script", "train", "plan")], 3, 0)
    games = policy_of(lm, world).play(world, seats, generator())
    assert [p.episode.stop for p in games] == [StopReason.ERROR] * 3
    assert len({p.episode.id for p in games}) == 3


def test_a_failing_world_fails_a_built_in_policys_episode(lm: LanguageModel) -> None:
    world: Any = ScriptWorld()
    seats = seats_for([Task(plan, "script", "train", "plan") for plan in PLANS], 1, 0)
    episodes = play_built_in(world, seats, "first", MAX_STEPS)
    assert outcomes(episodes) == OUTCOMES
    assert {step.text for episode in episodes for step in episode.steps} == {"look"}


def test_built_in_policies_play_the_same_again(world: World) -> None:
    seats = seats_for(world.tasks("train")[:4], 2, seed=1)
    for policy in world.policies():
        assert play_built_in(world, seats, policy, 12) == play_built_in(world, list(reversed(seats)), policy, 12)[::-1]
    noisy = play_built_in(world, seats, "noisy", 12)
    assert any(a.steps != b.steps for a, b in zip(noisy[::2], noisy[1::2], strict=True)), "rollouts of a task differ"


def test_the_expert_solves_small_scenes(world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "expert", 30)
    assert sum(episode.success for episode in episodes) == len(episodes) == 8
    for episode in episodes:
        assert episode.stop is StopReason.SUCCESS
        assert episode.steps[-1].reward == 1.0
        assert all(step.text == step.action and step.parsed for step in episode.steps)


LOOK, DONE, WRONG = (call_text([ToolCall(name, arguments)]) for name, arguments in
                     (("look", {"at": "desk 1"}), ("done", {}), ("fly", {})))  # fmt: skip
DESK = '<tools>\n{"name": "look", "parameters": {}}\n{"name": "done", "parameters": {}}\n</tools>\n\nFind the pen.'
# What the model learns to say, and what each is read as.
SAYINGS = {
    f"<tool_call>\n{LOOK}\n</tool_call>": LOOK,
    f"<think>{LOOK}</think><tool_call>\n{DONE}\n</tool_call>": DONE,
    f"<tool_call>\n{LOOK}\n</tool_call>\n<tool_call>\n{WRONG}\n</tool_call>": f"{LOOK}\n{WRONG}",
    "Which pen?": "Which pen?",
    f"<tool_call>\n{LOOK[:-1]}": None,
    "<think>": None,
}
UNREAD = "Error: that could not be read."


class Counter:
    """A desk with tools: it answers calls, and says so where it was given none."""

    admissible: Sequence[str] = ()
    success = False

    def reset(self, task: Task, seed: int = 0) -> str:
        self.success = False
        return DESK

    def step(self, action: str) -> StepResult:
        calls = calls_of(action)
        if not calls:
            return StepResult("The red one." if action else UNREAD, 0.0, False, True, "user")
        self.success = calls == (ToolCall("done", {}),)
        answers = ['{"pen": 1}' if call.name in ("look", "done") else "Error: no such tool" for call in calls]
        valid = not any(answer.startswith("Error") for answer in answers)
        return StepResult("\n".join(answers), float(self.success), self.success, valid, "tool")


class CounterWorld(ScriptWorld):
    def env(self) -> Any:
        return Counter()

    def prompts(self, style: str) -> Prompts:
        return Prompts("Help.", "", "{action}?", actions="calls")


@pytest.fixture(scope="module")
def caller() -> LanguageModel:
    """A model that answers with each of the sayings, in the open turn of a user as of a tool."""
    shape = TinyShape(vocab=420, hidden=32, intermediate=64, layers=1, heads=1, key_value_heads=1)
    lm = new_language_model([DESK, *SAYINGS, "The red one.", UNREAD] * 4, shape, seed=0)
    chat = lm.chat
    rows = []
    for saying in SAYINGS:
        for seen in ("The red one.", UNREAD, '{"pen": 1}'):
            tool = seen.startswith("{")
            start = chat.past_calls(calls_of(LOOK), seen) if tool else chat.past_turn("Which pen?", seen)
            rows.append(
                (chat.opening("Help.", DESK) + start + chat.ask(after_tool=tool), chat.text(saying) + chat.to_user[:1])
            )
        rows.append((chat.opening("Help.", DESK) + chat.ask(), chat.text(saying) + chat.to_user[:1]))
    teach(lm.model, rows)
    return lm


def test_calls_messages_and_what_cannot_be_read(caller: LanguageModel) -> None:
    """Every kind of answer becomes the step that it should, and the conversation is what the pieces make of it."""
    world: Any = CounterWorld()
    chat, prompts = caller.chat, world.prompts("brief")
    policy = LanguageModelPolicy(
        caller, LocalSampler(caller.model, chat.stop_ids), prompts, SamplingParams(60, 1.0), 6, 2000
    )
    games = policy.play(world, seats_for([Task("desk", "counter", "train", "desk")], 24, 0), generator())
    steps = [step for p in games for step in p.episode.steps]
    assert {step.text for step in steps} >= set(SAYINGS), "each was said"
    for step in steps:
        if step.text in SAYINGS:
            assert step.action == (SAYINGS[step.text] or "")
        action = None if step.truncated else parse_message(step.text)
        assert (step.action, step.parsed) == (action or "", action is not None)
        assert step.kind == ("tool" if calls_of(step.action) else "user")
        assert (step.observation == UNREAD) == (not step.parsed)
        assert step.valid == (step.parsed and "Error" not in step.observation)
    for p in games:
        assert p.episode.success == (p.episode.steps[-1].action == DONE)
        runs = spans(p)
        whole = chat.opening(prompts.agent, DESK) + chat.ask()
        for step, (a, b) in zip(p.episode.steps, runs, strict=True):
            whole += p.ids[a:b]
            if step is not p.episode.steps[-1]:
                calls = calls_of(step.action)
                whole += chat.turn_after(p.ids[a:b], step.observation, calls) + chat.ask(after_tool=bool(calls))
        assert p.ids == whole


def test_a_message_that_was_cut_off_is_not_read(caller: LanguageModel) -> None:
    world: Any = CounterWorld()
    assert len(caller.chat.text("Which pen?")) == 1, "only its end is cut off"
    params = SamplingParams(1, 1.0)
    policy = LanguageModelPolicy(
        caller, local_sampler(caller), world.prompts("brief"), params, 3, 2000
    )
    games = policy.play(world, seats_for([Task("desk", "counter", "train", "desk")], 12, 0), generator())
    steps = [step for p in games for step in p.episode.steps]
    cut = [step for step in steps if step.truncated]
    assert "Which pen?" in {step.text for step in cut}
    assert {(step.action, step.parsed, step.valid, step.observation) for step in cut} == {("", False, False, UNREAD)}
