"""Trajectory trees: token paths that share every prefix they have in common (docs/concepts/trees.md).

A tree is laid out depth-first. Token i may look at token j exactly when j <= i < end[j]; its position is its depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# Rows of a node's table of sums.
_W_POS, _W_NEG, _W_KL, _W_CE = range(4)


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One packed row: a tree, or several laid side by side. Every array has shape [N], one entry per token.

    ids: token ids. end: exclusive end of the subtree that a token belongs to (token i sees j when j <= i < end[j]).
    depth: position id, 0 at every root. parent: index of the token before on the path, -1 at roots; the
    log-probability of token i comes from the logits at parent[i].
    A token's first child continues it (parent[i] == i - 1); of several children the one with the most tokens below it
    comes first, so that a trunk is one contiguous run of tokens and its branches follow it, the last one first.

    Loss fields, summed over all paths through the token, with c the path's coefficient and A its advantage:
    w_pos: sum of c * max(A, 0). w_neg: sum of c * min(A, 0). w_kl: sum of c. w_ce: sum of cross-entropy weights.
    old_logp: log-probability before the first of several updates on the same trees, which the trainer fills in; NaN
    where one update follows one sample, and the ratio is exactly 1. The clipped objective of PPO is
    A * min(r, 1 + high) for A > 0 and A * max(r, 1 - low) for A < 0, and the ratio r is a property of the token: two
    sums lose nothing.

    num_dense_tokens: tokens that the same paths would have cost as separate sequences.
    """

    ids: Ints
    end: Ints
    depth: Ints
    parent: Ints
    w_pos: Floats
    w_neg: Floats
    w_kl: Floats
    w_ce: Floats
    old_logp: Floats
    num_dense_tokens: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def has_loss(self) -> NDArray[np.bool_]:
        """Shape [N]: the tokens whose log-probability some loss reads."""
        return (self.w_pos != 0) | (self.w_neg != 0) | (self.w_kl != 0) | (self.w_ce != 0)

    @property
    def sharing(self) -> float:
        """Tokens of separate sequences per token of the tree; 1.0 without sharing."""
        return self.num_dense_tokens / max(self.num_tokens, 1)

    @property
    def roots(self) -> list[tuple[int, int]]:
        """The [start, stop) token ranges of the trees that lie side by side."""
        starts = np.flatnonzero(self.parent < 0)
        return [(int(start), int(self.end[start])) for start in starts]

    def visible(self) -> NDArray[np.bool_]:
        """Shape [N, N]: the attention mask, written out. For tests and short rows: it grows with N squared."""
        index = np.arange(self.num_tokens)
        return (index[None, :] <= index[:, None]) & (index[:, None] < self.end[None, :])

    def path(self, token: int) -> Ints:
        """Indices of the tokens from the root down to `token`."""
        steps = []
        while token >= 0:
            steps.append(token)
            token = int(self.parent[token])
        return np.array(steps[::-1], dtype=np.int64)


class _Node:
    """A run of tokens without a fork: ids [L], sums [4, L] and the children by their first token."""

    __slots__ = ("children", "ids", "sums")

    def __init__(self, ids: Ints, sums: NDArray[np.float64]) -> None:
        self.ids = ids
        self.sums = sums
        self.children: dict[int, _Node] = {}

    def split(self, at: int) -> None:
        """Cut this run in two: the node keeps the first `at` tokens, one child takes the rest."""
        tail = _Node(self.ids[at:], self.sums[:, at:])
        tail.children = self.children
        self.ids, self.sums = self.ids[:at], self.sums[:, :at]
        self.children = {int(tail.ids[0]): tail}


