"""Demonstrations against real play, against text written by hand, and against the model class's own loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rwml.core.prompts import action_text
from rwml.core.types import Episode, Step, StopReason, Task
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.demonstrations import conversation, expert_episodes, message_text, with_thoughts
from rwml.playing.rollout import LanguageModelPolicy, play_built_in, seats_for
from rwml.train.batches import demonstration_trees
from rwml.trees.forward import tree_logprobs
from rwml.trees.tree import pack
from rwml.worlds.base import Prompts, World

CALL = '{"name": "look", "arguments": {"id": 1}}'
CALLS = Prompts("Act.", "", "", "calls")
TAGS = Prompts("Act.", "", "")


def text_of(lm: LanguageModel, ids: list[int]) -> str:
    return str(lm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def episode_of(*steps: Step) -> Episode:
    task = Task("t", "w", "train", "k")
    return Episode("t#0", task, "model", 0, 0, "Go.", steps, StopReason.SUCCESS, True)


def test_an_own_episode_is_shown_as_it_was_played(lm: LanguageModel, world: World) -> None:
    """Read from its record alone, the conversation is the one that the policy had, message by message."""
    policy = LanguageModelPolicy(
        lm, local_sampler(lm), world.prompts("brief"), SamplingParams(22), 5, 1000
    )
    played = policy.play(world, seats_for(world.tasks("train")[:4], 2, 0), torch.Generator().manual_seed(2))
    learnt = left = 0
    for one in played:
        steps = one.episode.steps
        ids, messages = conversation(lm.chat, policy.prompts, one.episode)
        assert text_of(lm, ids) == text_of(lm, one.ids)
        good = [step for step in steps if step.parsed and not step.truncated]
        assert [text_of(lm, ids[m.start : m.stop]) for m in messages] == [step.text + "<|end|>" for step in good]
        learnt, left = learnt + len(good), left + len(steps) - len(good)
    assert learnt > 5
    assert left > 5, "messages that were cut off or unreadable are among them"


def test_bare_actions_are_put_in_the_form_of_a_message(lm: LanguageModel) -> None:
    steps = (
        Step("go", "go", "Seen."),
        Step("take", "<think>why</think>\ntake", "Taken."),
        Step("put", "<think>so</think><action>put</action>", ""),
    )
    ids, messages = conversation(lm.chat, TAGS, episode_of(*steps))
    said = [text_of(lm, ids[m.start : m.stop]) for m in messages]
    assert said == [
        "<action>go</action><|end|>",
        "<think>why</think>\n<action>take</action><|end|>",
        "<think>so</think><action>put</action><|end|>",
    ]
    user, model = "<|end|><|user|>", "<|end|><|assistant|>"
    turns = f"{said[0][:-7]}{user}Seen.{model}{said[1][:-7]}{user}Taken.{model}{said[2]}"
    assert text_of(lm, ids).endswith(f"Act.\n\nGo.{model}{turns}")


def test_calls_are_written_as_the_chat_format_writes_them(lm: LanguageModel) -> None:
    """A template without tools: calls and responses in tags, and a thought, if any, before the call."""
    steps = (
        Step(CALL, CALL, '{"x": 2}', "tool"),
        Step("Is it on?", "Is it on?", "Yes.", "user"),
        Step(CALL, f"<think>again</think>{CALL}", "", "tool"),
    )
    ids, messages = conversation(lm.chat, CALLS, episode_of(*steps))
    call = f"<tool_call>\n{CALL}\n</tool_call>"
    said = [call, "Is it on?", f"<think>again</think>{call}"]
    assert [text_of(lm, ids[m.start : m.stop]) for m in messages] == [f"{text}<|end|>" for text in said]
    user, model = "<|end|><|user|>", "<|end|><|assistant|>"
    response = '<tool_response>\n{"x": 2}\n</tool_response>'
    turns = f"{said[0]}{user}{response}{model}{said[1]}{user}Yes.{model}{said[2]}<|end|>"
    assert text_of(lm, ids).endswith(f"Act.\n\nGo.{model}{turns}")
    assert message_text(lm.chat, CALLS, CALL, "") == call
    assert message_text(lm.chat, CALLS, CALL, "why") == f"<think>why</think>{call}"
    assert message_text(lm.chat, TAGS, "go", "") == "<think></think><action>go</action>"


def test_the_expert_says_what_it_thinks(lm: LanguageModel, world: World) -> None:
    """The same play as the bare expert's, with the thoughts that the expert gives when it is asked step by step."""
    tasks, prompts = world.tasks("train")[:3], world.prompts("brief")
    shown = expert_episodes(world, lm.chat, prompts, tasks, seed=4, max_steps=30)
    bare = play_built_in(world, seats_for(tasks, 1, 4), "expert", 30)
    assert [[step.action for step in e.steps] for e in shown] == [[step.action for step in e.steps] for e in bare]
    assert all(episode.success for episode in shown)
    for episode in shown:
        env, policy = world.env(), world.policy("expert", episode.seed)
        observation = env.reset(episode.task, episode.seed)
        for step in episode.steps:
            assert policy.act(observation, env.admissible) == step.action
            assert step.text == action_text(step.action, policy.thought())
            observation = env.step(step.action).observation
    thoughts = ["new"] + [None] * (len(shown[0].steps) - 1)
    again = with_thoughts(lm.chat, prompts, shown[0], thoughts)
    assert again.steps[0].text == f"<think>new</think><action>{shown[0].steps[0].action}</action>"
    assert again.steps[1].text == f"<think></think><action>{shown[0].steps[1].action}</action>"
    assert replace(again, steps=()) == replace(shown[0], steps=())


def test_the_loss_is_the_models_own(lm: LanguageModel, world: World) -> None:
    """Mean over a message's tokens, then over the messages of the batch, against one forward pass per message."""
    prompts = world.prompts("brief")
    tasks = world.tasks("train")[:2]
    expert = expert_episodes(world, lm.chat, prompts, tasks, seed=0, max_steps=30)
    noisy = play_built_in(world, seats_for(tasks[:1], 1, 3), "noisy:0.9", 3)
    cut = replace(noisy[0], steps=(*noisy[0].steps[:2], replace(noisy[0].steps[2], truncated=True)))
    episodes = [*expert, cut]
    trees = demonstration_trees(lm.chat, prompts, episodes)
    assert len(trees) == 2, "one tree per task"
    assert sum(t.num_tokens for t in trees) < sum(t.num_dense_tokens for t in trees), "the opening is shared"
    loss = 0.0
    for tree in pack(trees, 4096):
        loss -= float((torch.from_numpy(tree.w_ce) * tree_logprobs(lm.model, tree)).sum())
    own = []
    for episode in episodes:
        ids, messages = conversation(lm.chat, prompts, episode)
        for message in messages:
            labels = torch.full((1, len(ids)), -100)
            labels[0, message.start : message.stop] = torch.tensor(ids[message.start : message.stop])
            with torch.no_grad():
                own.append(float(lm.model(input_ids=torch.tensor([ids]), labels=labels).loss))
    assert len(own) == sum(len(e.steps) for e in episodes) - 1
    assert loss == pytest.approx(np.mean(own), abs=1e-5)
    assert sum(float(tree.w_ce.sum()) for tree in trees) == pytest.approx(1.0)
    assert not any(tree.w_kl.any() or tree.w_pos.any() or tree.w_neg.any() for tree in trees)
