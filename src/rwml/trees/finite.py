"""NaN and infinity in a training: where they are seen, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rwml.core.errors import NotFiniteError
from rwml.core.progress import note
from rwml.trees.forward import PassOptions, tree_logprobs
from rwml.trees.tree import Tree

LARGEST_WEIGHT = 1.8e19
"""The square of more than that overflows float32, and the norms of a model take squares."""

HIGH_RATE = 0.1
"""A learning rate above it is warned of."""


def require_finite(figures: Mapping[str, float]) -> None:
    """NotFiniteError if one of the figures is NaN or infinite; it names all of them."""
    wrong = [f"{name} = {value:g}" for name, value in figures.items() if not math.isfinite(value)]
    if wrong:
        raise _not_finite(", ".join(wrong))


@contextmanager
def overflows() -> Iterator[None]:
    """Turns the error of torch for a setting that its 32-bit numbers cannot hold into a NotFiniteError."""
    try:
        yield
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise _not_finite("a setting, as it enters the computation, is larger than a 32-bit number can be") from None


def require_sound(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """NotFiniteError if a weight, or a value of the optimiser's state, is NaN or infinite, or a weight too large."""
    for bound, tensors in ((LARGEST_WEIGHT, weights), (math.inf, state)):
        for name, tensor in tensors.items():
            low, high = torch.aminmax(tensor.detach())
            if not (low > -bound and high < bound):
                raise _not_finite(f"the updated tensor {name} has values from {low:g} to {high:g}")


def require_answers(model: nn.Module, trees: Sequence[Tree], options: PassOptions) -> None:
    """NotFiniteError if the model's log-probabilities of the shortest of the trees are NaN or infinite."""
    if trees:
        shortest = min(trees, key=lambda tree: tree.num_tokens)
        if not torch.isfinite(tree_logprobs(model, shortest, options)).all():
            raise _not_finite("the updated model's log-probabilities are NaN or infinite")


def warn_of_rate(rate: float, stage: str, key: str) -> None:
    """Say that a learning rate is above `HIGH_RATE`."""
    if rate > HIGH_RATE:
        note(
            f"warning: the learning rate of {stage} reaches {rate:g}\n"
            "  why it matters: AdamW moves every weight by about this much in each step, and weights are mostly "
            "below 1: little of the model is left\n"
            f"  what to do: lower {key}; 1e-6 is the paper's, 1e-4 suits the tiny model"
        )


def stopped(error: NotFiniteError, step: str, kept: str, rate: str) -> NotFiniteError:
    """The error of a training that cannot continue. step: at which; kept: of checkpoints; rate: its key and value."""
    return NotFiniteError(
        f"{step}: {error.what}",
        f"{error.why}; nothing of this step is written, and {kept}",
        f"lower {rate}, or mend what the first line names, and give the same command again: under other settings the "
        f"stage begins again, under the same ones it comes to this step. Else: {error.fix}",
    )


def _not_finite(what: str) -> NotFiniteError:
    return NotFiniteError(
        what,
        "an update by such a number makes a model that answers nothing",
        "look at loss, grad_norm and reward of the steps before in metrics.jsonl, and at a reward of your own",
    )
