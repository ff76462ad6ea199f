"""The paper's own numbers."""

from __future__ import annotations

from rwml.measure.compare.paper_table import PAPER, beside


def test_the_papers_numbers() -> None:
    assert beside("rwml_policy", "alfworld", {}) == {"valid_seen": 86.7, "valid_unseen": 90.1, "all": 87.9}
    assert beside("no_filter", "alfworld", {}) == {"all": 2.9}
    assert beside("sr", "tau2", {"domain": "airline"}) == {"all": 43.3}
    assert beside("sr", "tau2", {}) == {"all": 45.0}
    assert beside("", "alfworld", {}) == beside("rwml", "boxes", {}) == {}
    for row in PAPER.values():
        seen, unseen, average = row.alfworld
        if seen is not None and unseen is not None:
            assert min(seen, unseen) <= average <= max(seen, unseen)
