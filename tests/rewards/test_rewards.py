"""Rewards by hand and on real embeddings, and each kind of next state with its own."""

from __future__ import annotations

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.reward_names import REWARD_NAMES
from rwml.core.recipe.sections import JudgeConfig
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.models.embedding.embedder import Embedder
from rwml.rewards.judge import Judge
from rwml.rewards.rewards import REWARDS, EmbeddingReward, ExactReward, KindReward, RougeReward

REAL = "You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1."
ANSWERS = [
    REAL,
    "You arrive at desk 1.\n On the desk 1, you see a book 2, and a pen 1. ",
    "You arrive at desk 1. On the desk 1, you see a book 1.",
    "The observation will describe the contents of desk 1.",
    "Nothing happens.",
    None,
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def test_embedding_reward_on_game_texts(embedder: Embedder) -> None:
    before = embedder.stats.embedded
    distances, rewards = EmbeddingReward(embedder, 0.1).score(ANSWERS, [REAL] * 6)
    assert distances == pytest.approx([0.0, 0.0, 0.0747, 0.3508, 0.9170, 2.0], abs=2e-4)
    assert distances[:2].tolist() == [0.0, 0.0]
    assert rewards.tolist() == [1, 1, 1, 0, 0, 0]
    assert (distances.dtype, rewards.dtype) == (np.float32, np.float32)
    # The truth and three different answers; both exact ones and the unreadable one cost nothing.
    assert embedder.stats.embedded - before == 4
    assert EmbeddingReward(embedder, 0.4).score(ANSWERS, [REAL] * 6)[1].tolist() == [1, 1, 1, 1, 0, 0]


def test_the_threshold_is_strict_and_even_the_largest_fails_an_unread_answer(embedder: Embedder) -> None:
    distance = float(embedder.distances([(ANSWERS[2] or "", REAL)])[0])
    assert EmbeddingReward(embedder, distance).score([ANSWERS[2]], [REAL])[1].tolist() == [0]
    assert EmbeddingReward(embedder, float(np.nextafter(np.float32(distance), np.float32(1)))).score(
        [ANSWERS[2]], [REAL]
    )[1].tolist() == [1]
    assert EmbeddingReward(embedder, 2.0).score([None, "Nothing happens."], [REAL] * 2)[1].tolist() == [0, 1]


def test_nothing_to_score(embedder: Embedder) -> None:
    distances, rewards = EmbeddingReward(embedder, 0.1).score([], [])
    assert distances.shape == rewards.shape == (0,)
    distances, rewards = EmbeddingReward(embedder, 0.1).score([None], [REAL])
    assert (distances.tolist(), rewards.tolist()) == ([2.0], [0.0])


def test_exact_reward_by_hand() -> None:
    distances, rewards = ExactReward().score(["a b", " a\tb\n", "A b", "a  c", "", None], ["a b"] * 4 + ["", "a"])
    assert rewards.tolist() == [1, 1, 0, 0, 1, 0]
    assert distances.tolist() == [0, 0, 1, 1, 0, 2]
    assert same_text("a  b", "a b")
    assert not same_text("ab", "a b")
    assert not same_text(None, "")


def test_rouge_reward_by_hand() -> None:
    real = "a b c d e"
    answers = [
        real,
        "A b! c D e f",  # 5 common of 6 + 5: 10/11, above 0.9
        "a b c d",  # 8/9 = 0.889: the nearest fifth is 0.8
        "a b c x y z",  # 6/11 = 0.545
        "a b x x x x x",  # 4/12 = 0.333
        "a x x x x x x x x x x x x x x x",  # 2/21 = 0.095
        "x",
        "",
        None,
    ]
    distances, rewards = RougeReward().score(answers, [real] * 9)
    expected = [0, 1 / 11, 1 / 9, 5 / 11, 8 / 12, 19 / 21, 1, 1, 2]
    assert distances == pytest.approx(expected, abs=1e-6)
    assert rewards == pytest.approx([1, 1, 0.8, 0.6, 0.4, 0, 0, 0, 0], abs=1e-6)
    assert (distances.dtype, rewards.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize(("common", "rounded"), [(1, 0.2), (3, 0.4), (5, 0.6), (7, 0.8), (9, 1.0)])
def test_halves_between_two_fifths_go_up(common: int, rounded: float) -> None:
    # Ten words each, so that F1 = common / 10 exactly in the middle.
    real = " ".join(f"w{n}" for n in range(10))
    answer = " ".join(f"w{n}" if n < common else f"x{n}" for n in range(10))
    less = answer + " y"
    assert RougeReward().score([answer, less], [real] * 2)[1] == pytest.approx([rounded, rounded - 0.2], abs=1e-6)


def test_a_text_without_words_is_right_when_it_is_the_same() -> None:
    distances, rewards = RougeReward().score(["🔋 📶", "🔋", ""], ["🔋  📶", "📶", ""])
    assert (distances.tolist(), rewards.tolist()) == ([0, 1, 0], [1, 0, 1])


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
GIVEN = ['{"type": "object"}', ANSWERS[2], "Transfer failed", ANSWERS[3], None]


def test_each_kind_has_its_own_reward(embedder: Embedder) -> None:
    reward = KindReward({"tool": "rouge", "text": "exact"}, lambda: embedder, 0.1)
    assert [reward.of(kind).name for kind in ("tool", "user", "text")] == ["rouge", "embedding", "exact"]
    before = embedder.stats.embedded
    reward.expect(ROWS)
    distances, rewards = reward.score(GIVEN, ROWS)
    # One word ("type") of 2 + 3; one of 2 + 2; the user's message as in the test of the embedding reward above.
    assert distances == pytest.approx([0.6, 0.0747, 0.5, 1, 2], abs=2e-4)
    assert rewards == pytest.approx([0.4, 1, 0.6, 0, 0], abs=1e-6)
    assert embedder.stats.embedded - before <= 2
    one = KindReward("embedding", lambda: embedder, 0.1)
    assert {one.of(kind) for kind in ("tool", "user", "text")} == {one.of("text")}
    assert one.score(GIVEN[3:], ROWS[3:])[0] == pytest.approx([0.3508, 2.0], abs=2e-4)


def test_the_embedding_model_is_loaded_where_a_row_needs_it() -> None:
    reward = KindReward({"tool": "rouge"}, never, 0.1)
    tools = [row for row in ROWS if row.kind == "tool"]
    reward.expect(tools)
    assert reward.score(["Transfer successful"] * 2, tools)[1].tolist() == [0, 1]
    with pytest.raises(AssertionError, match="no embedding model"):
        reward.expect(ROWS)
    distances, rewards = reward.score([], [])
    assert distances.shape == rewards.shape == (0,)


def test_rewards_by_name(embedder: Embedder) -> None:
    made = KindReward("embedding", lambda: embedder, 0.25).of("text")
    assert isinstance(made, EmbeddingReward)
    assert made.tau_d == 0.25
    assert set(REWARDS) == set(REWARD_NAMES)
    judge = Judge(JudgeConfig(base_url="http://127.0.0.1:1/v1", model="m"))
    made_by_name = {name: make(lambda: embedder, 0.1, lambda: judge).name for name, make in REWARDS.items()}
    assert made_by_name == {name: name for name in REWARDS}
    with pytest.raises(RwmlError, match="no reward 'embeding'") as error:
        KindReward("embeding", never, 0.1)
    assert "did you mean 'embedding'" in error.value.fix


def test_a_pair_of_different_lengths_is_our_own_mistake(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="longer"):
        EmbeddingReward(embedder, 0.1).score(["a"], ["a", "b"])
