"""Logs of every form, changed at random: each item is kept or rejected, nothing raises, and nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutated_logs import DOCUMENTS, mutated

pytestmark = pytest.mark.slow  # hundreds of files


def test_mutated_logs_of_every_form(tmp_path: Path) -> None:
    outcome = mutated(400, tmp_path, most_s=120)
    assert outcome.faults == []
    assert outcome.files == 400
    assert outcome.items == outcome.episodes + outcome.rejected
    assert outcome.kept.keys() == DOCUMENTS.keys()
    assert min(outcome.kept.values()) > 5
    assert outcome.rejected > 200
