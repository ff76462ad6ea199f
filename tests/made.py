"""Records and tokenizers that several test files make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.types import Episode, PredictedState, Query, Step, StopReason, Task, Transition
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of


def transition(
    name: str, task: str, verb: str = "go", split: str = "valid_seen", *, knowable: bool = True
) -> Transition:
    return Transition(
        id=name, episode=f"e{task}", task=task, split=split, step=0, opening="You are in a room.", history=(),
        action=f"{verb} to desk 1", next_state="On the desk 1, you see a pen 1.", kind="text", verb=verb,
        valid=True, knowable=knowable,
    )  # fmt: skip


def answer(of: str, text: str | None, distance: float, *, truncated: bool = False) -> PredictedState:
    reason = "" if text is not None else "unparsed"
    reward = float(distance < 0.2)
    return PredictedState(of, text or "", text, truncated=truncated, reason=reason, distance=distance, reward=reward)


def episode(
    task: str, steps: tuple[Step, ...], kind: str = "pick", split: str = "valid_seen", seed: int = 0, *, success: bool
) -> Episode:  # fmt: skip
    stop = StopReason.SUCCESS if success else StopReason.STEP_LIMIT
    return Episode(f"{task}-{seed}", Task(task, "alfworld", split, kind), "model", 0, seed, "", steps, stop, success)


def byte_level_tokenizer(template: str, eos: str, marks: Sequence[str], texts: Sequence[str]) -> Any:
    """Byte-level BPE of 400 pieces that cuts line ends off words, as those of Qwen and Llama 3 do."""
    core = Tokenizer(models.BPE())
    pieces = Regex(r"\s*[\r\n]+| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(marks), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = template
    return tokenizer


def teach(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], steps: int = 60) -> None:
    """Train a small model until it answers each prompt with its answer: (ids of the prompt, ids of the answer)."""
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.tensor([[*prompt, *answer] + [0] * (longest - len(prompt) - len(answer)) for prompt, answer in rows])
    labels = torch.full_like(ids, -100)
    for row, (prompt, answer) in enumerate(rows):
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class Scripted:
    """A world model that answers by a rule, from the query and the real next state; it notes what it was asked.

    episodes: where the real next states come from.
    """

    name = "scripted"

    def __init__(
        self,
        rule: Callable[[Query, str], str | None],
        episodes: Iterable[Episode],
        world: World,
        history_steps: int = 0,
    ) -> None:
        self.rule, self.asked = rule, list[Query]()
        rows = [row for e in episodes for row in transitions_of(e, world, e.task.split, history_steps)]
        self.truths = {row.id: row.next_state for row in rows}

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        self.asked.extend(queries)
        answers = [self.rule(query, self.truths[query.id]) for query in queries]
        reasons = ["" if answer is not None else "unparsed" for answer in answers]
        return [
            [PredictedState(query.id, answer or "", answer, reason=reason)] * num_samples
            for query, answer, reason in zip(queries, answers, reasons, strict=True)
        ]


def hand_episode(*exchanges: tuple[str, str], number: int = 0) -> Episode:
    """An episode of (action, observation), without success; an action "" could not be read."""
    steps = tuple(Step(action, action, seen, parsed=bool(action)) for action, seen in exchanges)
    task = Task(f"train/{number}", "alfworld", "train", "pick_and_place_simple")
    return Episode(f"e{number}", task, "hand", 0, 0, "Start.", steps, StopReason.STEP_LIMIT, False)


MEASURE = {
    "splits": ["valid_seen"],
    "policies": ["expert"],
    "num_episodes": 2,
    "depth": 2,
    "max_new_tokens": 30,
    "num_transitions": 4,
    "bootstrap_samples": 100,
    "held_out": [{"options": {"size": "tiny", "num_valid_unseen": 2}, "num_episodes": 1, "max_steps": 4}],
}
"""A section [measure] that is done in a second."""

MINI: dict[str, Any] = {
    "name": "mini",
    "seed": 1,
    "world": {
        "max_steps": 4,
        "options": {"size": "tiny", "num_train": 12, "num_valid_seen": 3, "num_valid_unseen": 3, "num_scenes": 12},
    },
    "model": {"prompts": "brief", "device": "cpu", "max_context_tokens": 400},
    "embedding": {"device": "cpu"},
    "collect": {"num_tasks": 8, "rollouts_per_task": 2, "max_new_tokens": 24, "episodes_in_flight": 6},
    "transitions": {"valid_fraction": 0.2},
    "filter": {
        "predictor_fraction": 0.4,
        "predictor_learning_rate": 1e-3,
        "num_predictions": 2,
        "max_new_tokens": 30,
        "keep_probability": 0.2,
    },
    "train_wm": {
        "batch_size": 8,
        "group_size": 4,
        "learning_rate": 1e-3,
        "max_new_tokens": 30,
        "max_steps": 3,
        "checkpoint_every": 2,
        "tau_d": 0.6,
    },
    "train_policy": {
        "steps": 3,
        "tasks_per_step": 3,
        "group_size": 4,
        "learning_rate": 1e-3,
        "max_new_tokens": 24,
        "episode_max_steps": 3,
        "checkpoint_every": 2,
    },
    "evaluate": {
        "seeds": [0],
        "num_tasks": 2,
        "num_transitions": 6,
        "max_new_tokens": 30,
        "bootstrap_samples": 100,
    },
}
"""A recipe so small that all stages together take seconds."""


DESK = "You arrive at desk 2. On the desk 2, you see a cellphone 1, and a pen 1."
TURNED = "You arrive at desk 2. On the desk 2, you see a pen 1, and a cellphone 1."
MISSING = "You arrive at desk 2. On the desk 2, you see a pen 1."
OTHER_DESK = "You arrive at desk 1. On the desk 1, you see a cellphone 1, and a pen 1."
GENERIC = "The observation will describe the contents of desk 2."
DESK_ANSWERS = [DESK, TURNED, MISSING, OTHER_DESK, GENERIC, "Nothing happens.", None]
"""Predicted states, best first, of an action whose next state is `DESK`."""

BASE: dict[str, Any] = {"name": "base"}
RWML: dict[str, Any] = {"name": "rwml", "stages": ["train_wm"]}
POLICY: dict[str, Any] = {"name": "policy", "stages": ["train_policy"], "set": {"train_policy.start": "model"}}
BOTH: dict[str, Any] = {"name": "both", "stages": ["train_wm", "train_policy"]}
"""Arms of a comparison."""


def compare_recipe(*arms: dict[str, Any], **compare: Any) -> Recipe:
    return parse_recipe({"name": "x", "out": "runs/x", "compare": {"arms": [*arms], **compare}})
