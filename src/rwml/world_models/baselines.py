"""Two world models that need no model: what a trained one has to beat before its figures mean anything.

`copy_last` answers what the identical action brought last in the row's own history; `most_frequent` answers what the
same kind of action brought most often in training. Both are defined in `docs/evaluate.md`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from rwml.core.types import Transition
from rwml.worlds.base import World

COPY_LAST, MOST_FREQUENT = "copy_last", "most_frequent"
BASELINES = (COPY_LAST, MOST_FREQUENT)


def copy_last(world: World, transition: Transition) -> str | None:
    """The next state that the last identical action of the history brought, in the form that is asked for
    (`World.target`); None where the history does not hold that action.
    """
    told = transition.history
    for action, observation in zip(told[-2::-2], told[::-2], strict=True):
        if action == transition.action:
            # Equal actions are of one kind, so the row's own kind is that of the answer in the history.
            return world.target(transition.kind, observation)
    return None


class MostFrequent:
    """Answers with the most frequent next state of the action's verb in training; ties go to the first seen.

    A verb that training never saw is answered with the most frequent next state of its kind ("text", "tool",
    "user"), a kind that it never saw with None.
    """

    def __init__(self, training: Iterable[Transition]) -> None:
        of_verb: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        of_kind: dict[str, Counter[str]] = defaultdict(Counter)
        for row in training:
            of_verb[row.kind, row.verb][row.next_state] += 1
            of_kind[row.kind][row.next_state] += 1
        self._of_verb = {key: _first_most(counts) for key, counts in of_verb.items()}
        self._of_kind = {kind: _first_most(counts) for kind, counts in of_kind.items()}

    def answer(self, transition: Transition) -> str | None:
        """The next state that is guessed for this row."""
        found = self._of_verb.get((transition.kind, transition.verb))
        return self._of_kind.get(transition.kind) if found is None else found


def baseline_answers(
    world: World, training: Iterable[Transition], asked: Sequence[Transition]
) -> dict[str, list[str | None]]:
    """Answers of every baseline to `asked`, in order. training: the rows to count; other splits than `train` do not.

    Rows that the filter dropped count too: it drops what is easy, which is what a guess by frequency lives on.
    """
    frequent = MostFrequent(row for row in training if row.split == "train")
    return {
        COPY_LAST: [copy_last(world, row) for row in asked],
        MOST_FREQUENT: [frequent.answer(row) for row in asked],
    }


def _first_most(counts: Counter[str]) -> str:
    # A Counter keeps the order of first sight, and max takes the first of equals.
    return max(counts, key=counts.__getitem__)
