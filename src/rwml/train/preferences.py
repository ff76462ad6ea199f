"""SPIN: the real next state against the model's own earlier guess, by the logistic loss of DPO, on trees.

SPIN: Chen et al. 2024, arXiv 2401.01335. DPO: Rafailov et al. 2023, arXiv 2305.18290.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwml.core.files import atomic_folder, remove
from rwml.core.text import same_text
from rwml.core.types import PredictedState, Transition
from rwml.models.language_model import LanguageModel
from rwml.trees.forward import PassOptions, tree_logprobs
from rwml.trees.tree import Ints, Tree, TreeBuilder
from rwml.world_models.language import label_ids, question_ids
from rwml.worlds.base import Prompts


class Opponent:
    """The weights that a round of SPIN began with: they make the guesses, and they are the reference of the loss.

    folder: of the stage. Each round's weights are kept there until `forget_opponents`: a resumed run plays against the
    same ones. Only the trained weights are copied (with LoRA: the adapter). autocast: dtype of the matrix products of
    the model and of the opponent, None for the weights' own.
    """

    def __init__(self, lm: LanguageModel, folder: Path, autocast: torch.dtype | None = None) -> None:
        self.lm, self.autocast, self._folder = lm, autocast, folder
        self._round = -1
        self._weights: dict[str, Tensor] = {}

    def begin(self, number: int) -> None:
        """Be the opponent of round `number` (from 0): the model as it is now, unless that round had begun before."""
        from safetensors.torch import load_file, save_file

        if number == self._round:
            return
        folder = self._folder / f"opponent-{number:03d}"
        if not folder.is_dir():
            with atomic_folder(folder) as target:
                trained = {name: p.detach().contiguous() for name, p in self._trained().items()}
                save_file(trained, target / "weights.safetensors")
        self._weights = load_file(folder / "weights.safetensors", device=str(self.lm.device))
        self._round = number

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Inside the block the model has the opponent's weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._trained().items():
            parameter.data, self._weights[name] = self._weights[name], parameter.data

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.lm.model.named_parameters() if p.requires_grad}


def forget_opponents(folder: Path) -> None:
    """Remove the opponents that were kept in a stage's folder; after the training nothing reads them."""
    for path in folder.glob("opponent-[0-9]*"):
        remove(path)


@dataclass(frozen=True, slots=True)
class Preferred:
    """What a batch of pairs teaches. margins: beta times the difference of the log-ratios, of the K kept pairs [K].

    trees: one for each episode with a kept pair; a plain sum of `-w_ce * logp` over their tokens has the gradient of
    the loss (its value differs: `loss` is that of DPO, the mean over the kept pairs, 0 without any).
    """

    trees: list[Tree]
    margins: NDArray[np.float64]

    @property
    def loss(self) -> float:
        return float(np.logaddexp(0.0, -self.margins).mean()) if len(self.margins) else 0.0

    @property
    def margin(self) -> float:
        return float(self.margins.mean()) if len(self.margins) else 0.0

    @property
    def accuracy(self) -> float:
        return float((self.margins > 0).mean()) if len(self.margins) else 0.0


def preference_trees(
    opponent: Opponent,
    prompts: Prompts,
    transitions: Sequence[Transition],
    guesses: Sequence[PredictedState],
    beta: float,
) -> Preferred:
    """Pairs of the real next state (chosen, as the WM SFT label) and a guess (rejected, as it was sampled).

    The loss of a pair is -log sigmoid(m), m = beta * (log pi/pi_ref of the chosen - log pi/pi_ref of the rejected),
    with pi_ref the opponent's; the batch has the sum over pairs divided by all its transitions. A first pass without
    gradients measures m; then d loss = -beta * sigmoid(-m) * (d log pi of the chosen - d log pi of the rejected), so
    that number is the weight of every chosen token, and its negative that of every rejected one. Tokens with which both
    begin cancel out. A guess with the words of the real next state has nothing to teach and makes no pair; unparsed
    and cut-off guesses are rejected as they are.
    """
    lm = opponent.lm
    kept = [(r, g) for r, g in zip(transitions, guesses, strict=True) if not same_text(g.next_state, r.next_state)]
    trees, pairs = [], []
    for _, group in groupby(kept, key=lambda pair: pair[0].episode):
        builder, paths = TreeBuilder(), list[tuple[list[int], int]]()
        for row, guess in group:
            question = question_ids(lm.chat, prompts, row)
            for answer in (label_ids(lm.chat, row), guess.ids):
                paths.append(([*question, *answer], len(question)))
                builder.add(*paths[-1], cross_entropy=1.0)
        trees.append(builder.build())
        spans = tokens_of(trees[-1], paths)
        pairs.append(list(zip(spans[::2], spans[1::2], strict=True)))
    options = PassOptions(autocast=opponent.autocast)
    own = [tree_logprobs(lm.model, tree, options) for tree in trees]
    with opponent.playing():
        reference = [tree_logprobs(lm.model, tree, options) for tree in trees]
    weighted, margins = [], list[float]()
    for tree, of_tree, logp, ref in zip(trees, pairs, own, reference, strict=True):
        gain = (logp - ref).double().cpu().numpy()
        weights = np.zeros(tree.num_tokens)
        for chosen, rejected in of_tree:
            margin = beta * float(gain[chosen].sum() - gain[rejected].sum())
            factor = beta * np.exp(-np.logaddexp(0.0, margin)) / len(transitions)
            weights[chosen] += factor
            weights[rejected] -= factor
            margins.append(margin)
        weighted.append(replace(tree, w_ce=weights.astype(np.float32)))
    return Preferred(weighted, np.asarray(margins, dtype=np.float64))


def pair_counts(lines: Iterable[Mapping[str, float]]) -> dict[str, int]:
    """What a stage's lines of metrics say of pairs, in all: kept ones, and those left out; {} if no line does."""
    of_pairs = [line for line in lines if "kept_pairs" in line]
    if not of_pairs:
        return {}
    kept, equal = (int(sum(line[name] for line in of_pairs)) for name in ("kept_pairs", "equal_pairs"))
    return {"pairs": kept, "pairs left out, the guess was right": equal}


def tokens_of(tree: Tree, paths: Sequence[tuple[Sequence[int], int]]) -> list[Ints]:
    """Where the tokens ids[start:] of each path (ids, start) lie in a tree that was built of these paths."""
    places = zip(tree.parent.tolist(), tree.ids.tolist(), strict=True)
    child = {place: token for token, place in enumerate(places)}
    places_of = []
    for ids, start in paths:
        at, tokens = -1, []
        for token in ids:
            at = child[at, token]
            tokens.append(at)
        places_of.append(np.array(tokens[start:], dtype=np.int64))
    return places_of
