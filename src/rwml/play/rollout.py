"""Playing many episodes at once: built-in policies one by one, a language model in lockstep as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from rwml.core.prompts import parse_action
from rwml.core.seeds import seed_of
from rwml.core.tool_calls import ToolCall, calls_of, parse_message
from rwml.core.types import Episode, Step, StopReason, Task
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Completion, Sampler, SamplingParams
from rwml.worlds.base import Env, Prompts, World


@dataclass(frozen=True, slots=True)
class Seat:
    """One episode to be played. seed: of the environment and of a built-in policy."""

    task: Task
    rollout: int
    seed: int


@dataclass(frozen=True, slots=True)
class SampledEpisode:
    """An episode with what the language model saw and wrote.

    ids: the whole conversation [T]; sampled: True where the model wrote the token [T]; logprobs: of the sampled
    tokens under the sampling distribution, 0 elsewhere [T].
    """

    episode: Episode
    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]


def seats_for(tasks: Sequence[Task], rollouts: int, seed: int) -> list[Seat]:
    """`rollouts` seats for each task; every seat's seed follows from the run's seed, the task and the rollout."""
    return [Seat(task, rollout, seed_of(seed, task.id, rollout)) for task in tasks for rollout in range(rollouts)]


def answered_calls(prompts: Prompts, step: Step) -> tuple[ToolCall, ...]:
    """The tool calls that a step's observation is the response to; () where it is told as a user's message."""
    return calls_of(step.action) if prompts.actions == "calls" and step.kind == "tool" else ()


@dataclass(slots=True)
class _Game:
    """An episode in flight."""

    seat: Seat
    env: Env
    policy: str
    opening: str = ""
    steps: list[Step] = field(default_factory=list)
    stop: StopReason | None = None
    error: str = ""
    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Reset the environment; a world that fails makes a failed episode, not a crash."""
        try:
            self.opening = self.env.reset(self.seat.task, self.seat.seed)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        self.stop, self.error = StopReason.ERROR, f"{type(error).__name__}: {error}"

    def play(self, action: str | None, text: str, truncated: bool, max_steps: int) -> None:
        """Give the world one action (None: nothing could be parsed) and note what comes of it."""
        try:
            result = self.env.step(action or "")
        except Exception as error:
            self.fail(error)
            return
        parsed = action is not None
        self.steps.append(
            Step(
                action or "",
                text,
                result.observation,
                result.kind,
                parsed,
                parsed and result.valid,
                truncated,
                result.reward,
            )
        )
        if result.terminated:
            self.stop = StopReason.SUCCESS if self.env.success else StopReason.FAILURE
        elif len(self.steps) >= max_steps:
            self.stop = StopReason.STEP_LIMIT

    def append(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Add tokens to the conversation; `logprobs` marks them as sampled."""
        self.ids.extend(ids)
        self.sampled.extend([logprobs is not None] * len(ids))
        self.logprobs.extend([0.0] * len(ids) if logprobs is None else logprobs)

    def finish(self) -> SampledEpisode:
        task, stop = self.seat.task, self.stop or StopReason.STEP_LIMIT
        episode = Episode(
            id=f"{task.id}#{self.policy}{self.seat.rollout}",
            task=task,
            policy=self.policy,
            rollout=self.seat.rollout,
            seed=self.seat.seed,
            opening=self.opening,
            steps=tuple(self.steps),
            stop=stop,
            success=stop is StopReason.SUCCESS,
            error=self.error,
        )
        return SampledEpisode(episode, self.ids, self.sampled, self.logprobs)


def play_built_in(
    world: World,
    seats: Sequence[Seat],
    name: str,
    max_steps: int,
    write: Callable[[str, str], str] | None = None,
) -> list[Episode]:
    """Play seats with a built-in policy, which sees the observations and the admissible actions only.

    write: makes a step's text out of the action and the policy's thought (None: the text is the action).
    """
    episodes = []
    for seat in seats:
        game = _Game(seat, world.env(), name)
        game.start()
        policy = world.policy(name, seat.seed)
        observation = game.opening
        while game.stop is None:
            action = policy.act(observation, game.env.admissible)
            text = write(action, policy.thought()) if write else action
            game.play(action, text, False, max_steps)
            observation = game.steps[-1].observation if game.steps else ""
        episodes.append(game.finish().episode)
    return episodes


@dataclass(frozen=True, slots=True)
class LanguageModelPolicy:
    """A language model as a policy, in a growing conversation: it answers `<think>...</think><action>...</action>`, or
    with tool calls and messages to a user, as the world's prompts say.

    max_context: tokens that a conversation may reach; an episode that would pass it stops with `context_limit`.
    """

    lm: LanguageModel
    sampler: Sampler
    prompts: Prompts
    params: SamplingParams
    max_steps: int
    max_context: int
    name: str = "model"

    def play(
        self,
        world: World,
        seats: Sequence[Seat],
        generator: torch.Generator,
        on_turn: Callable[[int], None] | None = None,
    ) -> list[SampledEpisode]:
        """Play all seats together, one assistant message each per turn. on_turn: told how many are still live."""
        games = [_Game(seat, world.env(), self.name) for seat in seats]
        chat = self.lm.chat
        for game in games:
            game.start()
            game.append(chat.opening(self.prompts.agent, game.opening) + chat.ask())
        conversation = self.sampler.session([game.ids for game in games])
        live = self._still_live(games, range(len(games)), conversation.drop)
        while live:
            answers = conversation.decode(live, self.params, generator)
            told = [self._turn(games[row], answer) for row, answer in zip(live, answers, strict=True)]
            going = [(row, ids) for row, ids in zip(live, told, strict=True) if games[row].stop is None]
            conversation.drop([row for row in live if games[row].stop is not None])
            conversation.extend([row for row, _ in going], [ids for _, ids in going])
            live = self._still_live(games, [row for row, _ in going], conversation.drop)
            if on_turn is not None:
                on_turn(len(live))
        return [game.finish() for game in games]

    def _turn(self, game: _Game, answer: Completion) -> list[int]:
        text = self.lm.chat.decode(answer.ids)
        game.append(answer.ids, answer.logprobs)
        game.play(self._action(text, answer.truncated), text, answer.truncated, self.max_steps)
        if game.stop is not None:
            return []
        step, chat = game.steps[-1], self.lm.chat
        calls = answered_calls(self.prompts, step)
        told = chat.turn_after(answer.ids, step.observation, calls) + chat.ask(after_tool=bool(calls))
        game.append(told)
        return told

    def _action(self, text: str, truncated: bool) -> str | None:
        """The action in what the model wrote, None where there is none to be read.

        A message has no closing tag that would be missed: one that was cut off is never read as a whole one.
        """
        message = self.lm.chat.message_of(text)
        if self.prompts.actions == "tags":
            return parse_action(message, truncated)
        return None if truncated else parse_message(message)

    def _still_live(self, games: list[_Game], rows: Sequence[int], drop: Callable[[list[int]], None]) -> list[int]:
        for row in rows:
            game = games[row]
            if game.stop is None and len(game.ids) + self.params.max_new_tokens > self.max_context:
                game.stop = StopReason.CONTEXT_LIMIT
                drop([row])
        stopped = [row for row in rows if games[row].stop is StopReason.ERROR]
        if stopped:
            drop(stopped)
        return [row for row in rows if games[row].stop is None]


def play_seats(
    world: World,
    seats: Sequence[Seat],
    policy: str,
    load: Callable[[], LanguageModelPolicy],
    max_steps: int,
    generator: torch.Generator,
) -> list[Episode]:
    """Play seats with the policy of that name: "model" is the one that `load` returns, any other the world's."""
    if policy != "model":
        return play_built_in(world, seats, policy, max_steps)
    return [played.episode for played in load().play(world, seats, generator)]
