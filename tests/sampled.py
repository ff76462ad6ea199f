"""Whether sampled tokens are those that the model itself gives at the random numbers of their row and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def plain_logprobs(model: Any, context: Sequence[int], ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities [T, V] of what follows `context` and each of `ids` but the last, by one plain forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *ids]])).logits[0, len(context) - 1 : -1].float()
    return (logits / temperature).log_softmax(-1)


def uniforms_of(
    prompts: Sequence[Sequence[int]], num_samples: int, steps: int, generator: torch.Generator, max_rows: int = 512
) -> list[list[torch.Tensor]]:
    """The numbers [steps] that `LocalSampler.sample` draws for each completion: [prompts][num_samples].

    Prompts are put in order, and each batch of them draws its numbers at once.
    """
    order = sorted((i for i in range(len(prompts)) for _ in range(num_samples)), key=lambda i: tuple(prompts[i]))
    numbers: list[list[torch.Tensor]] = [[] for _ in prompts]
    for start in range(0, len(order), max_rows):
        batch = order[start : start + max_rows]
        for i, row in zip(batch, torch.rand(len(batch), steps, generator=generator), strict=True):
            numbers[i].append(row)
    return numbers


def misses(logprobs_TV: torch.Tensor, ids: Sequence[int], uniform_S: torch.Tensor) -> float:
    """How far the random numbers lie outside the intervals of the sampled ids on the cumulative distribution, at most.

    0 where every token is the one that its number picks; rounding alone gives some 1e-6.
    """
    ids_T = torch.tensor(list(ids))[:, None]
    upper_TV = logprobs_TV.double().exp().cumsum(-1)
    upper = upper_TV.gather(1, ids_T)[:, 0]
    lower = upper - logprobs_TV.double().exp().gather(1, ids_T)[:, 0]
    target = uniform_S[: len(ids_T)].double() * upper_TV[:, -1]
    return float(torch.maximum(lower - target, target - upper).clamp(min=0).max())
