"""An alarm for training that drifts towards answers that earn a reward without predicting anything.

measure/cheats.py makes such answers, for the audit of `rwml reward-lab` before any training.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from rwml.core.progress import note
from rwml.core.records import MetricsLog
from rwml.core.text import same_text
from rwml.core.types import Transition

GENERIC = re.compile(
    r"\b(?:the (?:next )?(?:observation|state)|next observation|will (?:describe|show|list|contain)|"
    r"(?:several|various|some) (?:things|objects|items)|depends on)\b",
    re.IGNORECASE,
)
COLLAPSE_SHARE = 0.25
"""A text has collapsed if it is given for more than this share of the questions whose true answer is another, ..."""

COLLAPSE_STATES = 3
"""... and was given for at least this many different true next states: samples of a single question do not count."""

WINDOW = 5
"""Steps that the alarm takes the mean of: the first ones, and the last ones."""

GROWTH = 0.1
"""How much the last steps' share has to be above the first ones'."""

_KINDS = {
    "copied": "repeat what was last observed, or the action",
    "generic": "talk about an observation instead of giving it",
    "collapsed": "give one and the same text to questions of which it is not the answer",
}


def last_observation(row: Transition) -> str:
    """What the agent saw last before the action: the newest observation of the history, or the opening."""
    return row.history[-1] if row.history else row.opening


def find_cheats(answers: Sequence[str | None], rows: Sequence[Transition]) -> list[str]:
    """For each answer to a row: "copied", "generic" or "collapsed", the first of these that holds, else "".

    An answer that has the words of the real next state is never a cheat. copied: the words of the last observation or
    of the action. generic: `GENERIC` matches it and not the real next state. collapsed: over the rows of the batch
    whose real next state is another, this same text is the answer to more than `COLLAPSE_SHARE`, and it was given for
    `COLLAPSE_STATES` or more different real next states.
    """
    wrong = [None if a is None or same_text(a, row.next_state) else a for a, row in zip(answers, rows, strict=True)]
    real = Counter(" ".join(row.next_state.split()) for row in rows)
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for answer, row in zip(wrong, rows, strict=True):
        if answer is not None:
            given[" ".join(answer.split())][row.next_state] += 1
    collapsed = {
        text
        for text, states in given.items()
        if len(states) >= COLLAPSE_STATES and states.total() > COLLAPSE_SHARE * (len(rows) - real[text])
    }
    kinds = []
    for answer, row in zip(wrong, rows, strict=True):
        if answer is None:
            kinds.append("")
        elif same_text(answer, last_observation(row)) or same_text(answer, row.action):
            kinds.append("copied")
        elif GENERIC.search(answer) and not GENERIC.search(row.next_state):
            kinds.append("generic")
        else:
            kinds.append("collapsed" if " ".join(answer.split()) in collapsed else "")
    return kinds


def cheat_share(answers: Sequence[str | None], rows: Sequence[Transition]) -> float:
    """Share of a batch's answers that are wrong and match a cheat (`find_cheats`), 0.0 for none."""
    kinds = find_cheats(answers, rows)
    return sum(map(bool, kinds)) / max(1, len(kinds))


class DriftWatch:
    """Measures the share of cheats of each step, and warns once when training drifts towards them.

    It warns when the mean of the last `WINDOW` steps is above `threshold`, and above that of the first `WINDOW` steps
    by more than `GROWTH`: a model that answered so from the start has not drifted. log: holds the shares of the steps
    before a resume, under `stage`.
    """

    def __init__(self, threshold: float, log: MetricsLog, stage: str = "train_wm") -> None:
        self.threshold, self.log, self.stage = threshold, log, stage
        self._shares: list[float] | None = None
        self._has_warned = False

    def share(self, answers: Sequence[str | None], rows: Sequence[Transition]) -> float:
        """`cheat_share` of one step's answers, and the alarm if it is due."""
        if self._shares is None:  # only now has the trainer dropped the lines after its checkpoint
            lines = [line for line in self.log.read() if line.get("stage") == self.stage]
            self._shares = [line["cheat_share"] for line in lines if "cheat_share" in line]
        self._shares.append(cheat_share(answers, rows))
        first, last = np.mean(self._shares[:WINDOW]), np.mean(self._shares[-WINDOW:])
        if not self._has_warned and len(self._shares) > WINDOW and last > self.threshold and last > first + GROWTH:
            self._has_warned = True
            note(_warning(answers, rows, float(first), float(last), len(self._shares)))
        return self._shares[-1]


def _warning(answers: Sequence[str | None], rows: Sequence[Transition], first: float, last: float, step: int) -> str:
    kinds = find_cheats(answers, rows)
    cheats = Counter((kind, str(answer)) for kind, answer in zip(kinds, answers, strict=True) if kind)
    example = "none in this very step"
    if cheats:
        ((kind, text), _) = cheats.most_common(1)[0]
        example = f'most often they {_KINDS[kind]}: "{text[:80]}"'
    return (
        f"warning: {last:.0%} of the answers were wrong in a way that asks for no prediction, over the last "
        f"{WINDOW} steps up to step {step} (first steps: {first:.0%}); {example}\n"
        "  why it matters: such an answer is drilled because it is right, or within tau_d, often enough; what the "
        "action really brings is unlearnt, which the mean reward does not show\n"
        "  what to do: see what earns rewards with `rwml reward-lab`, and which rows suffer (by verb, by valid) in the "
        "evaluation; then lower train_wm.tau_d, filter the text's rows more (filter.keep_probability), raise "
        "train_wm.kl_weight, or begin with SFT (train_wm.sft_steps)"
    )