class TreeBuilder:
    """Collects token paths in a radix trie; paths with a common prefix share its tokens.

    Trunk, questions and answers, groups on one prompt, whole episodes and separate prompts are all paths.
    """

    def __init__(self) -> None:
        self._roots: dict[int, _Node] = {}
        self._dense = 0

    def add(
        self,
        ids: Sequence[int] | Ints,
        start: int = 0,
        *,
        advantage: float = 0.0,
        coefficient: ArrayLike = 0.0,
        cross_entropy: ArrayLike = 0.0,
    ) -> None:
        """Insert one path; its losses fall on ids[start:].

        coefficient: aggregation weight c of each token (see `objectives.answer_coefficients`), one number or one per
        token of ids[start:]; 0 where a token carries no loss, so several spans of one path can be learnt from.
        advantage: of the whole path. cross_entropy: weight, like `coefficient`.
        """
        path = np.asarray(ids, dtype=np.int64)
        assert path.ndim == 1
        assert len(path) > 0, "a path has at least one token"
        assert 0 <= start <= len(path), f"start {start} lies outside the {len(path)} tokens of the path"
        sums = np.zeros((4, len(path)))
        span = sums[:, start:]
        c = np.asarray(coefficient, dtype=np.float64)
        span[_W_POS] = c * max(advantage, 0.0)
        span[_W_NEG] = c * min(advantage, 0.0)
        span[_W_KL] = c
        span[_W_CE] = np.asarray(cross_entropy, dtype=np.float64)
        assert not sums[:, 0].any(), "no token precedes the first token of a path to predict it from"
        self._dense += len(path)
        self._insert(path, sums, start)

    def _insert(self, path: Ints, sums: NDArray[np.float64], start: int) -> None:
        children, done = self._roots, 0
        while done < len(path):
            node = children.get(int(path[done]))
            if node is None:
                children[int(path[done])] = _Node(path[done:], sums[:, done:])
                return
            size = min(len(node.ids), len(path) - done)
            differ = node.ids[:size] != path[done : done + size]
            shared = int(differ.argmax()) if differ.any() else size
            if shared < len(node.ids):
                node.split(shared)
            if done + shared > start:
                node.sums += sums[:, done : done + shared]
            done += shared
            children = node.children

    def build(self) -> Tree:
        """Lay the trie out depth-first; an empty builder gives a tree of no tokens."""
        order = list(_depth_first(self._roots))
        total = sum(len(node.ids) for node, _, _, _ in order)
        end, depth, parent = (np.empty(total, dtype=np.int64) for _ in range(3))
        at = 0
        for node, size, before, level in order:
            stop = at + len(node.ids)
            end[at:stop] = at + size
            depth[at:stop] = np.arange(level, level + len(node.ids))
            parent[at:stop] = np.arange(at - 1, stop - 1)
            parent[at] = before
            at = stop
        ids = np.concatenate([node.ids for node, *_ in order]) if order else np.empty(0, dtype=np.int64)
        sums = np.concatenate([node.sums for node, *_ in order], axis=1) if order else np.empty((4, 0))
        w_pos, w_neg, w_kl, w_ce = sums.astype(np.float32)
        old_logp = np.full(total, np.nan, dtype=np.float32)
        return Tree(ids, end, depth, parent, w_pos, w_neg, w_kl, w_ce, old_logp, self._dense)


def _depth_first(roots: dict[int, _Node]) -> Iterator[tuple[_Node, int, int, int]]:
    """Yield (node, tokens in its subtree, index of its parent token, its depth) in layout order."""
    sizes: dict[int, int] = {}
    stack = [(node, False) for node in roots.values()]
    while stack:
        node, seen = stack.pop()
        if seen:
            sizes[id(node)] = len(node.ids) + sum(sizes[id(child)] for child in node.children.values())
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in node.children.values())
    walk = [(node, -1, 0) for node in reversed(roots.values())]
    at = 0
    while walk:
        node, before, level = walk.pop()
        yield node, sizes[id(node)], before, level
        at += len(node.ids)
        # Sorting is stable, so equal subtrees keep their order; the largest is last, and popped first.
        below = sorted(node.children.values(), key=lambda child: -sizes[id(child)])[::-1]
        walk.extend((child, at - 1, level + len(node.ids)) for child in below)


def side_by_side(trees: Sequence[Tree]) -> Tree:
    """Lay trees in one row; none sees another."""
    offsets = np.cumsum([0, *(tree.num_tokens for tree in trees)])
    moved = [
        replace(tree, end=tree.end + at, parent=np.where(tree.parent < 0, -1, tree.parent + at))
        for tree, at in zip(trees, offsets, strict=False)
    ]
    arrays = {
        field.name: np.concatenate([getattr(tree, field.name) for tree in moved])
        for field in fields(Tree)
        if field.name != "num_dense_tokens"
    }
    return Tree(**arrays, num_dense_tokens=sum(tree.num_dense_tokens for tree in trees))


def pack(trees: Sequence[Tree], budget_tokens: int) -> list[Tree]:
    """Lay trees side by side in rows of at most `budget_tokens` (first fit, largest first).

    A tree larger than the budget gets its own row. Every tree ends up in exactly one row.
    """
    rows: list[list[Tree]] = []
    used: list[int] = []
    for tree in sorted(trees, key=lambda tree: -tree.num_tokens):
        row = next((i for i, n in enumerate(used) if n + tree.num_tokens <= budget_tokens), None)
        if row is None:
            rows.append([tree])
            used.append(tree.num_tokens)
        else:
            rows[row].append(tree)
            used[row] += tree.num_tokens
    return [side_by_side(row) for row in rows]
