"""Attention of packed tokens over shared prefixes, for any Hugging Face model that uses `AttentionInterface`.

Which keys a token may look at is decided here; keys and values are kept, and written, by the cache (`PrefixKeys`).
A row looks at a prefix of its trunk and at its own columns. The two parts are attended to apart, rows of one trunk
together, and joined exactly: where a and b are the log-sum-exps of their scores, they weigh sigmoid(a - b) and
sigmoid(b - a).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

ATTENTION_NAME = "rwml_shared_prefix"
# Unused row-columns of scores that cost as much as one more call of the attention kernel.
CALL_COST = 1500
FEW_QUERIES = 16
_running = threading.local()


class PrefixKeys(Protocol):
    """The keys and values that packed tokens look at. dtype: that they are kept in, None: the model's."""

    dtype: torch.dtype | None

    def write_trunk(self, layer: int, trunk: int, k_KTD: Tensor, v_KTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a trunk's own T tokens of a layer; its keys and values, with what it shares: two of [K, L, D]."""

    def trunk_keys(self, layer: int, trunk: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a trunk in a layer: two of [K, L, D]."""

    def write_rows(self, layer: int, span: RowSpan, k_KND: Tensor, v_KND: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the rows' new tokens of a layer; all columns of these rows up to those: two of [R, K, C, D]."""


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Rows that grow by `width` columns from `column` on; inside [R, width] tells tokens from padding (None: none)."""

    rows: slice
    column: int
    width: int
    inside: Tensor | None


@contextmanager
def attending(attention: RowsPass | TrunkPass) -> Iterator[None]:
    """Let `attention` answer the attention calls of the forward pass that runs inside."""
    _running.attention, _running.layer = attention, 0
    try:
        yield
    finally:
        _running.attention = None


def _attend(_module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, **options: Any) -> tuple[Tensor, None]:
    """What transformers calls: query [1, H, N, D], key and value [1, K, N, D] -> [1, N, H, D]."""
    layer = _running.layer
    _running.layer = layer + 1
    attention = _running.attention
    dtype = attention.keys.dtype or value.dtype
    # The products below choose their precision themselves.
    with torch.autocast(query.device.type, enabled=False):
        out = attention.attend(layer, query[0].to(dtype), key[0].to(dtype), value[0].to(dtype), options)
    return out[None], None


AttentionInterface.register(ATTENTION_NAME, _attend)


def partial_attention(
    q_BHQD: Tensor, k_BHCD: Tensor, v_BHCD: Tensor, bias: Tensor | None, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Attention over part of a context: output [B, H, Q, D] and log-sum-exp of the scores [B, H, Q] (float32).

    bias: added to the scores, broadcastable to [B, H, Q, C], with -inf where a query must not look. A query that may
    look at nothing gets output 0 and log-sum-exp -inf (only sliding windows make such queries).
    """
    scale, softcap = options.get("scaling"), options.get("softcap")
    # For many rows of few queries each (a step over own columns), two batched products are three times faster than the
    # fused kernel, which otherwise spares memory and calls.
    many_small = q_BHQD.shape[0] > 1 and q_BHQD.shape[2] <= FEW_QUERIES
    if q_BHQD.device.type == "cpu" and not many_small and not softcap and q_BHQD.shape[3] == v_BHCD.shape[3]:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_BHQD, k_BHCD, v_BHCD, attn_mask=bias, scale=scale
        )
        if bias is not None and options.get("sliding_window"):
            lse = lse.masked_fill(bias.amax(-1).isneginf(), float("-inf"))
        return out, lse
    q_BHQD = q_BHQD * (q_BHQD.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.bmm(q_BHQD.flatten(0, 1), k_BHCD.flatten(0, 1).transpose(1, 2)).float()
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(*q_BHQD.shape[:3], -1)
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(-1)
    # exp(largest score - lse) is the largest weight; one pass instead of the four of logsumexp.
    lse = scores.amax(-1) - weights.amax(-1).log()
    if bias is not None and options.get("sliding_window"):
        weights, lse = weights.nan_to_num(), lse.nan_to_num(nan=float("-inf"))
    out = torch.bmm(weights.flatten(0, 1).to(v_BHCD.dtype), v_BHCD.flatten(0, 1))
    return out.view(*q_BHQD.shape[:3], -1), lse


def _bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, float("-inf"))


def _allowed(query_BQ: Tensor, key_BC: Tensor, options: dict[str, Any]) -> Tensor:
    """Which keys (by position) a query may look at: [B, Q, C]."""
    query, key = query_BQ[:, :, None], key_BC[:, None]
    window = options.get("sliding_window")
    return (key <= query) & (key > query - window) if window else key <= query


def _with_sinks(out_BHQD: Tensor, lse_BHQ: Tensor, options: dict[str, Any]) -> Tensor:
    """Let each head's learned sink (if the model has them) take its share of the attention."""
    sinks = options.get("s_aux")
    if sinks is None:
        return out_BHQD
    return out_BHQD * torch.sigmoid(lse_BHQ - sinks.float()[None, :, None])[..., None].to(out_BHQD.dtype)


def padded(packed_HND: Tensor, inside_RT: Tensor) -> Tensor:
    """Packed tokens as rows: [H, N, D] -> [R, H, T, D], zero beyond each row's end."""
    heads, _, size = packed_HND.shape
    rows = packed_HND.new_zeros(*inside_RT.shape, heads, size)
    rows[inside_RT] = packed_HND.transpose(0, 1)
    return rows.transpose(1, 2)


class TrunkPass:
    """Attention while trunks are prefilled: causal, each after the part that it shares with its parent.

    trunks: (number, tokens shared with the parent, all tokens) of each, in the order in which they are packed.
    """

    def __init__(self, keys: PrefixKeys, trunks: Sequence[tuple[int, int, int]]) -> None:
        self.keys, self.trunks = keys, trunks

    def attend(self, layer: int, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, options: dict[str, Any]) -> Tensor:
        """Attention of the packed new tokens of the trunks: [N, H, D]."""
        outputs, start = [], 0
        group = q_HND.shape[0] // k_KND.shape[0]
        for number, shared, length in self.trunks:
            stop = start + length - shared
            k, v = self.keys.write_trunk(layer, number, k_KND[:, start:stop], v_KND[:, start:stop])
            if stop > start:
                positions = torch.arange(length, device=q_HND.device)[None]
                bias = _bias(_allowed(positions[:, shared:], positions, options), q_HND.dtype)[:, None]
                k, v = k.repeat_interleave(group, 0)[None], v.repeat_interleave(group, 0)[None]
                out, lse = partial_attention(q_HND[None, :, start:stop], k, v, bias, options)
                outputs.append(_with_sinks(out, lse, options)[0].transpose(0, 1))
            start = stop
        return torch.cat(outputs)


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows start..stop (in trunk order) that look at the first `columns` tokens of a trunk, or fewer."""

    trunk: int
    start: int
    stop: int
    columns: int
    lengths: Tensor | None


@dataclass(frozen=True, slots=True)
class TrunkLayout:
    """The order of rows by trunk and its inverse (None if they are already in order), and the blocks over them."""

    order: Tensor | None
    inverse: Tensor | None
    blocks: list[_Block]


def trunk_layout(trunk_R: Tensor, shared_R: Tensor) -> TrunkLayout:
    """How rows look at trunks. trunk_R: the trunk of each row, -1 for none; shared_R: tokens that it shares with it."""
    order = torch.argsort(trunk_R * (1 + int(shared_R.max())) + shared_R, stable=True)
    blocks = _blocks(trunk_R[order].tolist(), shared_R[order])
    if not any(block.columns for block in blocks):
        blocks = []
    if bool((order[1:] > order[:-1]).all()):
        return TrunkLayout(None, None, blocks)
    return TrunkLayout(order, torch.argsort(order), blocks)


class RowsPass:
    """Attention while rows grow.

    valid, positions [R, C]: of the rows' own columns up to the last new one, whether it is written, and the place of
    its token in the context. layout: of the rows over the trunks.
    """

    def __init__(
        self, keys: PrefixKeys, span: RowSpan, valid_RC: Tensor, positions_RC: Tensor, layout: TrunkLayout
    ) -> None:
        self.keys, self.span, self.layout = keys, span, layout
        self.valid, self.own_positions = valid_RC, positions_RC
        self.positions = positions_RC[:, span.column :]
        self._own_bias: dict[Any, Tensor | None] = {}

    def attend(self, layer: int, q_HND: Tensor, k_KND: Tensor, v_KND: Tensor, options: dict[str, Any]) -> Tensor:
        """Attention of the packed new tokens: [N, H, D]."""
        width, inside = self.span.width, self.span.inside
        num_rows, kv_heads = len(self.valid), k_KND.shape[0]
        keys, values = self.keys.write_rows(layer, self.span, k_KND, v_KND)
        # Queries of the heads that share a key head lie behind one another: [R, K, group * T, D].
        q = q_HND.transpose(0, 1) if inside is None else padded(q_HND, inside)
        q = q.reshape(num_rows, kv_heads, -1, q_HND.shape[2])
        bias = self._bias_of_own(q.shape[2] // width, q.dtype, options)
        out, lse = partial_attention(q, keys, values, bias, options)
        out, lse = self._with_trunks(layer, q, out, lse, options)
        out, lse = out.reshape(num_rows, -1, width, out.shape[3]), lse.reshape(num_rows, -1, width)
        out = _with_sinks(out, lse, options)
        return out[:, :, 0] if inside is None else out.transpose(1, 2)[inside]

    def _bias_of_own(self, group: int, dtype: torch.dtype, options: dict[str, Any]) -> Tensor | None:
        window = options.get("sliding_window")
        if window not in self._own_bias:
            allowed = self.valid[:, None].clone()
            if window or self.span.width > 1:
                allowed = allowed & _allowed(self.positions, self.own_positions, options)
            if self.span.inside is not None:
                # A padded query must see something, or its output is not a number.
                allowed[:, :, 0] |= ~self.span.inside
            bias = None if bool(allowed.all()) else _bias(allowed, dtype)[:, None]
            if bias is not None and self.span.width > 1:
                bias = bias.repeat(1, 1, group, 1)
            self._own_bias[window] = bias
        return self._own_bias[window]

    def _with_trunks(
        self, layer: int, q_RKQD: Tensor, out: Tensor, lse: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Join the attention over the trunks to that over the own columns."""
        order, inverse, blocks = self.layout.order, self.layout.inverse, self.layout.blocks
        if not blocks:
            return out, lse
        num_rows, kv_heads, queries, _ = q_RKQD.shape
        q_KRQD = (q_RKQD if order is None else q_RKQD[order]).transpose(0, 1).contiguous()
        outs, lses = [], []
        for block in blocks:
            rows = slice(block.start, block.stop)
            if not block.columns:
                outs.append(q_KRQD.new_zeros(1, kv_heads, (block.stop - block.start) * queries, out.shape[3]))
                lses.append(lse.new_full((1, *outs[-1].shape[1:3]), float("-inf")))
                continue
            k, v = self.keys.trunk_keys(layer, block.trunk)
            bias = self._bias_of_trunk(block, rows if order is None else order[rows], queries, q_KRQD.dtype, options)
            k, v = k[None, :, : block.columns], v[None, :, : block.columns]
            part = partial_attention(q_KRQD[None, :, rows].flatten(2, 3), k, v, bias, options)
            outs.append(part[0])
            lses.append(part[1])
        trunk_out = torch.cat(outs, 2).view(kv_heads, num_rows, queries, -1).transpose(0, 1)
        trunk_lse = torch.cat(lses, 2).view(kv_heads, num_rows, queries).transpose(0, 1)
        if inverse is not None:
            trunk_out, trunk_lse = trunk_out[inverse], trunk_lse[inverse]
        share = torch.sigmoid(trunk_lse - lse)[..., None].to(out.dtype)
        return torch.lerp(out, trunk_out, share), torch.logaddexp(lse, trunk_lse)

    def _bias_of_trunk(
        self, block: _Block, rows: Tensor | slice, queries: int, dtype: torch.dtype, options: dict[str, Any]
    ) -> Tensor | None:
        """What to add to the scores of one block: [1, 1, rows * queries, columns]."""
        window = int(options.get("sliding_window") or 0)
        positions = self.positions[rows]
        windowed = window > 0 and int(positions.max()) >= window
        if block.lengths is None and not windowed:
            return None
        columns = torch.arange(block.columns, device=positions.device)
        allowed = (columns < (block.columns if block.lengths is None else block.lengths[:, None]))[..., None, :]
        if windowed:
            allowed = allowed & (columns > positions[:, :, None] - window)
        allowed = allowed.expand(block.stop - block.start, -1, -1).repeat(1, queries // allowed.shape[1], 1)
        return _bias(allowed, dtype).view(1, 1, -1, block.columns)


def _blocks(trunks: list[int], shared: Tensor) -> list[_Block]:
    """Cut rows in trunk order into calls; rows without a trunk make a block of no columns."""
    lengths, blocks = shared.tolist(), []
    start, wasted = 0, 0
    for i in range(1, len(trunks) + 1):
        if i < len(trunks) and trunks[i] == trunks[start]:
            wasted += (lengths[i] - lengths[i - 1]) * (i - start)
            if wasted <= CALL_COST:
                continue
        ragged = shared[start:i] if lengths[start] != lengths[i - 1] else None
        blocks.append(_Block(trunks[start], start, i, lengths[i - 1], ragged))
        start, wasted = i, 0
    return blocks
