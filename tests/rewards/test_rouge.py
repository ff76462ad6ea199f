"""ROUGE-L and token F1 by hand; ROUGE-L against the textbook table on random texts, token F1 against counting."""

from __future__ import annotations

import random

import pytest

from rwml.rewards.rouge import rouge_l, token_f1


@pytest.mark.parametrize(
    ("predicted", "reference", "common", "words"),
    [
        ("police kill the gunman", "police killed the gunman", 3, 4 + 4),
        ("the gunman kill police", "police killed the gunman", 2, 4 + 4),  # the gunman
        ("a b c d", "d c b a", 1, 4 + 4),
        ("a a a", "a", 1, 3 + 1),
        ("a b a b a", "b a b", 3, 5 + 3),
        ("The SIM-card is LOCKED.", "the sim card is active", 4, 5 + 5),
        ("snake_case_2, 12.5", "snake case 2 12 5", 5, 5 + 5),
        ('{"type": "object"}', "type: string", 1, 2 + 2),
        ("naïve café", "na ve caf", 3, 3 + 3),  # letters beyond a-z part words, as in rouge_score
        ("same", "same", 1, 2),
        ("left", "right", 0, 2),
    ],
)
def test_by_hand(predicted: str, reference: str, common: int, words: int) -> None:
    assert rouge_l(predicted, reference) == pytest.approx(2 * common / words, abs=1e-12)
    assert rouge_l(reference, predicted) == pytest.approx(2 * common / words, abs=1e-12)


def test_texts_without_words_have_nothing_in_common() -> None:
    assert rouge_l("", "a") == rouge_l("a", "") == rouge_l("", "") == rouge_l("{}", "{}") == 0.0
    assert token_f1("", "a") == token_f1("a", "") == token_f1("", "") == token_f1("{}", "{}") == 0.0


@pytest.mark.parametrize(
    ("predicted", "reference", "common", "words"),
    [
        ("police kill the gunman", "the gunman police killed", 3, 4 + 4),
        ("a b c d", "d c b a", 4, 4 + 4),
        ("a a a", "a", 1, 3 + 1),
        ("a b a b a", "b a b", 3, 5 + 3),
        ("The SIM-card is LOCKED.", "a SIM card", 2, 5 + 3),  # articles count as words: "the" is not "a"
        ("left", "right", 0, 2),
    ],
)
def test_token_f1_by_hand(predicted: str, reference: str, common: int, words: int) -> None:
    assert token_f1(predicted, reference) == pytest.approx(2 * common / words, abs=1e-12)
    assert token_f1(reference, predicted) == pytest.approx(2 * common / words, abs=1e-12)


def test_token_f1_strikes_out_each_word_once() -> None:
    rng = random.Random(3)
    for _ in range(300):
        ours, theirs = ([rng.choice("abcd") for _ in range(rng.randint(1, 9))] for _ in range(2))
        left, common = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                common += 1
        f1 = token_f1(" ".join(ours), " ".join(theirs))
        assert f1 == pytest.approx(2 * common / (len(ours) + len(theirs)), abs=1e-12)
        assert f1 >= rouge_l(" ".join(ours), " ".join(theirs)) - 1e-12


def _table(ours: list[str], theirs: list[str]) -> int:
    above = [0] * (len(theirs) + 1)
    for word in ours:
        row = [0]
        for j, other in enumerate(theirs):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        above = row
    return above[-1]


def test_against_the_table_of_the_textbook() -> None:
    chance = random.Random(0)
    for _ in range(400):
        vocabulary = [f"w{number}" for number in range(chance.choice([1, 2, 5, 40]))]
        ours, theirs = (chance.choices(vocabulary, k=chance.randint(1, 90)) for _ in range(2))
        expected = 2 * _table(ours, theirs) / (len(ours) + len(theirs))
        assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(expected, abs=1e-12)


def test_long_texts() -> None:
    # 3,000 words each; every second word differs, and each is there once.
    ours = " ".join(f"a{n} x{n}" for n in range(1500))
    theirs = " ".join(f"a{n} y{n}" for n in range(1500))
    assert rouge_l(ours, theirs) == 0.5
