"""Episodes as lessons for the policy: what the assistant says in each, and expert play to imitate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rwml.core.prompts import action_text, parse_action
from rwml.core.seeds import seed_of
from rwml.core.tool_calls import calls_of
from rwml.core.types import Episode, Step, Task
from rwml.models.chat import ChatFormat
from rwml.playing.rollout import answered_calls, play_built_in, seats_for
from rwml.worlds.base import Prompts, World

EXPERT = "expert"


def expert_episodes(
    world: World, chat: ChatFormat, prompts: Prompts, tasks: Sequence[Task], seed: int, max_steps: int
) -> list[Episode]:
    """One episode of every task by the world's expert.

    A step's text is the message that a model would have written, with the expert's own thought. RwmlError for a world
    without an expert.
    """
    return play_built_in(
        world,
        seats_for(tasks, 1, seed_of(seed, "demonstrations")),
        EXPERT,
        max_steps,
        lambda action, thought: message_text(chat, prompts, action, thought),
    )


def message_text(chat: ChatFormat, prompts: Prompts, action: str, thought: str) -> str:
    """An assistant message that takes an action after a thought, as the chat template writes it.

    Tagged actions (`prompts.actions`) always have a thought, empty or not; otherwise an empty thought is left out.
    """
    if prompts.actions == "tags":
        return action_text(action, thought)
    calls = calls_of(action)
    think = f"<think>{thought}</think>" if thought else ""
    return think + (chat.tools.message(calls) if calls else action)


def with_thoughts(chat: ChatFormat, prompts: Prompts, episode: Episode, thoughts: Sequence[str | None]) -> Episode:
    """The episode with each step's message written again after its thought; None = no thought."""
    steps = [
        replace(step, text=message_text(chat, prompts, step.action, thought or ""))
        for step, thought in zip(episode.steps, thoughts, strict=True)
    ]
    return replace(episode, steps=tuple(steps))


def conversation(chat: ChatFormat, prompts: Prompts, episode: Episode) -> tuple[list[int], list[range]]:
    """The episode as the policy reads and writes it: ids [T], and the token ranges of the messages to learn.

    A message is learnt up to and with the token that ends it. A message that was cut off or could not be read stays in
    the conversation and is not learnt. Texts are tokenised again; built-in policies' bare actions get a message's form.
    """
    ids = chat.opening(prompts.agent, episode.opening) + chat.ask()
    messages = []
    for number, step in enumerate(episode.steps, start=1):
        text = _assistant_text(chat, prompts, step)
        # A message without an action may have ended inside its thought, which nothing closed then.
        whole = chat.completion_of(text) if step.parsed else text.removeprefix(chat.thought_open)
        message = chat.text(text) if step.truncated else chat.text(whole) + chat.to_user[:1]
        if step.parsed and not step.truncated:
            messages.append(range(len(ids), len(ids) + len(message)))
        ids += message
        if number < len(episode.steps):
            calls = answered_calls(prompts, step)
            ids += chat.turn_after(message, step.observation, calls) + chat.ask(after_tool=bool(calls))
    return ids, messages


def _assistant_text(chat: ChatFormat, prompts: Prompts, step: Step) -> str:
    """What the policy wrote; a bare action at its end is put into the form that models write."""
    if not (step.parsed and step.text.endswith(step.action)):
        return step.text
    before = step.text.removesuffix(step.action)
    if prompts.actions == "tags":
        return step.text if parse_action(step.text) == step.action else before + action_text(step.action)
    calls = calls_of(step.action)
    return before + (chat.tools.message(calls) if calls else step.action)
