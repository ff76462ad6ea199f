"""Attention over rows of a tree, as a few dense pieces whose results are merged by their log-sum-exp.

It is registered with transformers as an attention implementation. Any model whose attention uses that interface can run
trees: everything but attention sees one row of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface

from rwml.core.errors import RwmlError

NAME = "rwml_tree"
# Up to this many rows a forest attends to itself under one mask; above it, chain by chain.
FOREST_ROWS = 384
# Queries are cut into blocks of at most this many rows, each with the keys before its end: that skips most of the
# upper triangle, which the kernel would compute and throw away.
QUERY_ROWS = 128
# Side of FlexAttention's blocks of queries and keys.
BLOCK = 128


class KeyStore:
    """Keys and values of one chunk of tokens, by attention module; branches leave their gradients here."""

    def __init__(self) -> None:
        self.read: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._graph: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._grad: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def put(self, module: nn.Module, key: Tensor, value: Tensor) -> None:
        """Keep the first forward pass of a module; a recomputation for checkpointing finds its place taken."""
        if module not in self.read:
            self.read[module] = (key.detach(), value.detach())
            self._graph[module] = (key, value)

    def add_grad(self, module: nn.Module, start: int, stop: int, dkey: Tensor, dvalue: Tensor) -> None:
        """Add the gradients of keys and values [start, stop)."""
        if module not in self._grad:
            # Many branches add up here: in float32, whatever the keys are kept in.
            key, value = self.read[module]
            self._grad[module] = (
                torch.zeros_like(key, dtype=torch.float32),
                torch.zeros_like(value, dtype=torch.float32),
            )
        for into, more in zip(self._grad[module], (dkey, dvalue), strict=True):
            into[:, :, start:stop] += more

    def take_roots(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors that a backward pass starts from, and the gradients that branches left on them; once.

        Frozen projections, as in the first layer under LoRA, give keys that no gradient flows into: those are left out.
        """
        pairs = [
            (tensor, grad.to(tensor.dtype))
            for module, grads in self._grad.items()
            for tensor, grad in zip(self._graph[module], grads, strict=True)
            if tensor.requires_grad
        ]
        # The graph behind these tensors holds this store (each layer's pieces do): kept, neither would ever be freed.
        self._graph, self._grad = {}, {}
        return [tensor for tensor, _ in pairs], [grad for _, grad in pairs]


@dataclass(frozen=True, slots=True)
class Piece:
    """Query rows [q0, q1) look at keys [k0, k1) of this chunk (store None) or of an ancestor's store.

    mask: additive [1, 1, q1 - q0, k1 - k0], None if every key is visible. causal: the mask is the triangle (q0 == k0).
    """

    q0: int
    q1: int
    k0: int
    k1: int
    store: KeyStore | None = None
    mask: Tensor | None = None
    causal: bool = False


@dataclass
class Pieces:
    """The pieces that one chunk's attention is made of: `own` cover every row once, `context` are merged onto them.

    keep: the store of the chunk's keys and values for its branches, None if no branch needs them. max_depth: the
    largest position of a token. calls: how many layers have attended by these pieces.
    """

    own: list[Piece] = field(default_factory=list)
    context: list[Piece] = field(default_factory=list)
    keep: KeyStore | None = None
    max_depth: int = 0
    calls: int = 0


def add_forest(
    pieces: Pieces, end: NDArray[np.int64], parent: NDArray[np.int64], start: int, stop: int, at: int
) -> None:
    """Plan the attention of sibling subtrees [start, stop) among themselves; token `start` is row `at` of the chunk.

    The last subtree may be cut at `stop`, where only its chain goes through the model.
    """
    if stop - start <= FOREST_ROWS or chain_stop(parent, start, stop) == stop:
        _add_own(pieces, end[start:stop] - start, at)
        return
    for root, root_stop in siblings(end, start, stop):
        _add_subtree(pieces, end, parent, root, min(root_stop, stop), at + root - start)


def _add_subtree(
    pieces: Pieces, end: NDArray[np.int64], parent: NDArray[np.int64], start: int, stop: int, at: int
) -> None:
    """Plan one large subtree: its chain, then each forest that hangs off the chain."""
    fork = chain_stop(parent, start, stop)
    _add_own(pieces, end[start:fork] - start, at)
    for first, last, before in forests(end, parent, fork, stop):
        row = at + first - start
        pieces.context.append(Piece(row, row + last - first, at, at + before + 1 - start))
        add_forest(pieces, end, parent, first, last, row)


