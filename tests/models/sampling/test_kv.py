"""Trunks by hand, and the memory of rows."""

from __future__ import annotations

import pytest
import torch

from rwml.models.sampling import kv
from rwml.models.sampling.kv import Trunk, plan_trunks, rows_at_a_time
from rwml.models.sampling.local import LocalSampler
from rwml.models.sampling.sampler import SamplingParams
from small_models import STOP, make_model, numbers


def test_trunks_by_hand() -> None:
    a, b = tuple(range(20)), tuple(range(10, 40))
    prompts = [(*a, 90), (*a[:12], 91, 92), (*b, 93), (7,)]
    trunks, place = plan_trunks(prompts, [4, 4, 4, 1])
    assert trunks == [Trunk(-1, 0, b), Trunk(-1, 0, a)]
    assert place == [(1, 20), (1, 12), (0, 30), (-1, 0)]
    # A prompt that shares only its head with a longer one, and is long itself, gets a trunk that continues the head.
    head, left, right = (1, 2, 3), tuple(range(100, 300)), tuple(range(300, 450))
    trunks, place = plan_trunks([(*head, *right), (*head, *left), (*head, *right[:70], 9)], [8, 8, 8])
    assert trunks == [Trunk(-1, 0, (*head, *left[:-1])), Trunk(0, 3, (*head, *right[:-1]))]
    assert place == [(1, 152), (0, 202), (1, 73)]
    # Too few rows to share anything: everything is the row's own.
    assert plan_trunks([(1, 2, 3)], [3]) == ([], [(-1, 0)])


def test_a_long_prompt_of_few_rows_is_a_trunk_and_no_column_of_other_rows() -> None:
    long, short = tuple(range(1100)), (5, 6, 7)
    trunks, place = plan_trunks([long, short], [1, 1])
    assert trunks == [Trunk(-1, 0, long[:-1])]
    assert place == [(0, 1099), (-1, 0)]
    assert plan_trunks([long[:1024], short], [1, 3]) == ([], [(-1, 0)] * 2)


def test_rows_are_as_many_as_the_memory_of_their_columns_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("qwen3")
    column = 2 * 2 * 2 * 6 * 4  # keys and values, layers, heads, numbers of a head, bytes
    assert rows_at_a_time(model, 20, 512) == 512
    monkeypatch.setattr(kv, "ALWAYS_ROWS", 4)
    monkeypatch.setattr(kv, "OWN_BYTES", 10 * 20 * column)
    assert [rows_at_a_time(model, columns, 512) for columns in (10, 20, 40, 1000)] == [20, 10, 5, 4]
    assert rows_at_a_time(model, 20, 7) == 7


def test_dropped_rows_give_their_memory_back() -> None:
    session = LocalSampler(make_model("qwen3"), [STOP]).session([numbers(10, i) for i in range(8)])
    session.sample(range(8), SamplingParams(4), torch.Generator().manual_seed(0))
    session.drop([0, 1, 2])
    assert session._cache.own_kv[0][0].shape[0] == 8
    session.drop([6, 7])
    assert session._cache.own_kv[0][0].shape[0] == 3
    with pytest.raises(AssertionError):
        session.sample([0], SamplingParams(4), torch.Generator())
