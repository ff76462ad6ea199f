"""Each kind of next state with its own reward; rewards by name, as objects, and from elsewhere with one decorator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest

import rwml.rewards
from rwml.core.errors import NotFiniteError, RwmlError
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.recipe.reward_names import JUDGE_REWARDS, REWARDS, asks_judge
from rwml.core.recipe.sections import JudgeConfig
from rwml.core.types import Transition
from rwml.models.embedding.embedder import Embedder
from rwml.rewards.judge import Judge
from rwml.rewards.rewards import EmbeddingReward, Floats, KindReward, TextReward, make_reward
from rwml.rewards.text_rewards import ExactReward, RougeReward

BUILT_IN = {"embedding", "continuous", "named", "exact", "rouge", "f1", "judge", "judge_graded"}
REAL = "You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1."
NEAR = "You arrive at desk 1. On the desk 1, you see a book 1."
GENERIC = "The observation will describe the contents of desk 1."


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def transition(kind: str, next_state: str) -> Transition:
    return Transition("e@0", "e", "t", "train", 0, "", (), "a", next_state, kind, "a", True, True)


def never() -> Embedder:
    raise AssertionError("no embedding model is needed here")


ROWS = [
    transition("tool", '{"type": "array", "items": {}}'),
    transition("user", REAL),
    transition("tool", "Transfer successful"),
    transition("text", REAL),
    transition("user", REAL),
]
GIVEN = ['{"type": "object"}', NEAR, "Transfer failed", GENERIC, None]


def test_each_kind_has_its_own_reward(embedder: Embedder) -> None:
    reward = KindReward({"tool": "rouge", "text": "exact"}, lambda: embedder, 0.1)
    assert [type(reward.of(kind)) for kind in ("tool", "user", "text")] == [RougeReward, EmbeddingReward, ExactReward]
    before = embedder.stats.embedded
    reward.prefetch(ROWS)
    distances, rewards = reward.score(GIVEN, ROWS)
    # One word ("type") of 2 + 3; one of 2 + 2; the user's message as in the test of the embedding reward above.
    assert distances == pytest.approx([0.6, 0.0747, 0.5, 1, 2], abs=2e-4)
    assert rewards == pytest.approx([0.4, 1, 0.6, 0, 0], abs=1e-6)
    assert embedder.stats.embedded - before <= 2
    same = KindReward("embedding", lambda: embedder, 0.1)
    assert {same.of(kind) for kind in ("tool", "user", "text")} == {same.of("text")}
    assert same.score(GIVEN[3:], ROWS[3:])[0] == pytest.approx([0.3508, 2.0], abs=2e-4)


def test_the_embedding_model_is_loaded_where_a_row_needs_it() -> None:
    reward = KindReward({"tool": "rouge"}, never, 0.1)
    tools = [row for row in ROWS if row.kind == "tool"]
    reward.prefetch(tools)
    assert reward.score(["Transfer successful"] * 2, tools)[1].tolist() == [0, 1]
    with pytest.raises(AssertionError, match="no embedding model"):
        reward.prefetch(ROWS)
    distances, rewards = reward.score([], [])
    assert distances.shape == rewards.shape == (0,)


def test_rewards_are_objects_too(embedder: Embedder) -> None:
    own = rwml.rewards.Embedding(embedder, tau_d=0.1)
    reward = KindReward({"tool": rwml.rewards.Rouge(), "user": own, "text": "exact"})
    assert (reward.of("user"), type(reward.of("text"))) == (own, ExactReward)
    by_name = KindReward({"tool": "rouge", "text": "exact"}, lambda: embedder, 0.1).score(GIVEN, ROWS)
    assert [values.tolist() for values in reward.score(GIVEN, ROWS)] == [values.tolist() for values in by_name]
    assert KindReward(own).score(GIVEN[3:], ROWS[3:])[0] == pytest.approx([0.3508, 2.0], abs=2e-4)


def test_rewards_by_name(embedder: Embedder) -> None:
    made = KindReward("embedding", lambda: embedder, 0.25).of("text")
    assert isinstance(made, EmbeddingReward)
    assert (made.embedder, made.tau_d) == (embedder, 0.25)
    assert set(REWARDS.names()) == BUILT_IN, "read from the sources by their decorators"
    assert {name for name in BUILT_IN if "judge" in signature(REWARDS.get(name)).parameters} == set(JUDGE_REWARDS)
    judge = Judge(JudgeConfig(base_url="http://127.0.0.1:1/v1", model="m"))
    classes = {type(make_reward(name, lambda: embedder, 0.1, lambda: judge)) for name in BUILT_IN}
    assert len(classes) == len(BUILT_IN)
    with pytest.raises(RwmlError, match="no reward 'embeding'") as error:
        KindReward("embeding", never, 0.1)
    assert "did you mean 'embedding'" in error.value.fix
    with pytest.raises(RwmlError, match="no kind of next state 'texts'"):
        KindReward({"texts": rwml.rewards.Rouge()})


def test_the_names_of_the_package_are_all_there() -> None:
    assert rwml.rewards.Embedding is EmbeddingReward
    assert [name for name in rwml.rewards.__all__ if getattr(rwml.rewards, name) is None] == []
    with pytest.raises(AttributeError, match="Embeding"):
        _ = rwml.rewards.Embeding
    code = "import sys, rwml.rewards as r; print(r.Rouge().score(['a b'], ['a c'])[1].item(), 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0.6000000238418579", "False"], "words are compared without PyTorch"


FOURTH = """
import numpy as np
from rwml.rewards import TextReward, register

