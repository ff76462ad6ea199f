"""The stages: one file per verb. This table is all that the command line loads of them until one is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """One stage on the command line. stage: its name in the manifest and in recipes; module: has `run(run)`."""

    name: str
    stage: str
    module: str
    help: str


def _verb(name: str, help_line: str) -> Verb:
    stage = name.replace("-", "_")
    return Verb(name, stage, f"rwml.stages.{stage}", help_line)


VERBS = (
    _verb("collect", "Let the target model play the world: episodes/."),
    _verb("transitions", "Cut episodes into (history, action, next state): transitions.parquet."),
    _verb("filter", "Mark the transitions that are too easy: filtered.parquet."),
    _verb("train-wm", "Train the world model on the kept transitions: world_model/."),
    _verb("train-policy", "Train the policy on task success: policy/."),
    _verb("evaluate", "Measure every model on held-out games: eval.json."),
    _verb("report", "Write figures, curves and examples: report.html."),
)
