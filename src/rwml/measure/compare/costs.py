"""What the stages of a run cost: seconds, tokens that were sampled, and tokens that an update read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rwml.core.records import Parts, read_episodes
from rwml.core.run import Run
from rwml.core.types import PredictedState
from rwml.models.chat import ChatFormat

Cost = dict[str, float]
"""seconds; sampled, trained: tokens; steps: updates; memory_mb: peak."""


def stage_costs(run: Run, stages: Sequence[str], chat: ChatFormat) -> dict[str, Cost]:
    """The cost of each of the stages that is done, one that was taken over from another run included.

    Samples of the training stages are counted as they are drawn (`sampled_tokens` in metrics.jsonl); those of
    `collect` and `filter` by reading the texts that were kept with the model's tokenizer. trained: tokens of the packed
    trees, times `updates_per_batch`.
    """
    rows = run.metrics.read()
    records = run.summary()
    costs: dict[str, Cost] = {}
    for name in stages:
        if not run.is_done(name):
            continue
        mine = [row for row in rows if row.get("stage") == name]
        updates = getattr(getattr(run.recipe, name), "updates_per_batch", 1) if name.startswith("train_") else 1
        sampled = sum(row.get("sampled_tokens", 0.0) for row in mine)
        if name == "collect" and run.recipe.collect.policy == "model" and not run.recipe.collect.episodes:
            steps = (step for episode in read_episodes(run.folder / "episodes") for step in episode.steps)
            sampled += _tokens(chat, [step.text for step in steps])
        if name == "filter":
            sampled += _tokens(chat, _predicted(run.folder / "predictor" / "predictions"))
        costs[name] = {
            "seconds": float(records[name]["seconds"]),
            "sampled": float(sampled),
            "trained": float(sum(_trained(row, updates) for row in mine)),
            "steps": float(len(mine)),
            "memory_mb": float(records[name]["peak_rss_mb"]),
        }
    return costs


def price(costs: Mapping[str, Cost], unit: str) -> dict[str, float]:
    """Each stage's cost as one number. unit: "seconds", or "tokens" (sampled plus trained)."""
    return {n: c["seconds"] if unit == "seconds" else c["sampled"] + c["trained"] for n, c in costs.items()}


def _trained(row: Mapping[str, Any], updates: int) -> float:
    """`tokens` are of the first update's trees; further ones of the step are logged as NAME_tokens, read once."""
    return row.get("tokens", 0.0) * updates + row.get("transition_tokens", 0.0)


def _predicted(folder: Path) -> list[str]:
    return [prediction.text for prediction in Parts(folder).read_all(PredictedState)]


def _tokens(chat: ChatFormat, texts: Sequence[str]) -> int:
    """Tokens of the texts, each with its stop token; texts come up again and again."""
    lengths: dict[str, int] = {}
    for text in texts:
        if text not in lengths:
            lengths[text] = len(chat.text(text)) + 1
    return sum(lengths[text] for text in texts)
