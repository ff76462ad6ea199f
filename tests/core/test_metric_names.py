"""The names of the figures of a training step: all that a step can log is named, and what is not is seen."""

from __future__ import annotations

from rwml.core.metric_names import METRICS, unnamed
from rwml.trees.objectives import finish_metrics

SUMS = ("loss", "policy_tokens", "ce_tokens", "kl_sum", "ratio_sum", "clipped_sum", "policy_logp_sum", "ce_sum")


def test_the_means_of_an_update_are_named_in_both_trainings() -> None:
    figures = finish_metrics(dict.fromkeys((*SUMS, "ratio_max"), 1.0))
    assert len(figures) == 9
    for stage in ("train_wm", "train_policy"):
        assert unnamed([{"stage": stage, "step": 1} | figures]) == set()


def test_a_key_without_a_name_is_seen() -> None:
    lines = [{"stage": "filter", "step": 1, "loss": 0.5}, {"stage": "filter", "step": 2, "success": 1.0, "los": 0.5}]
    assert unnamed(lines) == {"filter.success", "filter.los"}


def test_every_name_has_one_line_of_words() -> None:
    for names in METRICS.values():
        assert [name for name, words in names.items() if not words or "\n" in words or len(words) > 120] == []
