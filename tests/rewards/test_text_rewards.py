"""Rewards of words alone, with numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from made import DESK, DESK_ANSWERS, TURNED
from rwml.core.text import same_text
from rwml.rewards.rouge import rouge_l
from rwml.rewards.text_rewards import ExactReward, F1Reward, RougeReward


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


def test_token_f1_by_hand() -> None:
    distances, rewards = F1Reward().score(DESK_ANSWERS, [DESK] * 7)
    # The truth has 18 words: you arrive at desk 2 / on the desk 2 / you see a cellphone 1 / and a pen 1.
    # Missing: all of its 14. The other desk: all but two of 18, for the truth has two ones and it has four.
    # Generic: the, desk and 2 of nine. `Nothing happens.`: none of two.
    assert rewards == pytest.approx([1, 1, 28 / 32, 32 / 36, 6 / 27, 0, 0], abs=1e-6)
    assert distances == pytest.approx([0, 0, 4 / 32, 4 / 36, 21 / 27, 1, 2], abs=1e-6)
    # It does not see the order. ROUGE-L does, and counts the eleven words up to "a", and five more (1 and a ... 1).
    assert rouge_l(TURNED, DESK) == pytest.approx(2 * 16 / 36)
    same, all_of_it = F1Reward().score(["\U0001f50b", ""], ["\U0001f50b", ""])
    assert (same.tolist(), all_of_it.tolist()) == ([0, 0], [1, 1])
