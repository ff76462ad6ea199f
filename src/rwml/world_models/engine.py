"""The real world as a world model: an oracle, which every other one is measured against.

It replays a query's episode in a fresh environment and tries the action there. Nothing is learned, and nothing can be
better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rwml.core.types import Episode, PredictedState, Query, Task
from rwml.world_models.world_model import Materials, lacks, register, repeated
from rwml.worlds.answers import SoundEnv, a_text, answered, reason_of, splits_of, tasks_of
from rwml.worlds.base import World

if TYPE_CHECKING:
    import torch

FAILED, DIVERGED = "the world failed", "the replay differs"
"""Why the engine has no next state: the world raised an error, or it answers the history in other words."""


@register("engine")
class EngineWorldModel:
    """Predicts what the world itself does.

    episodes: those that queries come from, by id. A query of another episode is replayed from its task and its history,
    with seed 0: it needs its whole history, from the first step on.
    """

    name = "engine"

    def __init__(self, world: World, episodes: Iterable[Episode] = (), tasks: Iterable[Task] = ()) -> None:
        self._world = world
        self._episodes = {episode.id: episode for episode in episodes}
        self._tasks = {task.id: task for task in tasks} | {e.task.id: e.task for e in self._episodes.values()}

    @classmethod
    def make(cls, materials: Materials) -> EngineWorldModel:
        """RwmlError for a world without tasks, such as imported logs: it cannot be played."""
        world = materials.world
        tasks = [task for split in splits_of(world) for task in tasks_of(world, split)]
        if not tasks:
            raise lacks("engine", f"a world that can be played, and {world.name} has no tasks", "name another world")
        return cls(world, tasks=tasks)

    def predict(
        self, queries: Sequence[Query], num_samples: int, generator: torch.Generator
    ) -> list[list[PredictedState]]:
        """See `WorldModel.predict`. The reason of an answer without a next state is `FAILED` or `DIVERGED`."""
        return [self._predict_one(query, num_samples) for query in queries]

    def _predict_one(self, query: Query, num_samples: int) -> list[PredictedState]:
        try:
            next_state, reason = self._replayed(query)
        except Exception as error:  # whatever a world raises
            next_state, reason = None, f"{FAILED}: {reason_of(error)}"
        if next_state is not None:
            return repeated(query, next_state, num_samples)
        return [PredictedState(query.id, "", None, reason=reason)] * num_samples

    def _replayed(self, query: Query) -> tuple[str | None, str]:
        episode = self._episodes.get(query.episode)
        world = self._world
        env = SoundEnv(world.env)
        if episode is not None:
            task, seed = episode.task, episode.seed
            history = [text for step in episode.steps[: query.step] for text in (step.action, step.observation)]
        else:
            task, seed, history = _task_of(query, self._tasks), 0, list(query.history)
        env.reset(task, seed)
        for action, observation in zip(history[::2], history[1::2], strict=True):
            if env.step(action).observation != observation:
                return None, DIVERGED
        result = env.step(query.action)
        return answered("the target", lambda: world.target(result.kind, result.observation), a_text), ""


def _task_of(query: Query, tasks: Mapping[str, Task]) -> Task:
    if query.task not in tasks:
        raise KeyError(f"no task '{query.task}'")
    return tasks[query.task]
