"""What is finite passes; NaN, infinity, weights without a square and answers of NaN are named."""

from __future__ import annotations

import math

import pytest
import torch

from rwml.core.errors import NotFiniteError, RwmlError
from rwml.trees.finite import overflows, require_answers, require_finite, require_sound, stopped
from rwml.trees.forward import PassOptions
from rwml.trees.tree import TreeBuilder
from small_models import make_model


def test_figures_are_named_with_their_values() -> None:
    require_finite({"loss": 1e308, "grad_norm": 0.0})
    with pytest.raises(NotFiniteError) as caught:
        require_finite({"loss": math.nan, "kl": 0.1, "grad_norm": -math.inf})
    assert caught.value.what == "loss = nan, grad_norm = -inf"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e19, -2e19])
def test_a_weight_that_cannot_be_used_is_named_and_a_large_state_is_fine(value: float) -> None:
    weights = {"a": torch.tensor([[1.0, -1e19], [1e19, 0.0]]), "b.c": torch.tensor([0.5, value])}
    with pytest.raises(NotFiniteError, match=r"the updated tensor b\.c has values from"):
        require_sound(weights, {})
    large = {"a": torch.tensor([value])}
    if math.isfinite(value):
        require_sound({"a": weights["a"]}, large)
    else:
        with pytest.raises(NotFiniteError, match="the updated tensor a has values from"):
            require_sound({}, large)


def test_answers_of_the_shortest_tree_are_asked() -> None:
    model, trees = make_model("qwen3"), []
    for length in (9, 4):
        builder = TreeBuilder()
        builder.add(list(range(3, 3 + length)), 2, cross_entropy=1.0)
        trees.append(builder.build())
    require_answers(model, trees, PassOptions())
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = math.nan  # in the longer one alone
    require_answers(model, trees, PassOptions())
    with pytest.raises(NotFiniteError, match="log-probabilities are NaN"):
        require_answers(model, trees[:1], PassOptions())
    require_answers(model, [], PassOptions())


def test_only_overflows_are_turned() -> None:
    with pytest.raises(NotFiniteError, match="larger than a 32-bit number"), overflows():
        torch.zeros(1).clamp(max=1e300)
    with pytest.raises(RuntimeError, match="something else"), overflows():
        raise RuntimeError("something else")


def test_the_error_of_a_training_has_step_checkpoint_and_remedy() -> None:
    error = stopped(NotFiniteError("loss = nan", "why", "else"), "train_wm, step 2 of 9", "kept", "the.key (now 1)")
    assert isinstance(error, RwmlError)
    assert error.what == "train_wm, step 2 of 9: loss = nan"
    assert error.why == "why; nothing of this step is written, and kept"
    assert error.fix.startswith("lower the.key (now 1), or mend")
    assert error.fix.endswith("Else: else")
