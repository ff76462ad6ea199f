"""Tasks of lm-evaluation-harness by name, as a measure of retention (extra `retention`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.models.language_model import LanguageModel


def check_harness() -> None:
    """RwmlError if lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        raise RwmlError(
            "measure.lm_eval names tasks, but lm-evaluation-harness is not installed",
            "it brings the tasks and fetches their data",
            "pip install 'rwml[retention]', or set measure.lm_eval = []",
        )


def measure_lm_eval(
    lm: LanguageModel, tasks: Sequence[str], limit: int | None = None, batch_size: int = 8, include: str = ""
) -> dict[str, Any]:
    """Figures of lm-evaluation-harness for a model: {task: {"n", metric: value}}, under the harness's names.

    limit: examples of each task, None = all. include: a folder with task files of your own. Prompts are the harness's,
    as plain text without chat turns. The harness fetches its data. Raises RwmlError for an unknown task, and for data
    that it cannot fetch.
    """
    check_harness()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include or None)
    for task in tasks:
        if not manager.match_tasks([task]):
            raise RwmlError(
                f"measure.lm_eval: lm-evaluation-harness has no task '{task}'",
                "nothing would be measured under that name",
                _hint(task, manager.all_tasks),
            )
    model = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch_size)
    try:
        results = simple_evaluate(model=model, tasks=list(tasks), limit=limit, task_manager=manager, log_samples=False)
    except Exception as error:  # whatever reaching for foreign data raises
        raise RwmlError(
            f"lm-evaluation-harness cannot run {', '.join(tasks)}: {type(error).__name__}: {error}",
            "their figures would be missing",
            "see that this machine reaches the tasks' data, or take them out of measure.lm_eval",
        ) from error
    assert results is not None, "only a process that is not the first of several gets nothing"
    samples = results.get("n-samples", {})
    return {task: _plain(figures, samples.get(task)) for task, figures in results["results"].items()}


def _hint(task: str, known: Sequence[str]) -> str:
    # The harness has thousands of tasks; only a close name helps.
    close, _, _ = nearest(task, known).rpartition("(known:")
    return f"{close}`lm-eval ls tasks` lists them all"


def _plain(figures: dict[str, Any], samples: dict[str, int] | None) -> dict[str, Any]:
    """Numbers only: "acc,none" (a metric without a filter) is given as "acc"."""
    kept = {
        key.removesuffix(",none"): float(value)
        for key, value in figures.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    kept.pop("sample_len", None)
    return {"n": (samples or {}).get("effective"), **kept}
