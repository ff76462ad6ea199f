"""`rwml report`: one self-contained page about a run, from the files of its folder -> report.html, report.png."""

from __future__ import annotations

from rwml.core.files import atomic_file
from rwml.core.run import Run
from rwml.reports.plots import write_png
from rwml.reports.run_page import context, curves, render

INPUTS = ("eval.json", "filtered.parquet", "filter.json", "metrics.jsonl", "evaluation")
PICTURE = ("Reward", "Loss", "Games won", "Groups with signal", "KL to the start")
"""Panels that report.png shows; the page has them all."""


def run(run: Run) -> None:
    """Write report.html, and report.png when there are curves. Parts whose stage was not run are said to be missing."""
    reads = [name for name in INPUTS if (run.folder / name).exists()]
    with run.stage("report", reads=reads, sections=["report"]) as stage:
        panels = curves(run)
        drawn = [panel for group in panels.values() for panel in group if panel.title.split(": ")[1] in PICTURE]
        page = render(context(run, panels)).encode()
        (run.folder / "report.png").unlink(missing_ok=True)
        if drawn:
            write_png(run.folder / "report.png", drawn)
        with atomic_file(run.folder / "report.html") as handle:
            handle.write(page)
        stage.counts["bytes"] = len(page)
