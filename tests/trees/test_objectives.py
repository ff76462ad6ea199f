"""Objectives: numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.trees.objectives import (
    LossFields,
    answer_coefficients,
    finish_metrics,
    group_advantages,
    merge_metrics,
    token_losses,
)
from rwml.trees.tree import TreeBuilder

NAN = math.nan


def fields(
    w_pos: list[float], w_neg: list[float], w_kl: list[float], w_ce: list[float], old: list[float]
) -> LossFields:
    return LossFields(*(torch.tensor(values) for values in (w_pos, w_neg, w_kl, w_ce, old)))


def test_group_advantages() -> None:
    advantages, has_signal = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), eps=0.0)
    # Mean 1/4, unbiased deviation 1/2.
    assert advantages[0].tolist() == [1.5, -0.5, -0.5, -0.5]
    assert advantages[1].tolist() == [0.0] * 4
    assert has_signal.tolist() == [True, False]


def test_group_advantages_without_scale_and_for_one_group() -> None:
    advantages, has_signal = group_advantages(torch.tensor([0.2, 0.6]), scale="none")
    assert advantages.tolist() == pytest.approx([-0.2, 0.2])
    assert bool(has_signal)
    advantages, has_signal = group_advantages(torch.tensor([[3.0]]))
    assert advantages.tolist() == [[0.0]]
    assert has_signal.tolist() == [False]


def test_equal_rewards_give_exact_zeros_whatever_rounding_says() -> None:
    advantages, has_signal = group_advantages(torch.full((3,), 0.1))
    assert advantages.tolist() == [0.0, 0.0, 0.0]
    assert not bool(has_signal)


def test_answer_coefficients() -> None:
    assert answer_coefficients([2, 4], "sequence").tolist() == [0.25, 0.125]
    assert answer_coefficients([2, 6], "token").tolist() == [0.125, 0.125]
    assert answer_coefficients([2, 6], "constant", max_new_tokens=10).tolist() == [0.05, 0.05]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_advantages(torch.ones(2), scale="sdt"), "unknown advantage scale 'sdt'"),
        (lambda: answer_coefficients([1], "sequenc"), "did you mean 'sequence'"),
        (lambda: answer_coefficients([1], "constant"), "max_new_tokens=0"),
    ],
)
def test_bad_settings_are_refused(call: object, message: str) -> None:
    with pytest.raises(RwmlError, match=message):
        call()  # type: ignore[operator]


def test_clip_binds_on_the_side_that_the_advantage_pushes_to() -> None:
    # Ratios 2 and 1/2 under both signs; clip at 0.8 and 1.2.
    logp = torch.log(torch.tensor([2.0, 2.0, 0.5, 0.5])).requires_grad_()
    loss, sums = token_losses(logp, fields([1, 0, 1, 0], [0, -1, 0, -1], [1] * 4, [0] * 4, [0.0] * 4))
    # A > 0: min(2, 1.2) and min(0.5, 1.2); A < 0: -max(2, 0.8) and -max(0.5, 0.8).
    assert loss.item() == pytest.approx(-(1.2 - 2.0 + 0.5 - 0.8))
    loss.backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([0.0, 2.0, -0.5, 0.0])
    metrics = finish_metrics({name: float(value) for name, value in sums.items()})
    assert metrics["clip_fraction"] == 0.5
    assert metrics["ratio"] == pytest.approx(1.25)
    assert metrics["ratio_max"] == pytest.approx(2.0)


def test_two_sided_clip_takes_its_own_bounds() -> None:
    logp = torch.log(torch.tensor([2.0, 0.5]))
    loss, _ = token_losses(logp, fields([1, 0], [0, -1], [1, 1], [0, 0], [0.0, 0.0]), clip_low=0.1, clip_high=0.5)
    assert loss.item() == pytest.approx(-(1.5 - 0.9))


def test_a_token_shared_by_answers_of_both_signs() -> None:
    logp = torch.log(torch.tensor([2.0]))
    both, _ = token_losses(logp, fields([0.3], [-0.7], [1.0], [0.0], [0.0]))
    assert both.item() == pytest.approx(-(0.3 * 1.2 - 0.7 * 2.0))


def test_without_old_logp_the_ratio_is_one_and_its_gradient_is_not_lost() -> None:
    logp = torch.tensor([-3.0, -1.0], requires_grad=True)
    loss, sums = token_losses(logp, fields([2, 0], [0, -3], [1, 1], [0, 0], [NAN, NAN]))
    assert loss.item() == 1.0
    assert sums["ratio_max"].item() == 1.0
    loss.backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [-2.0, 3.0]


def test_a_negative_weight_of_cross_entropy() -> None:
    """-(0.5 * -1 - 0.25 * -4) = -0.5; of the metrics only the token that is to become likelier is a part."""
    logp = torch.tensor([-1.0, -4.0, -2.0], requires_grad=True)
    zeros = [0.0] * 3
    loss, sums = token_losses(logp, fields(zeros, zeros, zeros, [0.5, -0.25, 0.0], [NAN] * 3))
    loss.backward()
    assert loss.item() == pytest.approx(-0.5)
    assert logp.grad is not None
    assert logp.grad.tolist() == [-0.5, 0.25, 0.0]
    metrics = finish_metrics({name: float(value) for name, value in sums.items()})
    assert (metrics["ce_tokens"], metrics["cross_entropy"]) == (1.0, 1.0)


def test_kl_and_cross_entropy() -> None:
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    ref = torch.tensor([-1.0 + math.log(2.0), -2.0])
    loss, sums = token_losses(logp, fields([0, 0], [0, 0], [0.5, 0], [0, 3], [NAN, NAN]), ref, kl_weight=0.1)
    # k3 at d = ln 2: 2 - ln 2 - 1; cross-entropy 3 * 2.
    k3 = 1.0 - math.log(2.0)
    assert loss.item() == pytest.approx(0.1 * 0.5 * k3 + 6.0)
    loss.backward()
    # d k3 / d logp = 1 - exp(d) = -1.
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-0.05, -3.0])
    metrics = finish_metrics({name: float(value) for name, value in sums.items()})
    assert metrics["kl"] == pytest.approx(k3)
    assert metrics["cross_entropy"] == pytest.approx(2.0)


def test_metrics_of_parts_add_up() -> None:
    merged: dict[str, float] = {}
    merge_metrics(merged, {"ratio_max": torch.tensor(1.5), "ratio_sum": torch.tensor(3.0), "policy_tokens": 2.0})
    merge_metrics(merged, {"ratio_max": torch.tensor(1.2), "ratio_sum": torch.tensor(1.0), "policy_tokens": 2.0})
    assert merged == {"ratio_max": 1.5, "ratio_sum": 4.0, "policy_tokens": 4.0}
    assert finish_metrics(merged)["ratio"] == 1.0
    assert finish_metrics({"loss": 0.5}) == {"loss": 0.5}


def test_fields_of_a_tree() -> None:
    builder = TreeBuilder()
    builder.add([1, 2, 3], 1, advantage=1.0, coefficient=0.5)
    tree = replace(builder.build(), old_logp=np.float32([np.nan, -1.0, -2.0]))
    picked = LossFields.of(tree).take(torch.tensor([2, 1]))
    assert picked.w_pos.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(picked.old_logp, [-2.0, -1.0])
