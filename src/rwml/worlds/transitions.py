"""Cutting episodes into `(s_<=t, a_t, s_{t+1})` (RWML, step 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rwml.core.types import Episode, History, Step, Transition
from rwml.worlds.answers import WorldFailed, a_flag, a_text, answered
from rwml.worlds.base import World


def newest(exchanges: Sequence[str], history_steps: int | None) -> tuple[str, ...]:
    """The last `history_steps` pairs of action and observation (None = all), which a query shows."""
    return tuple(exchanges[-2 * history_steps :] if history_steps else exchanges)


def transitions_of(
    episode: Episode,
    world: World,
    split: str,
    history_steps: int | None = None,
    first: int = 0,
    failed: list[str] | None = None,
) -> Iterator[Transition]:
    """Rows of one episode from step `first` to its end, with the given `split`, each with the last `history_steps`
    exchanges (None = all). The rows share the episode's texts.

    The next state is what the world asks for (`World.target`); the history shows what was really observed. A step
    without a parsed action gives no row but stays in the history. A last step without an observation gives no row
    either, nor does a step that the world fails to describe: why is added to `failed`.
    """
    past: list[str] = []
    opening: str | None = None
    for number, step in enumerate(episode.steps):
        if number >= first and step.parsed and step.observation:
            try:
                opening = _opening(episode, world) if opening is None else opening
                target, verb, knowable = _described(world, step, opening, past)
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
                    verb=verb,
                    valid=step.valid,
                    knowable=knowable,
                )
            except WorldFailed as error:
                if failed is not None:
                    failed.append(error.reason)
        past += [step.action, step.observation]


def _opening(episode: Episode, world: World) -> str:
    task, opening = episode.task, episode.opening
    return answered("the world model's opening", lambda: world.world_model_opening(task, opening), a_text)


def _described(world: World, step: Step, opening: str, past: list[str]) -> tuple[str, str, bool]:
    """Target, verb and knowability of a step."""
    target = answered("the target", lambda: world.target(step.kind, step.observation), a_text)
    verb = answered("the verb", lambda: world.verb(step.action), a_text)
    return target, verb, answered("knowable", lambda: world.knowable(opening, past, step.action, target), a_flag)
