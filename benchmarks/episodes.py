"""ALFWorld transitions with answers to them, for the benchmarks of the update: every side trains on the same tokens.

Episodes are played by the noisy policy in official games (below $ALFWORLD_DATA), or else in scenes of official size
that rwml makes. Each transition gets G answers of one length, as a model that thinks first would write them: words of
the episode so far as the thought, then the true next state, or that with names and numbers confused. Every group has at
least one right and one wrong answer: no group is skipped, so that all sides have the same work to do.
"""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwml.core.prompts import next_state_text
from rwml.core.types import Episode, PredictedState, Transition
from rwml.models.language_model import LanguageModel, load_language_model, save_language_model
from rwml.models.tiny import TinyShape, new_model
from rwml.playing.rollout import play_built_in, seats_for
from rwml.trees.objectives import group_advantages
from rwml.world_models.language import question_ids
from rwml.worlds.base import World
from rwml.worlds.by_name import get_world
from rwml.worlds.transitions import transitions_of

POLICY = "noisy:0.6"
TASKS_LOOKED_AT = 400


@dataclass(frozen=True, slots=True)
class Work:
    """What one update learns from. rewards_PG: 1 where the next state is right; style: of the prompts."""

    transitions: list[Transition]
    answers: list[list[PredictedState]]
    rewards_PG: np.ndarray
    style: str
    source: str

    @property
    def group_size(self) -> int:
        return int(self.rewards_PG.shape[1])

    def advantages_PG(self) -> np.ndarray:
        """Those that rwml computes; the peers are given the same."""
        return group_advantages(torch.from_numpy(self.rewards_PG))[0].numpy()

    def questions(self, lm: LanguageModel) -> list[list[int]]:
        """Prompt ids of every transition."""
        prompts = get_world("alfworld").prompts(self.style)
        return [question_ids(lm.chat, prompts, row) for row in self.transitions]

    def save(self, path: Path) -> None:
        """As JSON."""
        fields = {
            "transitions": [asdict(row) for row in self.transitions],
            "answers": [[asdict(answer) for answer in group] for group in self.answers],
            "rewards": self.rewards_PG.tolist(),
            "style": self.style,
            "source": self.source,
        }
        path.write_text(json.dumps(fields))

    @classmethod
    def load(cls, path: Path) -> Work:
        """What `save` wrote."""
        fields = json.loads(path.read_text())
        rows = [Transition(**{**row, "history": tuple(row["history"])}) for row in fields["transitions"]]
        answers = [
            [
                PredictedState("", a["text"], a["next_state"], truncated=a["truncated"], ids=tuple(a["ids"]))
                for a in group
            ]
            for group in fields["answers"]
        ]
        return cls(rows, answers, np.array(fields["rewards"], dtype=np.float32), fields["style"], fields["source"])


def make_world() -> tuple[World, str]:
    """The official games if they are installed, else scenes of their size; and which of both."""
    if os.environ.get("ALFWORLD_DATA"):
        return get_world("alfworld", source="official"), "official games"
    return get_world("alfworld", size="official", num_train=TASKS_LOOKED_AT), "generated scenes of official size"


def make_lm(folder: Path, shape: TinyShape, seed: int = 0) -> LanguageModel:
    """A Qwen3 of random weights with the tiny model's tokenizer, saved in `folder` for every side to load."""
    tiny = load_language_model("tiny", device="cpu")
    model = new_model(shape, len(tiny.tokenizer), seed)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tiny.tokenizer.eos_token_id, tiny.tokenizer.pad_token_id
    save_language_model(LanguageModel(model, tiny.tokenizer, tiny.chat, "random"), folder)
    return load_language_model(folder, device="cpu")


