"""Attention over a part of a context, and rows over trunks, against plain softmax and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rwml.models.sampling.prefix_attention import partial_attention, trunk_layout


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Softmax attention [B, H, Q, D] and log-sum-exp [B, H, Q] in double precision, at scale 0.3."""
    scores = 0.3 * q.double() @ k.double().transpose(-1, -2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.double()
    return scores.softmax(-1) @ v.double(), scores.logsumexp(-1)


@pytest.mark.parametrize("shape", [(1, 4, 40), (1, 4, 3), (5, 2, 2), (5, 2, 30)])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("masked", [False, True])
def test_a_part_of_a_context_is_plain_softmax(shape: tuple[int, int, int], softcap: float | None, masked: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    batch, heads, queries = shape
    q = torch.randn(batch, heads, queries, 8, generator=draw)
    k, v = (torch.randn(batch, heads, 50, 8, generator=draw) for _ in range(2))
    allowed = torch.rand(batch, 1, queries, 50, generator=draw) < 0.5
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf")) if masked else None
    options: dict[str, Any] = {"scaling": 0.3, "softcap": softcap}
    out, lse = partial_attention(q, k, v, bias, options)
    expected, expected_lse = plain(q, k, v, bias, softcap)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(lse.double(), expected_lse, atol=1e-5, rtol=0)


def test_two_parts_join_to_the_whole() -> None:
    """Where a and b are the parts' log-sum-exps, they weigh sigmoid(a - b) and sigmoid(b - a)."""
    draw = torch.Generator().manual_seed(1)
    q = torch.randn(3, 2, 4, 8, generator=draw)
    k, v = (torch.randn(3, 2, 30, 8, generator=draw) for _ in range(2))
    options: dict[str, Any] = {"scaling": 0.3}
    left, a = partial_attention(q, k[:, :, :11], v[:, :, :11], None, options)
    right, b = partial_attention(q, k[:, :, 11:], v[:, :, 11:], None, options)
    joined = left * torch.sigmoid(a - b)[..., None] + right * torch.sigmoid(b - a)[..., None]
    torch.testing.assert_close(joined.double(), plain(q, k, v, None, None)[0], atol=1e-5, rtol=0)


def test_rows_lie_in_trunk_order_by_hand() -> None:
    layout = trunk_layout(torch.tensor([1, 0, -1, 1]), torch.tensor([5, 7, 0, 3]))
    assert layout.order is not None
    assert layout.inverse is not None
    # The row without a trunk first, then trunk 0, then trunk 1 from the row that shares least.
    assert layout.order.tolist() == [2, 1, 3, 0]
    assert layout.order[layout.inverse].tolist() == [0, 1, 2, 3]
    assert [(block.trunk, block.start, block.stop, block.columns) for block in layout.blocks] == [
        (-1, 0, 1, 0),
        (0, 1, 2, 7),
        (1, 2, 4, 5),
    ]
    lengths = layout.blocks[2].lengths
    assert lengths is not None
    assert lengths.tolist() == [3, 5]
    ordered = trunk_layout(torch.tensor([0, 0]), torch.tensor([4, 4]))
    assert (ordered.order, ordered.inverse, ordered.blocks[0].lengths) == (None, None, None)
    assert trunk_layout(torch.tensor([-1, -1]), torch.tensor([0, 0])).blocks == []
