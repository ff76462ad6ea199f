"""Keys and values of many sequences that share prefixes.

A row is one sequence being written. Its context is a prefix of one *trunk* (tokens that several rows share, stored
once) followed by the row's *own* columns. Columns are common to all rows: a step writes one column of every live row,
and `valid` says which columns a row has really written. A forward pass is packed: all its tokens are one sequence
`[1, N]`, whose rows `prefix_attention` keeps apart.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwml.models.sampling.prefix_attention import (
    RowSpan,
    RowsPass,
    TrunkLayout,
    TrunkPass,
    attending,
    padded,
    trunk_layout,
)

TRUNK_MIN_ROWS = 4
# Longer prompts are trunks for any number of rows: as own columns of one row they would be columns of all.
LONG_PROMPT = 1024
# Tokens behind a shared prefix that are copied to every row of the prompt rather than made a trunk of their own.
SHORT_TAIL = 64
FORWARD_TOKENS = 8192
# What the own columns of the rows that are written together may take up in main memory, as far as so many rows do.
OWN_BYTES, ALWAYS_ROWS = 2**28, 64


@dataclass(frozen=True, slots=True)
class Trunk:
    """Tokens shared by several prompts: the first `shared` are those of trunk `parent`, the others its own."""

    parent: int
    shared: int
    ids: tuple[int, ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that two sequences share."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # slices compare at the speed of C
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _closest(families: list[tuple[tuple[int, ...], int]], ids: tuple[int, ...]) -> tuple[int, int]:
    """The longest prefix that `ids` share with one of the sorted sequences, and that one's number; (0, -1) if none."""
    at = bisect_left(families, (ids, 0))
    # In the sorted order, neighbours share the longest prefixes.
    return max(((common_prefix(near, ids), i) for near, i in families[max(at - 1, 0) : at + 1]), default=(0, -1))


