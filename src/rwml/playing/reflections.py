"""Self-reflections: why an expert's action is better than others that were possible, in a language model's words.

Early experience: Zhang et al. 2025, arXiv 2510.08558, self-reflection; the row SR of RWML's tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rwml.core.prompts import THINK
from rwml.core.recipe.sections import JudgeConfig
from rwml.core.seeds import seed_of
from rwml.core.types import Episode, Step
from rwml.models.chat import ChatFormat
from rwml.models.server import ApiModel, ChatReply
from rwml.playing.branches import other_steps
from rwml.playing.demonstrations import with_thoughts
from rwml.worlds.base import Prompts, World

CUT_OFF = "cut off at judge.max_new_tokens"
EMPTY = "empty"
MARKED = "holds tags or special tokens"
_TAGS = ("<think>", "<action>", "<tool_call>")

_ASK = """\
Someone skilled works at a task, one action at a time. Below are what they were given at the start, all that they did
and saw since, the action that they take now, and what it leads to{others_too}.

[start]
{opening}
{history}
[the action taken now]
{action}
[what it leads to]
{observation}
{others}
Write what they think just before they act: which part of the task is still open, what is known by now, {compare}and why
this action therefore comes next. Write in the first person, in two to five plain sentences. Do not tell what the action
will show, unless it could be known beforehand. No headings, lists or tags."""


@dataclass(frozen=True, slots=True)
class Reflection:
    """What a model wrote on one step of an episode.

    thought: "" if it gives nothing to learn, for the reason in `error`. alternatives: number of other actions that it
    was shown. Tokens are the server's counts.
    """

    episode: str
    step: int
    thought: str
    error: str
    alternatives: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def failure(self) -> str:
        """The kind of error, as it is counted: without the server's own words."""
        return self.error.partition(":")[0]


def reflect(
    world: World,
    chat: ChatFormat,
    episodes: Sequence[Episode],
    config: JudgeConfig,
    alternatives: int,
    seed: int,
) -> list[Reflection]:
    """One reflection on every step of expert episodes, in order, by the model of `config`.

    It is shown the state, the expert's action, and up to `alternatives` others with what they led to when they were
    tried (`branches.other_steps`). Raises RwmlError where the server cannot be reached at all.
    """
    writer = ApiModel.of(config)
    places = [
        (episode, number, others)
        for episode in episodes
        for number, others in enumerate(other_steps(world, episode, alternatives, seed_of(seed, "reflections")))
    ]
    asked = [[{"role": "user", "content": question(*place)}] for place in places]
    answers = writer.chat(asked, config.temperature, config.max_new_tokens) if asked else []
    return [
        _reflection(chat, episode, number, len(others), answer)
        for (episode, number, others), [answer] in zip(places, answers, strict=True)
    ]


def question(episode: Episode, number: int, others: Sequence[Step]) -> str:
    """What the model is asked about step `number` of an episode. others: other actions that were tried at this step."""
    step = episode.steps[number]
    history = "".join(f"[action]\n{past.action}\n[seen]\n{past.observation}\n" for past in episode.steps[:number])
    tried = "".join(
        f"[another possible action]\n{other.action}\n[what it would lead to]\n{other.observation}\n" for other in others
    )
    return _ASK.format(
        opening=episode.opening,
        history=history,
        action=step.action,
        observation=step.observation or "(the end)",
        others=tried,
        others_too=", with other actions that were possible and what those would lead to" if others else "",
        compare="what the other actions lack, " if others else "",
    )


def reflected(
    chat: ChatFormat, prompts: Prompts, episodes: Sequence[Episode], reflections: Sequence[Reflection]
) -> list[Episode]:
    """All episodes in order; those that were reflected on have the thoughts in their messages, where a step has one."""
    thoughts = {
        name: [reflection.thought or None for reflection in group]
        for name, group in groupby(reflections, key=lambda reflection: reflection.episode)
    }
    return [with_thoughts(chat, prompts, e, thoughts[e.id]) if e.id in thoughts else e for e in episodes]


def _reflection(chat: ChatFormat, episode: Episode, number: int, alternatives: int, answer: ChatReply) -> Reflection:
    # A model that reasons writes its own thinking first; the text after it is the reflection.
    thought = THINK.sub("", answer.text, count=1).rpartition("</think>")[2].strip()
    error = answer.error
    if not error and answer.truncated:
        error = CUT_OFF
    elif not error and not thought:
        error = EMPTY
    elif not error and any(mark in thought for mark in (*_TAGS, *chat.tokenizer.all_special_tokens)):
        error = MARKED
    tokens = answer.prompt_tokens, answer.completion_tokens
    return Reflection(episode.id, number, "" if error else thought, error, alternatives, *tokens)
