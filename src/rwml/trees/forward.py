"""Exact log-probabilities and gradients of trees, for any Hugging Face causal LM (docs/concepts/trees.md)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rwml.core.errors import RwmlError, nearest
from rwml.trees import attention as attend
from rwml.trees.objectives import merge_metrics
from rwml.trees.tree import Tree

METHODS = ("auto", "walk", "dense", "flex")
# Tokens that go through the model at once in a walk; larger trees are cut at their forks. On a CPU 512 to 4,096 took
# the same time, and memory grows with it.
BUDGET_TOKENS = 1024
# Logits held at a time: rows are projected on the vocabulary in slices of at most this many numbers.
LOGITS_AT_ONCE = 2**22

Ints = NDArray[np.int64]
LossFn = Callable[[Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class PassOptions:
    """How a tree runs through a model.

    method: "walk" cuts the tree at its forks, "dense" masks all of it, "flex" masks it in blocks; "auto" is "flex" on
    a GPU and "walk" elsewhere. temperature: of the sampler; logits are divided by it. autocast: dtype of the matrix
    products, None for the weights' own. budget_tokens: tokens that a walk puts through the model at once.
    """

    method: str = "auto"
    temperature: float = 1.0
    autocast: torch.dtype | None = None
    budget_tokens: int = BUDGET_TOKENS


AUTO = PassOptions()


def tree_logprobs(model: nn.Module, tree: Tree, options: PassOptions = AUTO) -> Tensor:
    """Log-probability of every token that carries a loss, float32 [N] on the model's device; 0 elsewhere. No gradient.

    Raises RwmlError for a model or a method that cannot run the tree.
    """
    tree_pass = _TreePass(model, tree, options)
    with torch.no_grad(), tree_pass.ready():
        tree_pass.roots()
    return tree_pass.logp


def tree_backward(model: nn.Module, tree: Tree, loss_fn: LossFn, options: PassOptions = AUTO) -> dict[str, float]:
    """Add the gradient of a tree's loss to the parameters' `.grad`, equal to that of separate sequences.

    loss_fn: (logp [R], indices of those tokens in the tree [R]) -> (loss, sums for metrics); it is called with each
    loss-carrying token exactly once, in parts, so the loss must be a sum over tokens (`objectives.token_losses`).
    Returns the merged sums (`objectives.finish_metrics` turns them into means); {} where no token carries a loss.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RwmlError(
            f"no parameter of {type(model).__name__} takes a gradient",
            "an update would change nothing",
            "unfreeze the model, or enable its adapter",
        )
    tree_pass = _TreePass(model, tree, options, loss_fn)
    with torch.enable_grad(), tree_pass.ready():
        tree_pass.roots()
    return tree_pass.metrics


@dataclass(frozen=True, slots=True)
class _Rows:
    """The tokens that must go through the model: those with a loss somewhere below them. Arrays [n]; still a tree.

    targets, target_rows: tokens of the full tree whose log-probability is wanted, and the row that predicts each.
    """

    ids: Ints
    end: Ints
    depth: Ints
    parent: Ints
    targets: Ints
    target_rows: Ints

    @classmethod
    def of(cls, tree: Tree) -> _Rows:
        has_loss = tree.has_loss
        before = np.concatenate([[0], np.cumsum(has_loss)])
        keep = before[tree.end] > before[1:]
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        parent = tree.parent[keep]
        targets = np.flatnonzero(has_loss)
        return cls(
            ids=tree.ids[keep],
            end=kept_before[tree.end[keep]],
            depth=tree.depth[keep],
            parent=np.where(parent < 0, -1, kept_before[parent]),
            targets=targets,
            target_rows=kept_before[tree.parent[targets]],
        )


@dataclass(slots=True)
class _Level:
    """An ancestor chain [start, stop) whose keys and values wait for its branches."""

    start: int
    store: attend.KeyStore


