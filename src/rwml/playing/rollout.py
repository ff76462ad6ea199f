"""Playing many episodes at once: built-in policies one by one, a language model in lockstep as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from rwml.core.errors import RwmlError
from rwml.core.prompts import parse_action
from rwml.core.seeds import seed_of
from rwml.core.tool_calls import ToolCall, calls_of, parse_message
from rwml.core.types import Episode, Step, StopReason, Task
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Completion, Sampler, SamplingParams
from rwml.worlds.answers import SoundEnv, WorldFailed, a_text, answered, reason_of
from rwml.worlds.base import BuiltInPolicy, Env, Prompts, World


@dataclass(frozen=True, slots=True)
class Seat:
    """One episode to be played. seed: of the environment and of a built-in policy."""

    task: Task
    rollout: int
    seed: int


@dataclass(frozen=True, slots=True)
class SampledEpisode:
    """An episode with what the language model saw and wrote.

    ids: the whole conversation [T], empty if no language model of this process played; sampled: True where the model
    wrote the token [T].
    """

    episode: Episode
    ids: list[int]
    sampled: list[bool]


def seats_for(tasks: Sequence[Task], rollouts: int, seed: int) -> list[Seat]:
    """`rollouts` seats for each task; every seat's seed follows from the run's seed, the task and the rollout."""
    return [Seat(task, rollout, seed_of(seed, task.id, rollout)) for task in tasks for rollout in range(rollouts)]


def answered_calls(prompts: Prompts, step: Step) -> tuple[ToolCall, ...]:
    """The tool calls that a step's observation is the response to; () where the observation is a user's message."""
    return calls_of(step.action) if prompts.actions == "calls" and step.kind == "tool" else ()


@dataclass(slots=True)
class Game:
    """An episode in flight, for a policy to play: `start` it, `play` actions until `stop` is set, `finish` it.

    env: its answers are checked (`SoundEnv`); what is wrong with them fails this episode and no other. policy: the name
    that the episode is filed under. max_steps: after so many the game stops with `step_limit`.
    stop: why the game is over, None while it runs; a policy may set it (`context_limit`). error: of a world that
    failed. ids, sampled: as in `SampledEpisode`, of a policy that is a language model.
    """

    seat: Seat
    env: Env
    policy: str
    max_steps: int
    opening: str = ""
    steps: list[Step] = field(default_factory=list)
    stop: StopReason | None = None
    error: str = ""
    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.env, SoundEnv):
            env = self.env
            self.env = SoundEnv(lambda: env)

    def start(self) -> None:
        """Reset the environment; a world that fails makes a failed episode, not a crash."""
        try:
            self.opening = self.env.reset(self.seat.task, self.seat.seed)
        except WorldFailed as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Stop the game because the world failed."""
        self.stop, self.error = StopReason.ERROR, reason_of(error)

    def play(self, action: str | None, text: str, *, truncated: bool = False) -> None:
        """Give the world one action (None: nothing could be parsed) and record the step.

        text: all that the policy wrote. truncated: it was cut at its limit of tokens.
        """
        try:
            result = self.env.step(action or "")
            success = result.terminated and self.env.success
        except WorldFailed as error:
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
            self.stop = StopReason.SUCCESS if success else StopReason.FAILURE
        elif len(self.steps) >= self.max_steps:
            self.stop = StopReason.STEP_LIMIT

    def append(self, ids: Sequence[int], *, sampled: bool = False) -> None:
        """Add tokens to the conversation. sampled: the model wrote them."""
        self.ids.extend(ids)
        self.sampled.extend([sampled] * len(ids))

    def finish(self) -> SampledEpisode:
        """The episode so far; an unfinished game counts as stopped at its step limit."""
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
        return SampledEpisode(episode, self.ids, self.sampled)


