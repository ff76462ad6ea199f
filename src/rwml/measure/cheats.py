"""Answers that may earn a reward without predicting anything, for the audit of `rwml reward-lab`.

The paper saw its LLM judge hacked by "the observation will describe the contents of countertop 1 ...".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rwml.core.types import Transition
from rwml.train.drift import last_observation
from rwml.world_models.baselines import MostFrequent

_THING = re.compile(r"\b[a-z]+ \d+\b")


def cheat_answers(rows: Sequence[Transition], data: Sequence[Transition]) -> dict[str, list[str | None]]:
    """For each cheat its answer to each row, in order; None = an answer without a readable next state.

    data: the transitions that the most frequent and the longest next states come from; at least one.
    """
    frequent = MostFrequent(data)
    longest = max((row.next_state for row in data), key=len)
    common = Counter(row.next_state for row in data).most_common(6)
    return {
        "empty": [None] * len(rows),
        "full stop": ["."] * len(rows),
        "generic": ["You see several things."] * len(rows),
        "will describe": [_will_describe(row) for row in rows],
        "copied observation": [last_observation(row) for row in rows],
        "echoed action": [row.action for row in rows],
        "longest": [longest] * len(rows),
        "the six most frequent": [" ".join(text for text, _ in common)] * len(rows),
        "most frequent": [common[0][0]] * len(rows),
        "most frequent of the verb": [frequent.next_state(row.query) for row in rows],
    }


def _will_describe(row: Transition) -> str:
    """The answer that hacked the paper's judge, about the last thing that the action names."""
    named = _THING.findall(row.action)
    return f"The observation will describe the contents of {named[-1] if named else 'the place'} in detail."