class _Head:
    """From hidden states to log-probabilities, with the scalings of logits that model families add."""

    def __init__(self, model: Any, temperature: float) -> None:
        config = model.config.get_text_config()
        self.project = model.get_output_embeddings()
        if self.project is None:
            raise RwmlError(
                f"{type(model).__name__} has no output embeddings",
                "it cannot give log-probabilities",
                "use a causal LM",
            )
        scale = getattr(config, "logit_scale", None) or 1.0
        scale *= getattr(config, "lm_head_multiplier", None) or 1.0
        self.scale = scale / (getattr(config, "logits_scaling", None) or 1.0)
        self.softcap = getattr(config, "final_logit_softcapping", None)
        self.temperature = temperature
        self.rows = max(128, LOGITS_AT_ONCE // config.vocab_size)

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, E] to [R, V] in float32, as the model itself would."""
        logits = self.project(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits.float()

    def logp(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = self.logits(hidden)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return -nn.functional.cross_entropy(logits, targets, reduction="none")


@dataclass
class _TreePass:
    """One pass over one tree; with a loss function it is also the backward pass."""

    model: Any
    tree: Tree
    options: PassOptions
    loss_fn: LossFn | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = causal_lm(self.model)
        self.decoder = self.model.get_decoder()
        self.config = self.decoder.config
        self.device = self.model.get_input_embeddings().weight.device
        self.method, self.autocast, self.budget = self.options.method, self.options.autocast, self.options.budget_tokens
        if self.method not in METHODS:
            raise RwmlError(
                f"unknown method '{self.method}'", "it decides how trees run", nearest(self.method, METHODS)
            )
        if self.method == "auto":
            self.method = "flex" if self.device.type == "cuda" else "walk"
        self.rows = _Rows.of(self.tree)
        self.head = _Head(self.model, self.options.temperature)
        self.logp = torch.zeros(self.tree.num_tokens, dtype=torch.float32, device=self.device)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The model, set to attend as this pass needs it."""
        check_model(self.model, int(self.rows.depth.max(initial=0)))
        low: AbstractContextManager[Any] = nullcontext()
        if self.autocast is not None:
            low = torch.autocast(self.device.type, dtype=self.autocast)
        name = {"walk": attend.NAME, "flex": "flex_attention"}.get(self.method)
        switch = attend.attention(self.config, name) if name else nullcontext()
        with low, switch:
            yield

    def roots(self) -> None:
        n = len(self.rows.ids)
        if n == 0:
            return
        if self.method == "walk":
            self.walk(0, n, [])
        else:
            padded = n if self.method == "dense" else -(-n // attend.BLOCK) * attend.BLOCK
            mask = self.dense_mask() if self.method == "dense" else attend.block_mask(self.rows.end, self.device)
            index = np.arange(n)
            hidden = self.hidden(index, padded, attention_mask=mask)
            self.learn(hidden, index, None)

    # The walk: chunks of sibling subtrees; a subtree over the budget is cut at its first fork.

    def walk(self, start: int, stop: int, levels: list[_Level]) -> None:
        """Run the sibling subtrees in [start, stop), whose ancestors' keys and values are in `levels`."""
        chunk = start
        for root, root_stop in [*attend.siblings(self.rows.end, start, stop), (stop, stop + self.budget)]:
            if root_stop - chunk > self.budget and root > chunk:
                self.chunk(chunk, root, levels)
                chunk = root
            if root < stop and root_stop - root > self.budget:
                self.trunk(root, root_stop, levels)
                chunk = root_stop

    def chunk(self, start: int, stop: int, levels: list[_Level]) -> None:
        """Run whole subtrees in one pass."""
        pieces = self.pieces(start, stop, levels)
        index = np.arange(start, stop)
        self.learn(self.hidden(index, rwml_pieces=pieces), index, pieces)

    def trunk(self, start: int, stop: int, levels: list[_Level]) -> None:
        """Run a subtree's chain, then what hangs off it on detached keys and values, then back through the chain."""
        fork = attend.chain_stop(self.rows.parent, start, stop)
        pieces = self.pieces(start, fork, levels)
        pieces.keep = attend.KeyStore()
        index = np.arange(start, fork)
        hidden = self.hidden(index, rwml_pieces=pieces)
        self.walk(fork, stop, [*levels, _Level(start, pieces.keep)])
        self.learn(hidden, index, pieces)

    def pieces(self, start: int, stop: int, levels: list[_Level]) -> attend.Pieces:
        pieces = attend.Pieces(max_depth=int(self.rows.depth[start:stop].max()))
        for first, last, before in attend.forests(self.rows.end, self.rows.parent, start, stop):
            last = min(last, stop)
            attend.add_forest(pieces, self.rows.end, self.rows.parent, first, last, first - start)
            for level in reversed(levels):
                span = (first - start, last - start, 0, before + 1 - level.start)
                pieces.context.append(attend.Piece(*span, store=level.store))
                before = int(self.rows.parent[level.start])
        return pieces

    # One pass through the model.

    def hidden(self, index: Ints, padded: int = 0, **kwargs: Any) -> Tensor:
        """Hidden states of the rows `index`, [n, E], or [padded, E] with rows that nothing sees behind them."""
        behind = (0, max(padded - len(index), 0))
        ids = torch.from_numpy(np.pad(self.rows.ids[index], behind)).to(self.device)[None]
        positions = torch.from_numpy(np.pad(self.rows.depth[index], behind)).to(self.device)[None]
        output = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, **kwargs)
        pieces = kwargs.get("rwml_pieces")
        layers = self.config.num_hidden_layers
        if pieces is not None and pieces.calls != layers:
            raise RwmlError(
                f"{pieces.calls} of the {layers} layers of {type(self.decoder).__name__} attend through transformers' "
                "attention interface",
                "the other layers would mix tokens of different branches",
                "use a model whose layers are all standard attention",
            )
        return output.last_hidden_state[0]

    def learn(self, hidden: Tensor, index: Ints, pieces: attend.Pieces | None) -> None:
        """Log-probabilities of the tokens that these rows predict, and with a loss function the backward pass."""
        mine = (self.rows.target_rows >= index[0]) & (self.rows.target_rows <= index[-1])
        targets = torch.from_numpy(self.rows.targets[mine]).to(self.device)
        ids = torch.from_numpy(self.tree.ids[self.rows.targets[mine]]).to(self.device)
        rows = torch.from_numpy(self.rows.target_rows[mine] - index[0]).to(self.device)
        if self.loss_fn is None:
            for part in torch.arange(len(rows), device=self.device).split(self.head.rows):
                self.logp[targets[part]] = self.head.logp(hidden[rows[part]], ids[part])
            return
        tensors, grads = pieces.keep.take_roots() if pieces is not None and pieces.keep is not None else ([], [])
        if len(rows):
            # Each slice of logits is made, used and freed before the next; only the hidden states' gradient is kept.
            picked = hidden[rows]
            leaf = picked.detach().requires_grad_()
            for part in torch.arange(len(rows), device=self.device).split(self.head.rows):
                loss, sums = self.loss_fn(self.head.logp(leaf[part], ids[part]), targets[part])
                loss.backward()
                merge_metrics(self.metrics, sums)
            assert leaf.grad is not None
            tensors, grads = [picked, *tensors], [leaf.grad, *grads]
        torch.autograd.backward(tensors, grads)

    def dense_mask(self) -> Tensor:
        index = np.arange(len(self.rows.ids))
        visible = (index[None, :] <= index[:, None]) & (index[:, None] < self.rows.end[None, :])
        mask = attend.additive_mask(torch.from_numpy(visible))
        low = self.model.dtype if self.autocast is None else self.autocast
        return mask.clamp(min=torch.finfo(low).min).to(self.device, low)


