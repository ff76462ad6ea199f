"""Cutting episodes into `(s_<=t, a_t, s_{t+1})` (RWML, step 2)."""

from __future__ import annotations

from collections.abc import Iterator

from rwml.core.types import Episode, Transition
from rwml.worlds.base import World


def transitions_of(episode: Episode, world: World, split: str, history_steps: int = 0) -> Iterator[Transition]:
    """Rows of one episode, named as of `split`, each with the last `history_steps` exchanges (0 = all).

    A step without a parsed action has no action to ask about, but stays in the history.
    """
    told: list[str] = []
    for number, step in enumerate(episode.steps):
        if step.parsed:
            kept = told[-2 * history_steps :] if history_steps else told
            yield Transition(
                id=f"{episode.id}@{number}",
                episode=episode.id,
                task=episode.task.id,
                split=split,
                step=number,
                opening=episode.opening,
                history=tuple(kept),
                action=step.action,
                next_state=step.observation,
                kind=step.kind,
                verb=world.verb(step.action),
                valid=step.valid,
                knowable=world.knowable(episode.opening, told, step.action, step.observation),
            )
        told += [step.action, step.observation]