def play(world: World, count: int, steps: int, seed: int) -> list[Episode]:
    """`count` episodes that last `steps` steps or more."""
    episodes: list[Episode] = []
    for task in world.tasks("train")[:TASKS_LOOKED_AT]:
        episode = play_built_in(world, seats_for([task], 1, seed), POLICY, steps)[0]
        if len(episode.steps) >= steps:
            episodes.append(episode)
        if len(episodes) == count:
            return episodes
    raise SystemExit(f"only {len(episodes)} of {TASKS_LOOKED_AT} games last {steps} steps; ask for fewer --steps")


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """G answers of so many tokens to each prompt, the prompts in this style; all chosen by the seed."""

    group: int
    tokens: int
    style: str
    seed: int


def whole_episodes(lm: LanguageModel, count: int, steps: int, shape: AnswerShape) -> Work:
    """Every step of `count` episodes, with its full history."""
    world, source = make_world()
    episodes = play(world, count, steps, shape.seed)
    rows = [row for episode in episodes for row in transitions_of(episode, world, "train")]
    return with_answers(lm, rows, source, shape)


def single_prompts(lm: LanguageModel, count: int, prompt_tokens: int, shape: AnswerShape) -> Work:
    """One transition of each of `count` episodes: the one whose prompt is nearest to `prompt_tokens`."""
    world, source = make_world()
    rows = []
    for episode in play(world, count, 40, shape.seed):
        steps = list(transitions_of(episode, world, "train"))
        prompts = world.prompts(shape.style)
        rows.append(min(steps, key=lambda row: abs(len(question_ids(lm.chat, prompts, row)) - prompt_tokens)))
    return with_answers(lm, rows, source, shape)


def with_answers(lm: LanguageModel, rows: list[Transition], source: str, shape: AnswerShape) -> Work:
    """G answers to each transition, from the seed alone."""
    rng = random.Random(shape.seed)
    answers, rewards = [], []
    for row in rows:
        texts = _next_states(row, shape.group, rng)
        answers.append([_answer(lm, row, text, shape.tokens, rng) for text in texts])
        rewards.append([float(text == row.next_state) for text in texts])
    return Work(rows, answers, np.array(rewards, dtype=np.float32), shape.style, source)


def _next_states(row: Transition, group: int, rng: random.Random) -> list[str]:
    """`group` guesses in random order; the truth and something else are among them."""
    other = "Nothing happens." if row.next_state != "Nothing happens." else "You see nothing."
    guesses = [row.next_state, other]
    seen = re.findall(r"an? [a-z]+ \d+", " ".join([row.opening, *row.history])) or ["a mug 1"]
    while len(guesses) < group:
        text = re.sub(r"an? [a-z]+ \d+", lambda m: rng.choice([m[0], rng.choice(seen)]), row.next_state)
        guesses.append(re.sub(r"\d+", lambda m: rng.choice([m[0], m[0], str(rng.randint(1, 6))]), text))
    rng.shuffle(guesses)
    return guesses


def _answer(lm: LanguageModel, row: Transition, text: str, tokens: int, rng: random.Random) -> PredictedState:
    """An answer of `tokens` tokens, or more where the next state alone is longer; its thought is cut to fit."""
    chat = lm.chat
    bare = chat.text(next_state_text(text)) + chat.to_user[:1]
    opened = len(chat.text("<think>"))
    words = chat.text(" ".join(rng.sample([row.opening, *row.history], len(row.history) + 1)) * 2)
    ids = [*bare[:opened], *words[: max(0, tokens - len(bare))], *bare[opened:]]
    return PredictedState("", chat.decode(ids), text, ids=tuple(ids))


def describe(work: Work, lm: LanguageModel) -> dict[str, Any]:
    """Sizes, for the table and the JSON file."""
    prompts = [len(ids) for ids in work.questions(lm)]
    lengths = [len(answer.ids) for group in work.answers for answer in group]
    return {
        "source": work.source,
        "prompts": len(prompts),
        "group_size": work.group_size,
        "prompt_tokens": [min(prompts), sum(prompts) / len(prompts), max(prompts)],
        "answer_tokens": [min(lengths), sum(lengths) / len(lengths), max(lengths)],
    }