def _add_own(pieces: Pieces, end: NDArray[np.int64], at: int) -> None:
    """Plan the attention of rows among themselves, block of queries by block of queries; row 0 is row `at`."""
    n = len(end)
    cuts = np.linspace(0, n, -(-n // QUERY_ROWS) + 1).astype(int).tolist()
    for q0, q1 in pairwise(cuts):
        query, key = np.arange(q0, q1)[:, None], np.arange(q1)[None, :]
        visible = (key <= query) & (query < end[:q1])
        if q0 == 0 and (end[:q1] >= q1).all():
            pieces.own.append(Piece(at, at + q1, at, at + q1, causal=True))
        else:
            pieces.own.append(Piece(at + q0, at + q1, at, at + q1, mask=additive_mask(torch.from_numpy(visible))))


def siblings(end: NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The subtrees side by side in [start, stop)."""
    while start < stop:
        yield start, int(end[start])
        start = int(end[start])


def forests(end: NDArray[np.int64], parent: NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, parent token) of the runs of subtrees in [start, stop) that hang off the same token."""
    while start < stop:
        before, first = int(parent[start]), start
        while start < stop and parent[start] == before:
            start = int(end[start])
        yield first, start, before


def chain_stop(parent: NDArray[np.int64], start: int, stop: int) -> int:
    """Where the unbroken chain of tokens that begins at `start` ends."""
    breaks = np.flatnonzero(parent[start + 1 : stop] != np.arange(start, stop - 1))
    return int(start + 1 + breaks[0]) if len(breaks) else stop


def additive_mask(visible: Tensor) -> Tensor:
    """Boolean [Q, K] to additive float32 [1, 1, Q, K]."""
    return torch.zeros(visible.shape).masked_fill(~visible, -math.inf)[None, None]


def block_mask(end: NDArray[np.int64], device: torch.device) -> BlockMask:
    """FlexAttention's mask of one row of tokens, padded to whole blocks by tokens that see only themselves.

    Which blocks are empty, partial or full follows from the largest and smallest `end` in a block of keys, so no
    N x N mask is ever made.
    """
    n = -(-len(end) // BLOCK) * BLOCK
    ends = np.concatenate([end, np.arange(len(end), n) + 1])
    by_block = ends.reshape(-1, BLOCK)
    first = np.arange(0, n, BLOCK)
    below = first[:, None] > first[None, :]
    seen = (by_block.max(1)[None, :] > first[:, None]) & below
    full = (by_block.min(1)[None, :] >= first[:, None] + BLOCK) & below
    partial = (seen & ~full) | np.eye(len(first), dtype=bool)
    end_N = torch.from_numpy(ends).to(device)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end_N[key])

    return BlockMask.from_kv_blocks(
        *_block_lists(partial, device), *_block_lists(full, device), BLOCK_SIZE=BLOCK, mask_mod=visible
    )


def _block_lists(chosen: NDArray[np.bool_], device: torch.device) -> tuple[Tensor, Tensor]:
    """Per block of queries, how many blocks of keys are chosen, and their numbers first in a permutation."""
    order = np.argsort(~chosen, axis=1, kind="stable")
    counts, indices = (torch.from_numpy(part.astype(np.int32)).to(device) for part in (chosen.sum(1), order))
    return counts[None, None], indices[None, None]


class Attended(NamedTuple):
    """What a backward pass over one piece needs: its inputs, and the output and log-sum-exp over all pieces."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor


class _TreeAttend(torch.autograd.Function):
    """Queries, keys and values [1, H, n, D] of a chunk to outputs [1, n, H, D]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, module: nn.Module, scale: float):  # type: ignore[no-untyped-def]
        n, heads = query.shape[2], query.shape[1]
        merged = bool(pieces.context)
        out = query.new_empty(1, n, heads, value.shape[-1], dtype=torch.float32 if merged else query.dtype)
        lse = torch.empty(1, n, heads, dtype=torch.float32, device=query.device).transpose(1, 2)
        rows = out.transpose(1, 2)
        attend = cpu_attend if query.device.type == "cpu" else math_attend
        for piece in pieces.own:
            q = slice(piece.q0, piece.q1)
            rows[:, :, q], lse[:, :, q] = attend(query[:, :, q], *_keys(piece, key, value, module), piece, scale)
        for piece in pieces.context:
            q = slice(piece.q0, piece.q1)
            more, more_lse = attend(query[:, :, q], *_keys(piece, key, value, module), piece, scale)
            _merge(rows[:, :, q], lse[:, :, q], more, more_lse)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.pieces, ctx.module, ctx.scale = pieces, module, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[no-untyped-def]
        query, key, value, out, lse = ctx.saved_tensors
        grad, out = grad.transpose(1, 2), out.transpose(1, 2)
        dquery, dkey, dvalue = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        attend_backward = cpu_attend_backward if query.device.type == "cpu" else math_attend_backward
        # Own pieces cover every row once, so they write where contexts then add.
        own = len(ctx.pieces.own)
        for index, piece in enumerate([*ctx.pieces.own, *ctx.pieces.context]):
            q, k = slice(piece.q0, piece.q1), slice(piece.k0, piece.k1)
            keys = _keys(piece, key, value, ctx.module)
            attended = Attended(query[:, :, q], *keys, out[:, :, q], lse[:, :, q])
            dq, dk, dv = attend_backward(grad[:, :, q], attended, piece, ctx.scale)
            if piece.store is None:
                dkey[:, :, k] += dk
                dvalue[:, :, k] += dv
            else:
                piece.store.add_grad(ctx.module, piece.k0, piece.k1, dk, dv)
            if index < own:
                dquery[:, :, q] = dq
            else:
                dquery[:, :, q] += dq
        return dquery, dkey, dvalue, None, None, None


def _keys(piece: Piece, key: Tensor, value: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    if piece.store is not None:
        key, value = piece.store.read[module]
    return key[:, :, piece.k0 : piece.k1], value[:, :, piece.k0 : piece.k1]


def _merge(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> None:
    """Softmax over the union of two disjoint sets of keys, from the softmax over each; in place."""
    total = torch.logaddexp(lse, more_lse)
    share = torch.exp(more_lse - total).unsqueeze(-1)
    out.lerp_(more.to(out.dtype), share)
    lse.copy_(total)


def cpu_attend(q: Tensor, k: Tensor, v: Tensor, piece: Piece, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention of one piece, [1, H, Q, D], and its log-sum-exp, float32 [1, H, Q]; the CPU's fused kernel."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, piece.causal, attn_mask=piece.mask, scale=scale
    )


def cpu_attend_backward(grad: Tensor, attended: Attended, piece: Piece, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one piece; with the merged `out` and `lse` the pieces' gradients simply add up."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, *attended, 0.0, piece.causal, attn_mask=piece.mask, scale=scale
    )


def math_attend(q: Tensor, k: Tensor, v: Tensor, piece: Piece, scale: float) -> tuple[Tensor, Tensor]:
    """`cpu_attend` in plain operations, for every other device."""
    scores = _scores(q, k, piece, scale)
    lse = scores.logsumexp(-1)
    return torch.exp(scores - lse.unsqueeze(-1)).to(v.dtype) @ _grouped(v, q.shape[1]), lse


def math_attend_backward(grad: Tensor, attended: Attended, piece: Piece, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """`cpu_attend_backward` in plain operations."""
    q, k, v, out, lse = attended
    heads, kv_heads = q.shape[1], k.shape[1]
    weights = torch.exp(_scores(q, k, piece, scale) - lse.unsqueeze(-1))
    dweights = (grad @ _grouped(v, heads).transpose(-1, -2)).float()
    delta = (grad.float() * out.float()).sum(-1, keepdim=True)
    dscores = (weights * (dweights - delta) * scale).to(q.dtype)
    dk = (dscores.transpose(-1, -2) @ q).unflatten(1, (kv_heads, -1)).sum(2)
    dv = (weights.to(grad.dtype).transpose(-1, -2) @ grad).unflatten(1, (kv_heads, -1)).sum(2)
    return dscores @ _grouped(k, heads), dk, dv


def _scores(q: Tensor, k: Tensor, piece: Piece, scale: float) -> Tensor:
    scores = (q @ _grouped(k, q.shape[1]).transpose(-1, -2)).float() * scale
    if piece.mask is not None:
        return scores + piece.mask.to(q.device)
    if piece.causal:
        return scores + additive_mask(torch.ones(scores.shape[-2:], dtype=torch.bool).tril()).to(q.device)
    return scores


def _grouped(x: Tensor, heads: int) -> Tensor:
    """Key or value heads repeated for the query heads that share them."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """The attention function that transformers calls: query [1, H, n, D], key and value [1, K, n, D] -> [1, n, H, D].

    options: of the model, and `rwml_pieces`, which travels through the model's keyword arguments.
    """
    pieces: Pieces | None = options.get("rwml_pieces")
    if pieces is None:
        raise RwmlError(
            f"{type(module).__name__} does not pass keyword arguments on to its attention",
            "a tree's layout reaches the attention that way",
            "use a model whose attention goes through transformers' attention interface, or method='dense'",
        )
    _refuse(pieces, options)
    pieces.calls += 1
    scaling = options.get("scaling")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    device = query.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        query, key, value = query.to(low), key.to(low), value.to(low)
    if pieces.keep is not None:
        pieces.keep.put(module, key, value)
    return _TreeAttend.apply(query, key, value, pieces, module, scale), None


def _refuse(pieces: Pieces, options: dict[str, Any]) -> None:
    dropout, sliding_window = options.get("dropout", 0.0), options.get("sliding_window")
    if dropout:
        raise RwmlError(
            f"attention dropout is {dropout}",
            "log-probabilities of the sampler and of the update would disagree at random",
            "set the model's dropout to 0, or call model.eval()",
        )
    if sliding_window is not None and pieces.max_depth >= sliding_window:
        raise RwmlError(
            f"a path of {pieces.max_depth + 1} tokens is longer than the model's sliding window of {sliding_window}",
            "trees let every token see its whole path",
            "shorten the history or the answers, or use a model without sliding-window attention",
        )
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if unknown:
        raise RwmlError(
            f"the model's attention uses {', '.join(unknown)}",
            "tree attention computes plain softmax attention only",
            "use method='dense' or another model",
        )


@contextmanager
def attention(config: Any, name: str) -> Iterator[None]:
    """Let a model attend by another implementation for a while."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, tree_attention)