def causal_lm(model: Any) -> Any:
    """The Hugging Face causal LM inside a PEFT, DDP or compiled wrapper. LoRA layers stay in place.

    Raises RwmlError for adapters that add virtual tokens, which no tree has a place for.
    """
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            if getattr(model.active_peft_config, "is_prompt_learning", False):
                raise RwmlError(
                    f"the adapter is {model.active_peft_config.peft_type}",
                    "virtual tokens have no place in a tree",
                    "use LoRA",
                )
            return model.get_base_model()
        else:
            return model


def check_model(model: Any, max_depth: int) -> None:
    """Raise RwmlError where a model cannot run trees whose deepest token has position `max_depth`."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    strange = kinds - {"full_attention", "sliding_attention", "attention"}
    if strange:
        raise RwmlError(
            f"{type(model).__name__} has layers of kind {', '.join(sorted(strange))}",
            "such layers read tokens in one order, and a tree has many",
            "use a model whose layers are all full attention",
        )
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in kinds and window is not None and max_depth >= window:
        raise RwmlError(
            f"a path of {max_depth + 1} tokens is longer than the model's sliding window of {window}",
            "trees let every token see its whole path",
            "shorten the history or the answers, or use a model without sliding-window attention",
        )
    if "position_ids" not in inspect.signature(model.get_decoder().forward).parameters:
        raise RwmlError(
            f"{type(model).__name__} takes no position_ids",
            "a token's position in a tree is its depth, not its index",
            "use a model with rotary or learned positions",
        )
    limit = getattr(config, "max_position_embeddings", None) or math.inf
    if max_depth >= limit:
        raise RwmlError(
            f"a path of {max_depth + 1} tokens is longer than the model's {limit} positions",
            "the model has never seen such positions",
            "shorten the history or the answers",
        )
