"""Rows of a model whose attention cannot be replaced: every step reads each whole context again.

Slow, and right for every causal model: contexts are padded at their end, which no real token attends to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rwml.models.sampling.kv import FORWARD_TOKENS, Trunk


class RereadCache:
    """The same rows and methods as `SharedPrefixCache`, but it keeps only the tokens."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.trunks: list[Trunk] = []
        self.start_rows([])

    def add_trunks(self, trunks: Sequence[Trunk]) -> None:
        """Keep the tokens of trunks."""
        self.trunks = list(trunks)

    def start_rows(self, place: Sequence[tuple[int, int]]) -> None:
        """Begin one row per place (trunk or -1, number of the trunk's tokens that it shares)."""
        self.contexts = [list(self.trunks[trunk].ids[:shared]) if shared else [] for trunk, shared in place]
        self.num_live, self.row_ids = len(place), torch.arange(len(place), device=self.device)

    def feed(self, tokens: Sequence[Sequence[int]], *, want_logits: bool = True) -> Tensor:
        """Append known tokens to the live rows; logits [num_live, V] after each row's last."""
        for context, new in zip(self.contexts, tokens, strict=False):
            context.extend(new)
        return self._logits() if want_logits else torch.zeros(0, device=self.device)

    def step(self, ids_R: Tensor, kept: Tensor | None = None) -> Tensor:
        """Append one token to every live row (for good where `kept`); logits [num_live, V]."""
        stays = [True] * self.num_live if kept is None else kept.tolist()
        for row, token in enumerate(ids_R.tolist()):
            if stays[row]:
                self.contexts[row].append(token)
        return self._logits()

    def _logits(self) -> Tensor:
        contexts = self.contexts[: self.num_live]
        width = max(map(len, contexts))
        per_forward = max(1, FORWARD_TOKENS // width)
        parts = []
        for first in range(0, len(contexts), per_forward):
            group = contexts[first : first + per_forward]
            ids = self.tensor([[*context, *[0] * (width - len(context))] for context in group])
            last = self.tensor([len(context) - 1 for context in group])
            logits = self.model(input_ids=ids, use_cache=False).logits
            parts.append(logits[torch.arange(len(group), device=self.device), last].float())
        return torch.cat(parts)

    def select(self, rows: Tensor) -> None:
        """Replace the rows by the given ones (repeats make copies): all live, numbered again in `row_ids`."""
        self.contexts = [list(self.contexts[row]) for row in rows.tolist()]
        self.num_live, self.row_ids = len(rows), torch.arange(len(rows), device=self.device)

    def swap(self, a: Tensor, b: Tensor) -> None:
        """Exchange rows a[i] and b[i] (all distinct)."""
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            self.contexts[i], self.contexts[j] = self.contexts[j], self.contexts[i]
        target, source = torch.cat([a, b]), torch.cat([b, a])
        self.row_ids[target] = self.row_ids[source]

    def set_live(self, num_live: int) -> None:
        """Let only the first `num_live` rows take part in what follows."""
        self.num_live = num_live

    def squeeze(self) -> None:
        """Nothing to give back."""

    def reserve(self, columns: int) -> None:
        """Nothing to reserve."""

    def tensor(self, numbers: Sequence[Any]) -> Tensor:
        """Integers as a tensor on the model's device."""
        return torch.tensor(numbers, dtype=torch.long, device=self.device)
