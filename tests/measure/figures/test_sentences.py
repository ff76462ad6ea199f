"""The verdict on a difference, and the sentences that say it."""

from __future__ import annotations

from typing import Any

from rwml.measure.figures.sentences import (
    arm_sentence,
    baseline_sentence,
    baseline_verdict,
    percent,
    points,
    sentence,
    verdict,
)


def difference(low: float | None, high: float | None, *seeds: float) -> dict[str, Any]:
    return {"interval": [low, high], "by_seed": {str(i): value for i, value in enumerate(seeds)}}


def test_the_verdict_needs_interval_and_seeds() -> None:
    assert verdict(difference(0.01, 0.2, 0.1, 0.05)) == "up"
    assert verdict(difference(-0.2, -0.01, -0.1, -0.05)) == "down"
    assert verdict(difference(0.01, 0.2, 0.2, -0.01)) == "seeds"
    assert verdict(difference(0.01, 0.2, 0.2, 0.0)) == "seeds"
    assert verdict(difference(0.0, 0.2, 0.1, 0.1)) == "unsure"
    assert verdict(difference(-0.1, 0.2, 0.1, 0.1)) == "unsure"
    assert verdict(difference(None, None, 0.1)) == "unknown"


def test_a_difference_that_may_be_nothing_is_not_claimed() -> None:
    change = {"before": 0.2, "after": 0.25, "difference": 0.05, "interval": [-0.03, 0.13], "n": 64, "clusters": 32}
    text = sentence(change, "The share of games won", "episodes")
    assert text == (
        "The data do not support a difference. The share of games won was 20.0% before and 25.0% after, over 64 "
        "held-out episodes from 32 tasks; the difference is +5.0 points, 95% interval −3.0 to +13.0, and that range "
        "holds zero."
    )
    assert verdict(change) == "unsure"
    assert verdict(change | {"interval": [0.0, 0.13]}) == "unsure"
    assert verdict(change | {"interval": [0.01, 0.13]}) == "up"
    assert "fell from 20.0% to 25.0%" in sentence(change | {"interval": [-0.2, -0.1]}, "It", "episodes")


def test_the_sentence_about_a_baseline() -> None:
    change = {"before": 0.3, "after": 0.4, "difference": 0.1, "interval": [0.02, 0.18], "n": 1200, "clusters": 60}

    def text_and_verdict(low: float | None, high: float | None) -> tuple[str, str]:
        other = change | {"interval": [low, high]}
        return baseline_sentence(other, "The model", "“copy”", "the share"), baseline_verdict(other)

    figures = "the share is 40.0% against 30.0%, over 1,200 held-out predictions from 60 tasks"
    range_ = "the difference is +10.0 points, 95% interval"
    assert text_and_verdict(0.02, 0.18) == (f"The model beats “copy”: {figures}; {range_} +2.0 to +18.0.", "beaten")
    assert text_and_verdict(0.0, 0.2) == (
        f"The model does not beat “copy”, as far as these data can tell: {figures}; {range_} 0.0 to +20.0, which holds "
        "zero.",
        "not beaten",
    )
    assert text_and_verdict(-0.2, -0.1) == (
        f"The model does not beat “copy” but falls short of it: {figures}; {range_} −20.0 to −10.0.",
        "not beaten, it is better",
    )
    assert text_and_verdict(None, None) == (
        f"Too few tasks to say whether the model beats “copy”: {figures}.",
        "too few tasks to say",
    )


def test_the_sentence_about_two_arms() -> None:
    figures = {
        "before": 0.2, "after": 0.3, "difference": 0.1, "interval": [0.05, 0.15], "n": 640, "clusters": 320,
        "unpaired": 0, "by_seed": {"0": 0.12, "1": 0.08},
    }  # fmt: skip
    text = arm_sentence(figures, "RWML", "Base model", "the share of games won", "episodes")
    assert text == (
        "RWML is better than Base model: the share of games won is 30.0% against 20.0% (difference +10.0 points, 95% "
        "interval +5.0 to +15.0, over 640 paired episodes from 320 tasks; by seed +12.0, +8.0)."
    )
    figures |= {"by_seed": {"0": 0.22, "1": -0.02}}
    text = arm_sentence(figures, "RWML", "Base model", "the share of games won", "episodes")
    assert text.startswith("The data do not support a difference between RWML and Base model that another training run")
    figures |= {"interval": [-0.05, 0.15]}
    text = arm_sentence(figures, "RWML", "Base model", "the share of games won", "episodes")
    assert text.startswith("The data do not support a difference between RWML and Base model: ")
    figures |= {"interval": [0.05, 0.15], "by_seed": {"0": 0.1}}
    text = arm_sentence(figures, "RWML", "Base model", "the share of games won", "episodes")
    assert text.endswith("It is one training run; another seed may end elsewhere.")


def test_shares_and_differences_are_written_for_people() -> None:
    assert [percent(x) for x in (0.0, 0.4567, 1.0, None)] == ["0.0%", "45.7%", "100.0%", "–"]
    assert [points(x) for x in (0.0, 0.051, -0.051, None)] == ["0.0", "+5.1", "−5.1", "–"]