def plan_trunks(
    prompts: Sequence[tuple[int, ...]], rows_per_prompt: Sequence[int]
) -> tuple[list[Trunk], list[tuple[int, int]]]:
    """Choose the trunks of distinct prompts.

    Returns the trunks (parents first) and for each prompt (trunk, number of its leading tokens that are the trunk's);
    (-1, 0) where too few rows would share a trunk. At least one token of every prompt is left out of its trunk, because
    the model must still be asked what follows it.
    """
    heads: list[tuple[tuple[int, ...], int]] = []
    families: dict[int, list[int]] = {}
    # From the longest prompt down, each joins the prompt that it shares most with, or heads a new family.
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i])):
        shared, head = _closest(heads, prompts[i])
        if shared and len(prompts[i]) - shared <= max(SHORT_TAIL, len(prompts[i]) // 2):
            families[head].append(i)
        else:
            families[i] = [i]
            insort(heads, (prompts[i], i))
    trunks: list[Trunk] = []
    place = [(-1, 0)] * len(prompts)
    known: list[tuple[tuple[int, ...], int]] = []
    for head, family in families.items():
        ids = prompts[head][:-1]
        few = sum(rows_per_prompt[i] for i in family) < TRUNK_MIN_ROWS and len(ids) <= LONG_PROMPT
        if few or not ids:
            continue
        for i in family:
            shared = min(common_prefix(ids, prompts[i]), len(prompts[i]) - 1)
            place[i] = (len(trunks), shared) if shared else (-1, 0)
        shared, parent = _closest(known, ids)
        insort(known, (ids, len(trunks)))
        trunks.append(Trunk(parent if shared else -1, shared, ids))
    return trunks, place


def rows_at_a_time(model: Any, columns: int, most: int) -> int:
    """How many rows of so many own columns to write together, `most` at most; fewer on a CPU, which shares its memory
    with all else and gains little from more rows."""
    config = model.config.get_text_config()
    sizes = ("num_hidden_layers", "num_attention_heads", "hidden_size")
    layers, heads, width = (getattr(config, name, 0) or 0 for name in sizes)
    head = getattr(config, "head_dim", 0) or width // max(1, heads)
    column = 2 * 4 * layers * head * (getattr(config, "num_key_value_heads", 0) or heads)
    if next(model.parameters()).device.type != "cpu" or not column:
        return most
    return min(most, max(ALWAYS_ROWS, OWN_BYTES // (column * max(1, columns))))


class SharedPrefixCache:
    """Trunks (written once) and rows (preallocated columns, written in place) of one model.

    The live rows, those that take part in a step, are always the first `num_live` ones. dtype: of the keys and values
    (on a CPU at least float32); None keeps the model's.
    """

    def __init__(self, model: Any, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        # Small products in bfloat16 gain nothing on a CPU.
        self.dtype = torch.float32 if dtype is not None and self.device.type == "cpu" else dtype
        self.trunks: list[Trunk] = []
        self.trunk_kv: list[list[tuple[Tensor, Tensor]]] = []  # [layer][trunk] -> two of [K, L, D]
        self.own_kv: list[tuple[Tensor, Tensor]] = []  # [layer] -> two of [R, K, C, D]
        self.start_rows([])

    def forward(self, attention: RowsPass | TrunkPass, ids_N: Tensor, positions_N: Tensor, keep: Tensor) -> Tensor:
        """Run the model on packed tokens; logits [len(keep), V] (float32) at the packed places `keep`."""
        with attending(attention):
            out = self.model(
                input_ids=ids_N[None], position_ids=positions_N[None], use_cache=False, logits_to_keep=keep
            )
        return out.logits[0].float()

    def add_trunks(self, trunks: Sequence[Trunk]) -> None:
        """Prefill trunks; a token that trunks share is computed only once."""
        self.trunks = list(trunks)
        start = 0
        while start < len(trunks):
            stop, tokens = start, 0
            while stop < len(trunks) and (stop == start or tokens + len(trunks[stop].ids) <= FORWARD_TOKENS):
                tokens += len(trunks[stop].ids)
                stop += 1
            group = trunks[start:stop]
            ids = self.tensor([i for trunk in group for i in trunk.ids[trunk.shared :]])
            positions = self.tensor([p for trunk in group for p in range(trunk.shared, len(trunk.ids))])
            if len(ids):
                packed = [(t, trunks[t].shared, len(trunks[t].ids)) for t in range(start, stop)]
                self.forward(TrunkPass(self, packed), ids, positions, self.tensor([len(ids) - 1]))
            start = stop

    def start_rows(self, place: Sequence[tuple[int, int]]) -> None:
        """Begin one row per place (trunk or -1, number of the trunk's tokens that it shares)."""
        self.row_trunk = self.tensor([trunk for trunk, _ in place])
        self.row_shared = self.tensor([shared for _, shared in place])
        self.row_length = self.row_shared.clone()
        self.row_ids = torch.arange(len(place), device=self.device)
        self.own_kv, self.column, self.capacity, self.num_live = [], 0, 0, len(place)
        self.valid = torch.zeros(len(place), 0, dtype=torch.bool, device=self.device)
        self.positions = torch.zeros(len(place), 0, dtype=torch.long, device=self.device)
        self.layout_changed()

    def feed(self, tokens: Sequence[Sequence[int]], *, want_logits: bool = True) -> Tensor:
        """Append known tokens to the live rows; logits [num_live, V] after each row's last.

        Without want_logits, a row may have no new tokens, and the result is empty.
        """
        width = max(map(len, tokens), default=0)
        if not width:
            return torch.zeros(0, device=self.device)
        self.reserve(width)
        lengths = self.tensor([len(ids) for ids in tokens])
        offsets = torch.arange(width, device=self.device)
        inside = offsets < lengths[:, None]
        columns = slice(self.column, self.column + width)
        self.valid[: self.num_live, columns] = inside
        self.positions[: self.num_live, columns] = self.row_length[: self.num_live, None] + offsets
        logits = []
        per_forward = max(1, FORWARD_TOKENS // width)
        for first in range(0, self.num_live, per_forward):
            rows = slice(first, min(first + per_forward, self.num_live))
            ids = self.tensor([i for row in tokens[rows] for i in row])
            if not len(ids):
                continue
            last = lengths[rows].cumsum(0) - 1
            positions = self.positions[rows, columns][inside[rows]]
            attention = self._rows_pass(RowSpan(rows, self.column, width, inside[rows]))
            logits.append(self.forward(attention, ids, positions, last if want_logits else last[-1:]))
        self.row_length[: self.num_live] += lengths
        self.column += width
        return torch.cat(logits) if want_logits else torch.zeros(0, device=self.device)

    def step(self, ids_R: Tensor, kept: Tensor | None = None) -> Tensor:
        """Append one token to every live row; logits [num_live, V].

        kept: rows [num_live] whose token shall stay; None: all. The others only pass through.
        """
        self.reserve(1)
        live = slice(0, self.num_live)
        positions = self.row_length[live].clone()
        self.valid[live, self.column] = True if kept is None else kept
        self.positions[live, self.column] = positions
        keep = torch.arange(self.num_live, device=self.device)
        attention = self._rows_pass(RowSpan(live, self.column, 1, None))
        logits = self.forward(attention, ids_R, positions, keep)
        self.row_length[live] += 1 if kept is None else kept
        self.column += 1
        return logits

    def _rows_pass(self, span: RowSpan) -> RowsPass:
        rows, seen = span.rows, slice(0, span.column + span.width)
        key = (rows.start, rows.stop)
        if key not in self._layouts:
            self._layouts[key] = trunk_layout(self.row_trunk[rows], self.row_shared[rows])
        return RowsPass(self, span, self.valid[rows, seen], self.positions[rows, seen], self._layouts[key])

    def write_trunk(self, layer: int, trunk: int, k_KTD: Tensor, v_KTD: Tensor) -> tuple[Tensor, Tensor]:
        """See `PrefixKeys.write_trunk`; trunks are written in their order."""
        if layer == len(self.trunk_kv):
            self.trunk_kv.append([])
        held, shared = self.trunk_kv[layer], self.trunks[trunk].shared
        if shared:
            parent_k, parent_v = held[self.trunks[trunk].parent]
            k_KTD = torch.cat([parent_k[:, :shared], k_KTD], dim=1)
            v_KTD = torch.cat([parent_v[:, :shared], v_KTD], dim=1)
        held.append((k_KTD.contiguous(), v_KTD.contiguous()))
        return k_KTD, v_KTD

    def trunk_keys(self, layer: int, trunk: int) -> tuple[Tensor, Tensor]:
        """See `PrefixKeys.trunk_keys`."""
        return self.trunk_kv[layer][trunk]

    def write_rows(self, layer: int, span: RowSpan, k_KND: Tensor, v_KND: Tensor) -> tuple[Tensor, Tensor]:
        """See `PrefixKeys.write_rows`; a layer's columns are made when it is first written."""
        if layer == len(self.own_kv):
            shape = (len(self.row_trunk), k_KND.shape[0], self.capacity)
            self.own_kv.append((k_KND.new_zeros(*shape, k_KND.shape[2]), v_KND.new_zeros(*shape, v_KND.shape[2])))
        stop = span.column + span.width
        for held, new in zip(self.own_kv[layer], (k_KND, v_KND), strict=True):
            if span.inside is None:
                held[span.rows, :, span.column] = new.transpose(0, 1)
            else:
                held[span.rows, :, span.column : stop] = padded(new, span.inside)
        keys, values = self.own_kv[layer]
        return keys[span.rows, :, :stop], values[span.rows, :, :stop]

    def select(self, rows: Tensor) -> None:
        """Replace the rows by the given ones (repeats make copies): all live, numbered again in `row_ids`."""
        self._replace_own(lambda held: held.index_select(0, rows))
        self.row_trunk, self.row_shared = self.row_trunk[rows], self.row_shared[rows]
        self.row_length, self.valid, self.positions = self.row_length[rows], self.valid[rows], self.positions[rows]
        self.num_live, self.row_ids = len(rows), torch.arange(len(rows), device=self.device)
        self.layout_changed()

    def _replace_own(self, change: Callable[[Tensor], Tensor]) -> None:
        # Layer by layer, so that old and new are not both held as a whole.
        for layer, (keys, values) in enumerate(self.own_kv):
            self.own_kv[layer] = (change(keys), change(values))

    def swap(self, a: Tensor, b: Tensor) -> None:
        """Exchange rows a[i] and b[i] (all distinct)."""
        target, source = torch.cat([a, b]), torch.cat([b, a])
        own = [held for pair in self.own_kv for held in pair]
        for held in (*own, self.row_trunk, self.row_shared, self.row_length, self.row_ids, self.valid, self.positions):
            held[target] = held[source]
        self.layout_changed()

    def set_live(self, num_live: int) -> None:
        """Let only the first `num_live` rows take part in what follows."""
        if num_live != self.num_live:
            self.num_live = num_live
            self.layout_changed()

    def squeeze(self) -> None:
        """Close the holes in the columns, if that frees at least a tenth of them."""
        written = self.valid[:, : self.column]
        needed = int(written.sum(1).max()) if written.numel() else 0
        if needed * 10 > self.column * 9:
            return
        order = torch.argsort((~written).to(torch.uint8), dim=1, stable=True)[:, :needed]
        index = order[:, None, :, None]
        for pair in self.own_kv:
            for held in pair:
                held[:, :, :needed] = held.gather(2, index.expand(-1, held.shape[1], -1, held.shape[3]))
        self.positions[:, :needed] = self.positions.gather(1, order)
        self.valid[:, :needed] = written.gather(1, order)
        self.valid[:, needed:] = False
        self.column = needed

    def reserve(self, columns: int) -> None:
        """Make room for so many more columns."""
        if self.column + columns <= self.capacity:
            return
        self.capacity = max(self.column + columns, self.capacity + self.capacity // 2, 64)
        self._replace_own(lambda held: self._grown(held, 2))
        self.valid, self.positions = self._grown(self.valid, 1), self._grown(self.positions, 1)

    def _grown(self, held: Tensor, dim: int) -> Tensor:
        shape = list(held.shape)
        shape[dim] = self.capacity
        # Unwritten columns are read under a mask, and 0 * nan would not be 0.
        larger = held.new_zeros(shape)
        larger.narrow(dim, 0, self.column).copy_(held.narrow(dim, 0, self.column))
        return larger

    def layout_changed(self) -> None:
        """Forget what was derived from the live rows and their order."""
        self._layouts: dict[tuple[int, int], TrunkLayout] = {}

    def tensor(self, numbers: Sequence[int]) -> Tensor:
        """Integers as a tensor on the model's device."""
        return torch.tensor(numbers, dtype=torch.long, device=self.device)