def play_built_in(
    world: World,
    seats: Sequence[Seat],
    name: str,
    max_steps: int,
    write: Callable[[str, str], str] | None = None,
) -> list[Episode]:
    """Play seats one by one with a world's own policy, which sees the observations and the admissible actions only.

    name: one of `World.policies`; RwmlError names the nearest. max_steps: per episode. write: makes a step's text out
    of the action and the policy's thought (None: the text is the action). A policy that fails makes a failed episode,
    as a world that fails does.
    """
    episodes = []
    for seat in seats:
        game = Game(seat, SoundEnv(world.env), name, max_steps)
        game.start()
        try:
            policy = _made(world, name, seat.seed)
            observation = game.opening
            while game.stop is None:
                action = acted(policy, observation, game.env.admissible)
                text = write(action, answered("the policy's thought", policy.thought, a_text)) if write else action
                game.play(action, text)
                observation = game.steps[-1].observation if game.steps else ""
        except WorldFailed as error:
            if game.stop is None:
                game.fail(error)
        episodes.append(game.finish().episode)
    return episodes


def acted(policy: BuiltInPolicy, observation: str, admissible: Sequence[str]) -> str:
    """A built-in policy's next action; `WorldFailed` where it raises or gives something else."""
    return answered("the policy's action", lambda: policy.act(observation, admissible), a_text)


def _made(world: World, name: str, seed: int) -> BuiltInPolicy:
    try:
        return world.policy(name, seed)
    except RwmlError:  # a name that the world does not have is no fault of this episode
        raise
    except (Exception, SystemExit) as error:
        raise WorldFailed(reason_of(error)) from error


@dataclass(frozen=True, slots=True)
class LanguageModelPolicy:
    """A language model as a policy, in a growing conversation: it answers `<think>...</think><action>...</action>`, or
    with tool calls and messages to a user, as the world's prompts say.

    max_steps: per episode. max_context: limit of a conversation in tokens; an episode that would exceed it stops with
    `context_limit`. name: the policy's name in its episodes.
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
        """Play all seats together, one assistant message each per turn.

        on_turn: called after each turn with the number of games that still run.
        """
        games = [Game(seat, SoundEnv(world.env), self.name, self.max_steps) for seat in seats]
        chat = self.lm.chat
        for game in games:
            game.start()
            game.append(chat.opening(self.prompts.agent, game.opening) + chat.ask())
        # What the model cannot continue is not read either: an opening may be of any length.
        conversation = self.sampler.session([game.ids[:1] if self._is_full(game) else game.ids for game in games])
        live = self._still_live(games, range(len(games)), conversation.drop)
        while live:
            messages = conversation.sample(live, self.params, generator)
            following = [self._turn(games[row], message) for row, message in zip(live, messages, strict=True)]
            running = [(row, ids) for row, ids in zip(live, following, strict=True) if games[row].stop is None]
            conversation.drop([row for row in live if games[row].stop is not None])
            conversation.extend([row for row, _ in running], [ids for _, ids in running])
            live = self._still_live(games, [row for row, _ in running], conversation.drop)
            if on_turn is not None:
                on_turn(len(live))
        return [game.finish() for game in games]

    def _turn(self, game: Game, message: Completion) -> list[int]:
        """Play one message; the ids that follow it in the conversation, none where the game is over."""
        text = self.lm.chat.decode(message.ids)
        game.append(message.ids, sampled=True)
        game.play(self._action(text, truncated=message.truncated), text, truncated=message.truncated)
        if game.stop is not None:
            return []
        step, chat = game.steps[-1], self.lm.chat
        calls = answered_calls(self.prompts, step)
        following = chat.turn_after(message.ids, step.observation, calls) + chat.ask(after_tool=bool(calls))
        game.append(following)
        return following

    def _action(self, text: str, *, truncated: bool) -> str | None:
        """The action of a model's answer, None if no action can be read. A message has no closing tag, so a cut-off
        answer is never read as a message.
        """
        message = self.lm.chat.message_of(text)
        if self.prompts.actions == "tags":
            return parse_action(message, truncated=truncated)
        return None if truncated else parse_message(message)

    def _is_full(self, game: Game) -> bool:
        return len(game.ids) + self.params.max_new_tokens > self.max_context

    def _still_live(self, games: list[Game], rows: Sequence[int], drop: Callable[[list[int]], None]) -> list[int]:
        for row in rows:
            game = games[row]
            if game.stop is None and self._is_full(game):
                game.stop = StopReason.CONTEXT_LIMIT
                drop([row])
        stopped = [row for row in rows if games[row].stop is StopReason.ERROR]
        if stopped:
            drop(stopped)
        return [row for row in rows if games[row].stop is None]
