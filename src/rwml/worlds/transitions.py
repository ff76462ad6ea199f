"""Cutting episodes into `(s_<=t, a_t, s_{t+1})` (RWML, step 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rwml.core.types import Episode, History, Transition
from rwml.worlds.base import World


def newest(exchanges: Sequence[str], history_steps: int | None) -> tuple[str, ...]:
    """The last `history_steps` pairs of action and observation (None = all), which a query shows."""
    return tuple(exchanges[-2 * history_steps :] if history_steps else exchanges)


def transitions_of(
    episode: Episode, world: World, split: str, history_steps: int | None = None, first: int = 0
) -> Iterator[Transition]:
    """Rows of one episode from step `first` to its end, with the given `split`, each with the last `history_steps`
    exchanges (None = all). The rows share the episode's texts.

    The next state is what the world asks for (`World.target`); the history shows what was really observed. A step
    without a parsed action gives no row but stays in the history. A last step without an observation gives no row
    either.
    """
    past: list[str] = []
    opening = world.world_model_opening(episode.task, episode.opening)
    for number, step in enumerate(episode.steps):
        if number >= first and step.parsed and step.observation:
            target = world.target(step.kind, step.observation)
            yield Transition(
                id=f"{episode.id}@{number}",
                episode=episode.id,
                task=episode.task.id,
                split=split,
                step=number,
                opening=opening,
                history=History(past, max(0, len(past) - 2 * history_steps) if history_steps else 0, len(past)),
                action=step.action,
                next_state=target,
                kind=step.kind,
                verb=world.verb(step.action),
                valid=step.valid,
                knowable=world.knowable(opening, past, step.action, target),
            )
        past += [step.action, step.observation]
