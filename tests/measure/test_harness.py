"""lm-evaluation-harness: a task of our own through it, and what is said without it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.measure.harness import measure_lm_eval
from rwml.models.language_model import LanguageModel, load_language_model


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-evaluation-harness is installed")
def test_tasks_of_a_harness_that_is_not_installed_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(RwmlError) as caught:
        measure_lm_eval(lm, ["arc_easy"])
    assert "not installed" in caught.value.what
    assert "rwml[retention]" in caught.value.fix


def test_a_task_of_ones_own_runs_in_the_harness(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    lines = [{"q": "You open the", "a": [" drawer 1", " zq#"], "gold": gold} for gold in (0, 1)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "own.yaml").write_text(
        f"task: rwml_own\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'own.jsonl'}\n"
        'output_type: multiple_choice\ntest_split: test\ndoc_to_text: "{{q}}"\ndoc_to_choice: "{{a}}"\n'
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\n"
    )
    figures = measure_lm_eval(load_language_model("tiny", device="cpu"), ["rwml_own"], include=str(tmp_path))
    assert (figures["rwml_own"]["n"], figures["rwml_own"]["acc"]) == (2, 0.5)
    with pytest.raises(RwmlError) as caught:
        measure_lm_eval(load_language_model("tiny", device="cpu"), ["rwml_owm"], include=str(tmp_path))
    assert "did you mean 'rwml_own'?" in caught.value.fix