@register("same_length")
class SameLength(TextReward):
    def __init__(self, tau_d=0.5, judge=None):
        self.tau_d, self.judge = tau_d, judge

    def score(self, predicted, real):
        pairs = zip(predicted, real, strict=True)
        gaps = [2.0 if p is None else min(1.0, abs(len(p) - len(r)) / 10) for p, r in pairs]
        return np.array(gaps, np.float32), np.array([gap < self.tau_d for gap in gaps], np.float32)

class NeedsMore(SameLength):
    def __init__(self, colour):
        pass
"""
"""A reward of someone else: one decorated class in one file."""


@pytest.fixture
def fourth(install: Callable[..., None]) -> None:
    """An installed package with `FOURTH` and an entry point for it; both of its classes may be named by their paths."""
    allow(code=["fourth_reward:SameLength", "fourth_reward:NeedsMore"])
    install("fourth_reward", FOURTH, "[rwml.rewards]\nlength = fourth_reward:SameLength\n")


@pytest.mark.parametrize("name", ["fourth_reward:SameLength", "length"])
def test_a_reward_from_elsewhere_is_one_decorated_class(fourth: None, name: str) -> None:
    judge = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    recipe = parse_recipe({"name": "x", "train_wm": {"reward": {"text": name}}, "judge": judge})
    assert "judge" in recipe.judge_settings, "it may ask the judge; nobody has looked yet"
    assert "fourth_reward" not in sys.modules, "a recipe is read without its reward"
    reward = KindReward(recipe.train_wm.reward, never, 0.25)
    distances, rewards = reward.score([REAL + "..", REAL + "...", None], [ROWS[3]] * 3)
    assert distances == pytest.approx([0.2, 0.3, 2.0])
    assert rewards.tolist() == [1, 0, 0]
    assert asks_judge(name), "its constructor names `judge`"
    assert reward.failed_judgements([REAL, None], [ROWS[3]] * 2, [2.0, 2.0]) == 1
    assert "same_length" in REWARDS.names(), "imported, it is registered under its own name too"


def test_a_constructor_that_asks_for_more_is_refused(fourth: None) -> None:
    with pytest.raises(RwmlError, match="'fourth_reward:NeedsMore' needs colour"):
        make_reward("fourth_reward:NeedsMore", never, 0.2)
    with pytest.raises(RwmlError, match="no reward 'lenght'") as error:
        parse_recipe({"name": "x", "train_wm": {"reward": "lenght"}})
    assert "did you mean 'length'" in error.value.fix


class Divides(TextReward):
    """A reward of one's own that divides by the length of the answer."""

    def score(self, predicted: Sequence[str | None], real: Sequence[str]) -> tuple[Floats, Floats]:
        lengths_N = np.array([len(answer or "") for answer in predicted], dtype=np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.zeros(len(real), dtype=np.float32), 0.0 * lengths_N / lengths_N


def test_a_reward_that_gives_nan_is_named_with_the_transition() -> None:
    rows = [transition("text", "a pen 1"), replace(transition("text", "a desk 2"), id="e7@3")]
    reward = KindReward(Divides())
    assert reward.score(["x", "yz"], rows)[1].tolist() == [0.0, 0.0]
    with pytest.raises(NotFiniteError) as caught:
        reward.score(["x", ""], rows)
    assert caught.value.what == (
        "the reward Divides gives distance 0 and reward nan to an answer to 'e7@3' "
        "(1 of 2 answers have NaN or infinity)"
    )
    assert "mend the reward" in caught.value.fix
