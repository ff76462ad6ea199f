"""Trunks by hand, and the memory of rows."""

from __future__ import annotations

import pytest
import torch

from rwml.models.sampling.kv import Trunk, plan_trunks
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


def test_dropped_rows_give_their_memory_back() -> None:
    session = LocalSampler(make_model("qwen3"), [STOP]).session([numbers(10, i) for i in range(8)])
    session.sample(range(8), SamplingParams(4), torch.Generator().manual_seed(0))
    session.drop([0, 1, 2])
    assert session._cache.own_kv[0][0].shape[0] == 8
    session.drop([6, 7])
    assert session._cache.own_kv[0][0].shape[0] == 3
    with pytest.raises(AssertionError):
        session.sample([0], SamplingParams(4), torch.Generator())
